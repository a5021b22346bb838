// SPDX-License-Identifier: Apache-2.0

// Package logging keeps logs readable, by [Throttle], and without secrets, by
// [RedactStandardLog].
package logging

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// throttled is the core of a logger that writes each warning at most once a
// minute. A failure of WeChat or of the storage makes thousands of calls fail
// at the same time; nobody would find another warning among as many lines. Two
// warnings are the same if their messages are equal, whatever their fields. So
// a message must be one of a small number of constants: each one stays in the
// map for ever.
type throttled struct {
	zapcore.Core
	said *sync.Map // message → *rate.Sometimes; shared by all cores that With has made
}

// Throttle returns a logger that writes each message of level warning or higher
// at most once a minute. Lower levels are not limited. The logger is safe for
// concurrent use. The loggers that its method With returns share the limits.
func Throttle(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return throttled{core, new(sync.Map)}
	}))
}

// With returns a core with more fields and the same limits. It implements
// zapcore.Core.
func (s throttled) With(fields []zap.Field) zapcore.Core {
	return throttled{s.Core.With(fields), s.said}
}

// Check adds the core to checked if the entry is to be written. It implements
// zapcore.Core.
func (s throttled) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level < zapcore.WarnLevel {
		return s.Core.Check(entry, checked)
	}
	said, _ := s.said.LoadOrStore(entry.Message, &rate.Sometimes{Interval: time.Minute})
	said.(*rate.Sometimes).Do(func() { checked = s.Core.Check(entry, checked) })
	return checked
}
