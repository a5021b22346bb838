// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// sparing is the core of a logger that says each warning once a minute. What
// fails for one call fails for the thousands beside it, and nobody finds the
// line that matters among as many. It tells warnings apart by their message.
type sparing struct {
	zapcore.Core
	said *sync.Map // message → *rate.Sometimes
}

func newSparing(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return sparing{core, new(sync.Map)}
	}))
}

// With implements zapcore.Core.
func (s sparing) With(fields []zap.Field) zapcore.Core {
	return sparing{s.Core.With(fields), s.said}
}

// Check implements zapcore.Core.
func (s sparing) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level < zapcore.WarnLevel {
		return s.Core.Check(entry, checked)
	}
	said, _ := s.said.LoadOrStore(entry.Message, &rate.Sometimes{Interval: time.Minute})
	said.(*rate.Sometimes).Do(func() { checked = s.Core.Check(entry, checked) })
	return checked
}
