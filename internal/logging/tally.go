// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"sync"
	"time"
)

const (
	// interval is how often equal lines are written.
	interval = time.Minute
	// maxDetails is of how many details a message is counted one by one within
	// the interval. The rest is counted together: addresses are cheap, and a
	// flood from many must fill neither the memory nor the log.
	maxDetails = 100
)

// Tally counts lines that are not written because an equal one was a moment ago, for
// instance those that loggers of [Throttle] leave out. It belongs to a configuration.
// It is safe for concurrent use, and never waits.
type Tally struct {
	most int        // details of a message within the interval
	mu   sync.Mutex // not held while a line is written
	// lines has, by message and then by detail, the lines that were written
	// within the last interval.
	lines   map[string]map[string]*repeated
	stopped bool // no timers any more
}

// repeated is a line and the equal ones after it.
type repeated struct {
	count int                         // of those since the last that was written
	mixed bool                        // of several details
	say   func(count int, mixed bool) // writes the last of them
	timer *time.Timer                 // nil after Stop
}

// NewTally returns a Tally that has counted nothing, for a hundred details of each
// message.
func NewTally() *Tally { return NewTallyOf(maxDetails) }

// NewTallyOf returns a Tally that counts one by one up to most details of each message
// within a minute.
func NewTallyOf(most int) *Tally {
	return &Tally{most: most, lines: make(map[string]map[string]*repeated)}
}

// Count reports whether a line is the first with its message and detail within a
// minute and is to be written now. Otherwise it is counted, and say is called with the
// count at the end of the minute, unless an equal line comes after it. mixed tells
// say that the count is of several details, of which there were too many. Callers
// must not be able to make up messages: their number has no limit here.
func (t *Tally) Count(message, detail string, say func(count int, mixed bool)) (first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	details := t.lines[message]
	if details == nil {
		details = make(map[string]*repeated)
		t.lines[message] = details
	}
	mixed := details[detail] == nil && len(details) >= t.most
	if mixed {
		detail = "" // that of a line without any, too
	}
	if line := details[detail]; line != nil {
		line.count++
		line.say = say
		return false
	}
	line := &repeated{mixed: mixed}
	details[detail] = line
	if !t.stopped {
		line.timer = time.AfterFunc(interval, func() { t.flush(message, detail) })
	}
	return true
}

// flush writes the line for those that were left out in the interval, and
// begins another interval. If there were none, the next line is a first one.
func (t *Tally) flush(message, detail string) {
	t.mu.Lock()
	details := t.lines[message]
	line := details[detail]
	if t.stopped || line == nil {
		t.mu.Unlock()
		return
	}
	count, say := line.count, line.say
	if line.count, line.say = 0, nil; count > 0 {
		line.timer.Reset(interval)
	} else if delete(details, detail); len(details) == 0 {
		delete(t.lines, message)
	}
	t.mu.Unlock()
	if count > 0 {
		say(count, line.mixed)
	}
}

// Stop writes all counts and ends the timers: the log may be closed afterwards.
// Requests that are still served may log; each message is then written once. A
// second call does nothing.
func (t *Tally) Stop() {
	t.mu.Lock()
	var rest []func()
	for _, details := range t.lines {
		for _, line := range details {
			if line.timer != nil {
				line.timer.Stop()
			}
			if count, say := line.count, line.say; count > 0 && !t.stopped {
				rest = append(rest, func() { say(count, line.mixed) })
			}
		}
	}
	t.stopped = true
	t.mu.Unlock()
	for _, say := range rest {
		say()
	}
}
