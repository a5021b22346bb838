// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
)

const (
	// downAfter is the number of failures in a row, whatever account they are
	// about, after which the target counts as down. One failure can have its
	// reason in the item.
	downAfter = 3
	// hungAfter is the number of attempts in a row without an answer after which
	// new messages are queued at once.
	hungAfter = 3
	// lateAfter is by how much longer a target must have taken nothing than the other
	// targets of a message to be late: nobody waits for it before the item is queued.
	lateAfter = 100 * time.Millisecond
	// maxDirect is the number of direct attempts that may run at a time.
	maxDirect = 256
	// A target that is down gets one attempt at a time from the queue. The delay
	// between two is between 1 s and 30 s: backoff.Jitter adds or takes a quarter.
	minProbe = 4 * time.Second / 3
	maxProbe = 24 * time.Second
)

// health is what the attempts have shown about one target. It survives reloads. It
// is safe for concurrent use; nothing waits under its mutex.
type health struct {
	mu      sync.Mutex
	direct  int                 // direct attempts that are running
	since   time.Time           // when the first of them began, or the last success
	hung    int                 // attempts in a row that got no answer
	failed  int                 // attempts in a row that failed
	probes  int                 // of them, those since the target is down
	probeAt time.Time           // no attempt from the queue before, while the target is down
	gone    string              // the URL that has answered 410; "" if none has
	failing map[itemID]struct{} // the items in the queue that have failed in this row
}

// begin reports whether a new message may be tried directly.
func (h *health) begin(t *Target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.paused(t) || h.direct >= maxDirect || h.hung >= hungAfter && h.direct > 0 {
		return false
	}
	if h.direct == 0 {
		h.since = time.Now()
	}
	h.direct++
	return true
}

// ended ends what begin has allowed.
func (h *health) ended() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.direct--
}

// silence returns how long the target has taken nothing, although direct attempts are
// running; 0 if none are.
func (h *health) silence() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.direct == 0 {
		return 0
	}
	return time.Since(h.since)
}

// paused reports whether the target gets nothing because it has answered 410. The
// caller holds mu.
func (h *health) paused(t *Target) bool {
	if h.gone != "" && h.gone != t.urlText() {
		h.gone = ""
	}
	return h.gone != ""
}

// isPaused is paused for a caller that does not hold mu.
func (h *health) isPaused(t *Target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.paused(t)
}

// limit returns how many attempts from the queue may run at a time, and for how
// long it is none.
func (h *health) limit(t *Target, now time.Time) (int, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.paused(t):
		return 0, pollInterval
	case h.failed < downAfter:
		return t.concurrency(), 0
	case now.Before(h.probeAt):
		return 0, h.probeAt.Sub(now)
	}
	return 1, 0
}

// stuck reports whether the target is down or paused.
func (h *health) stuck(t *Target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.paused(t) || h.failed >= downAfter
}

// failure notes a failed attempt. id is that of an item in the queue, zero for a
// direct attempt. An attempt that is doubtful tells nothing about whether the
// target is down. It reports whether the target has been paused by it.
func (h *health) failure(t *Target, r Result, id itemID, doubtful bool) (paused bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hung++; !r.Hung {
		h.hung = 0
	}
	if r.Gone {
		paused = !h.paused(t)
		h.gone = t.urlText()
		return paused
	}
	if doubtful {
		return false
	}
	h.failed++
	if id != (itemID{}) {
		if h.failing == nil {
			h.failing = make(map[itemID]struct{})
		}
		h.failing[id] = struct{}{}
	}
	if now := time.Now(); h.failed >= downAfter && !now.Before(h.probeAt) { // else it began before the last of these
		h.probes++
		h.probeAt = now.Add(backoff.Jitter(backoff.Delay(h.probes, minProbe, maxProbe)))
	}
	return false
}

// success notes an attempt that was taken. It returns the items that failed while
// the target was down, which may be tried again at once; none if it was not down.
func (h *health) success() []itemID {
	h.mu.Lock()
	defer h.mu.Unlock()
	var recovered []itemID
	if h.failed >= downAfter {
		recovered = slices.Collect(maps.Keys(h.failing))
	}
	h.since, h.hung, h.failed, h.probes, h.probeAt = time.Now(), 0, 0, 0, time.Time{}
	clear(h.failing)
	return recovered
}

// resume ends a pause, and the delay between two attempts at a target that is
// down. An operator wants it.
func (h *health) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone, h.probeAt = "", time.Time{}
}

// urlText returns the URL of a target as a text, for comparison. It may contain
// credentials.
func (t *Target) urlText() string {
	if t.URL == nil {
		return ""
	}
	return t.URL.String()
}

// busy reports whether direct attempts are running.
func (h *health) busy() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.direct > 0
}
