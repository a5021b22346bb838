// SPDX-License-Identifier: Apache-2.0

package push

import (
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// repeatTimeout is how long after a hang-up the repetition of a message may come.
	// WeChat sends it at once.
	repeatTimeout = 10 * time.Second
	// maxMissed is how many hang-ups in a row without a repetition show that WeChat,
	// or what stands between it and the gateway, does not repeat messages.
	maxMissed = 2
	// hurryTime is how long the messages of such an account are answered in time.
	hurryTime = time.Hour
)

// Habits remembers for which accounts WeChat does not repeat a message after it has
// hung up. To hold such a message until then would lose it. It is safe for concurrent
// use and never waits. The gateway has one, which survives reloads.
type Habits struct {
	mu       sync.Mutex
	accounts map[subject.Subject]habit // only those with a hang-up that was not repeated
}

type habit struct {
	missed int       // hang-ups in a row without a repetition
	hurry  time.Time // until then messages are answered in time
}

// NewHabits returns Habits that know nothing yet.
func NewHabits() *Habits { return &Habits{accounts: make(map[subject.Subject]habit)} }

// hurried reports whether the messages of an account must be answered in time.
func (h *Habits) hurried(who subject.Subject, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.accounts[who].hurry)
}

// repeated notes that WeChat has repeated a message of the account.
func (h *Habits) repeated(who subject.Subject) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.accounts, who)
}

// missed notes that WeChat has hung up and not repeated the message. It reports
// whether the messages of the account must be answered in time from now on.
func (h *Habits) missed(who subject.Subject, now time.Time) (hurry bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.accounts[who].hurry) {
		return false // known
	}
	missed := h.accounts[who].missed + 1
	if missed < maxMissed {
		h.accounts[who] = habit{missed: missed}
		return false
	}
	h.accounts[who] = habit{hurry: now.Add(hurryTime)}
	return true
}
