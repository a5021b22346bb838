// SPDX-License-Identifier: Apache-2.0

// Package audit says in a log of its own who has called what, and what operators
// have done. What it is given must be fit for a log: facts, no text of WeChat's and
// no credential.
package audit

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/logging"
)

// Mode is of which calls there are lines. What operators do is always said.
type Mode uint8

// The modes.
const (
	Off      Mode = iota // of none
	Refusals             // of calls that were refused, one a minute of each kind
	Calls                // of all, a line each
)

// ParseMode returns the mode with this name: off, refusals or calls.
func ParseMode(name string) (mode Mode, ok bool) {
	switch name {
	case "off":
		return Off, true
	case "refusals":
		return Refusals, true
	case "calls":
		return Calls, true
	}
	return Off, false
}

// maxAccounts is of how many accounts the refusals of one kind are counted one by one
// within a minute. Those of further accounts are counted together.
const maxAccounts = 1000

// Log is the audit of one configuration. It is safe for concurrent use. It waits for
// the log's writer, as all logs of Caddy do.
type Log struct {
	log   *zap.Logger
	mode  Mode
	tally *logging.Tally // counts refusals
}

// New returns a Log that writes to a logger, whose name says what it is.
func New(log *zap.Logger, mode Mode) *Log {
	return &Log{log: log, mode: mode, tally: logging.NewTallyOf(maxAccounts)}
}

// Wants reports whether Call would make use of a call, see Call.Refused. Whoever has to
// allocate for a Call asks first.
func (l *Log) Wants(refused bool) bool {
	return l.mode == Calls || l.mode == Refusals && refused
}

// Call writes a line about a call. In the mode Refusals there is none if it was not
// refused; of equal refusals the first is written at once, and then the last of each
// minute with the field count. Refusals are equal if client, account, slug and WeChat's
// errcode are.
func (l *Log) Call(c Call) {
	refused := c.Refused()
	if !l.Wants(refused) {
		return
	}
	if refused && c.Slug == "" {
		c.Slug = WeChat
	}
	c.Method = c.Method[:min(len(c.Method), maxMethod)]
	if l.mode == Calls {
		l.log.Info("call", zap.Inline(&c))
		return
	}
	c.keepNothing()
	kind := fmt.Sprint(c.Client, " ", c.Slug, " ", c.WeChat)
	first := l.tally.Count(kind, c.Component+"/"+c.AppID, func(count int, mixed bool) {
		last := c
		if mixed {
			last.Component, last.AppID = "", ""
		}
		l.log.Info("call", zap.Inline(&last), zap.Int("count", count))
	})
	if first {
		l.log.Info("call", zap.Inline(&c))
	}
}

// Action writes a line about what an operator has done, in every mode.
func (l *Log) Action(a Action) { l.log.Info("action", zap.Inline(&a)) }

// Stop writes the counts of refusals: the log may be closed afterwards. Calls that are
// still in progress then are written as far as the log takes them, of equal refusals
// the first. A second call does nothing.
func (l *Log) Stop() { l.tally.Stop() }
