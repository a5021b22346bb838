// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// directTimeout is the time of the first attempt to deliver a message, which is
	// made at once. WeChat asks three times, for five seconds each.
	directTimeout = 20 * time.Second
	// claimAfter is how long a delivery may run without a claim in the storage.
	// WeChat repeats a message after five seconds at the earliest.
	claimAfter = 3 * time.Second
	// replyLife is how long a repetition gets the reply, counted from the end of the
	// delivery. A later one is only acknowledged.
	replyLife = time.Minute
	// silenceLife is the same for a delivery without a reply. It is longer than the time
	// between two repetitions of WeChat's.
	silenceLife = 15 * time.Second
	// seenLife is how long a message is remembered: as long as WeChat's pushes are
	// believed.
	seenLife = 20 * time.Minute
)

// Deliveries delivers messages to applications at once, because a follower is waiting,
// and each message once: a repetition joins the delivery in progress, or gets the
// reply of the one that has ended. What an application does not take goes to its
// queue.
//
// It remembers messages in memory. Only a delivery that runs for more than claimAfter
// is written to the storage, so that repetitions find it on every node and after a
// restart. It is safe for concurrent use. The gateway has one, which survives reloads.
type Deliveries struct {
	courier  *Courier
	settings func() Settings

	life context.Context // ends with stop; the attempts in progress end with it
	stop context.CancelFunc

	writers chan struct{} // holds an element for each claim that is being stored

	mu       sync.Mutex // guards all below
	active   int        // goroutines of deliveries
	idle     *sync.Cond // of mu; signalled when active is 0
	running  map[string]*Delivery
	seen     Seen                 // ids of messages, also of those in running
	closing  bool                 // nothing is sent directly any more
	pairs    map[string]time.Time // when it was said that two targets reply to the same messages
	attempts sync.WaitGroup       // direct attempts; used by Finish
}

// NewDeliveries returns Deliveries that queue what is not taken with the courier.
func NewDeliveries(courier *Courier) *Deliveries {
	ds := &Deliveries{courier: courier, settings: courier.settings, running: make(map[string]*Delivery), pairs: make(map[string]time.Time), writers: make(chan struct{}, maxWriters)}
	ds.idle = sync.NewCond(&ds.mu)
	ds.life, ds.stop = context.WithCancel(context.Background())
	return ds
}

// Open begins the delivery of a message to the targets, or joins the one that is in
// progress or has ended a short time ago. It returns nil if there is nothing to do but
// to acknowledge: the message was delivered before, or it came for another account.
// Open does not wait.
//
// mayRepeat says that the message is old enough to be a repetition of WeChat's; then
// the storage is asked first whether another node has it.
func (ds *Deliveries) Open(item Item, targets []*Target, mayRepeat bool) *Delivery {
	now := time.Now()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d := ds.running[item.ID]; d != nil {
		if d.item.AppID != item.AppID {
			return nil // somebody sends a captured push to the path of another account
		}
		d.visit()
		return d
	}
	if !ds.seen.Add(item.ID, now) {
		return nil
	}
	d := newDelivery(ds, item, targets, now)
	ds.running[item.ID] = d
	ds.spawn(func() { d.run(mayRepeat) })
	return d
}

// spawn runs do on a goroutine for which Finish waits. The caller holds mu.
func (ds *Deliveries) spawn(do func()) {
	ds.active++
	go func() {
		do()
		ds.mu.Lock()
		defer ds.mu.Unlock()
		if ds.active--; ds.active == 0 {
			ds.idle.Broadcast()
		}
	}()
}

// forget ends the time in which repetitions of a message get its reply.
func (ds *Deliveries) forget(d *Delivery) {
	ds.mu.Lock()
	delete(ds.running, d.item.ID)
	ds.mu.Unlock()
	d.warnOfLostReply()
}

// send makes the direct attempt for one target. It reports false if none is made now:
// because the courier says so, or at the end of the process.
func (ds *Deliveries) send(t *Target, item Item) (Result, bool) {
	ds.mu.Lock()
	if ds.closing || !ds.courier.Begin(t) {
		ds.mu.Unlock()
		return Result{}, false
	}
	ds.attempts.Add(1)
	ds.mu.Unlock()
	defer ds.attempts.Done()
	ctx, cancel := context.WithTimeout(ds.life, directTimeout)
	defer cancel()
	result := t.Send(ctx, item)
	ds.courier.Ended(t, result)
	return result, true
}

// Finish is called at the end of the process, before the storage is closed. It waits
// until the attempts in progress have ended, and at the end of ctx interrupts them.
// What is not taken then is queued. A message that comes later is queued at once.
func (ds *Deliveries) Finish(ctx context.Context) {
	ds.mu.Lock()
	ds.closing = true
	ds.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		ds.attempts.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	ds.stop()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for ds.active > 0 {
		ds.idle.Wait()
	}
}

// sayOnce reports whether it is a day since this was said last.
func (ds *Deliveries) sayOnce(what string, now time.Time) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if now.Sub(ds.pairs[what]) < 24*time.Hour {
		return false
	}
	ds.pairs[what] = now
	return true
}

// log returns the logger of the current configuration, with the names of the message.
func (ds *Deliveries) log(item Item) *zap.Logger {
	return ds.settings().Log.With(zap.String("component", item.Component), zap.String("authorizer", item.AppID))
}

// log returns the logger with the names of the message and the target.
func (d *Delivery) log(t *Target) *zap.Logger {
	return d.desk.log(d.item).With(zap.String("client", t.Client), zap.String("target", t.Name))
}
