// SPDX-License-Identifier: Apache-2.0

// Package logging keeps logs readable, by [Throttle], and without secrets, by
// [RedactStandardLog], [RedactAddress] and [BlankTokens].
package logging

import (
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// throttled is the core of a logger that writes of many equal warnings the
// first at once, and then one a minute with their count. A failure of WeChat or
// of the storage makes thousands of calls fail at the same time, and a stranger
// can send as many requests as he likes: nobody would find another warning among
// as many lines.
//
// Two warnings are equal if their message is the same and the texts among the
// fields that With has added; the fields of the line itself do not count. So a
// message must be one of a small number of constants, and what a stranger can
// choose belongs into With only where each value is worth a line.
type throttled struct {
	zapcore.Core
	tally  *Tally // shared by all cores that With has made
	detail string // the texts that With has added
}

// Throttle returns a logger that writes of equal messages of level warning or
// higher one a minute: the first as it is, the following ones as the last of
// them with the field count. All that are left out are written at level DEBUG.
// Lower levels are not limited. The logger is safe for concurrent use. The
// limits are those of the tally, also of other loggers.
func Throttle(log *zap.Logger, tally *Tally) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return throttled{Core: core, tally: tally}
	}))
}

// With returns a core with more fields and the same limits. It implements
// zapcore.Core.
func (s throttled) With(fields []zap.Field) zapcore.Core {
	var detail strings.Builder
	detail.WriteString(s.detail)
	for _, field := range fields {
		if field.Type == zapcore.StringType {
			detail.WriteString(field.String + " ")
		}
	}
	return throttled{s.Core.With(fields), s.tally, detail.String()}
}

// Check adds the core to checked if the entry may be written. It implements
// zapcore.Core.
func (s throttled) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if entry.Level < zapcore.WarnLevel {
		return s.Core.Check(entry, checked)
	}
	if s.Enabled(entry.Level) {
		return checked.AddCore(entry, s)
	}
	return checked
}

// Write writes the entry, or counts it and writes it at level DEBUG. It
// implements zapcore.Core.
func (s throttled) Write(entry zapcore.Entry, fields []zap.Field) error {
	first := s.tally.Count(entry.Message, s.detail, func(count int, _ bool) {
		last := entry
		last.Time = time.Now()
		s.write(last, append(fields[:len(fields):len(fields)], zap.Int("count", count)))
	})
	written := entry
	if !first {
		written.Level = zapcore.DebugLevel
	}
	s.write(written, fields)
	return nil
}

// write asks the core below whether it takes the entry, which Write of a core
// does not: it may be several, of which each takes other levels and loggers.
func (s throttled) write(entry zapcore.Entry, fields []zap.Field) {
	if checked := s.Core.Check(entry, nil); checked != nil {
		checked.Write(fields...)
	}
}
