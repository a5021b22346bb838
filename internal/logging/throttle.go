// SPDX-License-Identifier: Apache-2.0

// Package logging keeps logs readable and free of secrets.
package logging

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// throttled is the core of a logger that says each warning once a minute. What
// fails for one call fails for the thousands beside it, and nobody finds the
// line that matters among as many. It tells warnings apart by their message.
type throttled struct {
	zapcore.Core
	said *sync.Map // message → *rate.Sometimes
}

// Throttle returns a logger that says each warning, and whatever is worse, once a
// minute. It is safe for concurrent use, and so is what With makes of it.
func Throttle(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return throttled{core, new(sync.Map)}
	}))
}

// With implements zapcore.Core.
func (s throttled) With(fields []zap.Field) zapcore.Core {
	return throttled{s.Core.With(fields), s.said}
}

// Check implements zapcore.Core.
func (s throttled) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level < zapcore.WarnLevel {
		return s.Core.Check(entry, checked)
	}
	said, _ := s.said.LoadOrStore(entry.Message, &rate.Sometimes{Interval: time.Minute})
	said.(*rate.Sometimes).Do(func() { checked = s.Core.Check(entry, checked) })
	return checked
}
