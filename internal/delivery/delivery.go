// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
)

const (
	// settleGrace is how long the reply of one target waits for the answers of the
	// others, so that what they take within a few milliseconds need not be queued. Nobody
	// waits for a target that is late.
	settleGrace = 25 * time.Millisecond
	// keepTrying is how long a message that the storage does not take is offered to it
	// again. WeChat has given up by then.
	keepTrying = 2 * time.Minute
)

// Delivery is one message on its way to all targets that want it. Its repetitions
// share it.
type Delivery struct {
	desk    *Deliveries
	item    Item
	began   time.Time
	parts   []*part       // one for each target
	decided chan struct{} // closed when the answer for WeChat is certain
	ended   chan struct{} // closed when no attempt runs any more
	claim   claim

	mu      sync.Mutex // guards all below
	open    bool       // decided is not closed yet
	silent  bool       // silence is an answer: nobody waits for targets that do not reply
	running int        // attempts
	waiting int        // those of them that may still reply
	visits  int        // copies of the message that WeChat has sent to this node
	reply   []byte     // of the first target that has replied
	by      *Target    // this target
	took    time.Duration
	fetched bool // WeChat was given the reply, or needs none
	hurried bool // WeChat asks once for the reply, see Hurry
}

func newDelivery(desk *Deliveries, item Item, targets []*Target, now time.Time) *Delivery {
	d := &Delivery{
		desk: desk, item: item, began: now, decided: make(chan struct{}), ended: make(chan struct{}), open: true, claim: claim{turn: newTurn()},
		running: len(targets), visits: 1,
	}
	for _, target := range targets {
		d.parts = append(d.parts, &part{target: target, turn: newTurn(), ended: make(chan struct{})})
		if !target.NoReply {
			d.waiting++
		}
	}
	d.findLate()
	return d
}

// Decided is closed when the answer for WeChat is certain: a target has replied, or
// none will.
func (d *Delivery) Decided() <-chan struct{} { return d.decided }

// Visits returns how many copies of the message have come, this one included.
func (d *Delivery) Visits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.visits
}

// Hurry notes that WeChat asks once for the reply and not three times, because the
// account is no official one or has its messages not repeated. What is said of a reply
// that comes too late depends on it.
func (d *Delivery) Hurry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hurried = true
}

func (d *Delivery) visit() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.visits++
}

// run makes the delivery: all targets get the item at once.
func (d *Delivery) run(mayRepeat bool) {
	if mayRepeat && d.joinOther() {
		return
	}
	var attempts sync.WaitGroup
	for _, p := range d.parts {
		attempts.Go(func() {
			direct := !p.queued.Load() // else another node had it, and has ended
			if direct && p.late {      // when another one replies, nobody has to wait for the storage
				attempts.Go(func() { d.queue(p, d.began.Add(directTimeout)) })
			}
			d.attempt(p, direct)
		})
	}
	slow := time.AfterFunc(claimAfter, d.slow)
	attempts.Wait()
	slow.Stop()
	d.finish()
}

// slow is called when the delivery has run for claimAfter: from now on a repetition
// may come to another node.
func (d *Delivery) slow() {
	d.mu.Lock()
	d.silent = true
	if d.waiting == 0 {
		d.decide()
	}
	d.mu.Unlock()
	d.writeClaim()
}

// attempt makes the direct attempt for one target, if there is to be one, and queues what
// it does not take.
func (d *Delivery) attempt(p *part, direct bool) {
	defer close(p.ended)
	result, made := Result{}, false
	if direct {
		result, made = d.desk.send(p.target, d.item)
	}
	switch {
	case !made:
		d.queue(p, time.Now())
	case result.Err != nil:
		d.log(p.target).Warn("message not delivered, it waits in the queue", zap.Error(result.Err))
		failure := result.Err.Error()
		p.failure.Store(&failure) // for operators, who see it in the queue
		d.queue(p, time.Now().Add(max(minDelay, min(result.RetryAfter, maxHoldOff))))
	default:
		d.take(p, result)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running--
	if !p.target.NoReply {
		d.waiting--
	}
	if d.running == 0 || d.waiting == 0 && d.silent {
		d.decide()
	}
}

// take notes that a target has taken the item, and its reply. The reply does not wait for
// the storage.
func (d *Delivery) take(p *part, result Result) {
	p.taken.Store(true)
	d.answer(p, result)
	d.withdraw(p)
}

// answer notes what a target has answered. The first reply is that of the delivery.
func (d *Delivery) answer(p *part, result Result) {
	metrics.Delivered(p.target.Client, p.target.Name, string(d.item.Kind), metrics.Taken)
	if result.Unusable != nil {
		d.log(p.target).Warn("the answer of the application is no reply, nothing is sent to the follower", zap.Error(result.Unusable),
			zap.String("remedy", "answer success, or one reply in the form of WeChat's passive replies"))
	}
	if result.Reply == nil || p.target.NoReply {
		return
	}
	d.mu.Lock()
	first := d.by
	if first == nil {
		d.reply, d.by, d.took = result.Reply, p.target, time.Since(d.began)
		d.decide()
	}
	d.mu.Unlock()
	if first != nil && d.desk.sayOnce(first.Client+"/"+first.Name+" "+p.target.Client+"/"+p.target.Name, time.Now()) {
		d.log(p.target).Warn("two applications reply to the same message, the follower gets the first reply only",
			zap.String("first_client", first.Client), zap.String("first_target", first.Name),
			zap.String("remedy", "set reply off in the deliver block of the one that should not reply"))
	}
}

// decide closes decided. The caller holds mu.
func (d *Delivery) decide() {
	if d.open {
		d.open = false
		close(d.decided)
	}
}

// finish is called when no attempt runs any more.
func (d *Delivery) finish() {
	life := silenceLife
	if d.hasReply() {
		life = replyLife
	}
	d.end(life)
	d.answerClaim()
}

// end lets all know that nothing more will come. The delivery is kept for repetitions
// that come within life.
func (d *Delivery) end(life time.Duration) {
	d.mu.Lock()
	d.decide()
	d.mu.Unlock()
	close(d.ended)
	time.AfterFunc(life, func() { d.desk.forget(d) })
}

// findLate marks the parts whose targets take nothing at the moment, while others do. If
// all targets are as slow, none is late.
func (d *Delivery) findLate() {
	if len(d.parts) < 2 {
		return
	}
	silences := make([]time.Duration, len(d.parts))
	for i, p := range d.parts {
		silences[i] = d.desk.courier.silence(p.target)
	}
	usual := slices.Min(silences)
	for i, p := range d.parts {
		p.late = silences[i] > usual+lateAfter
	}
}

func (d *Delivery) hasReply() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reply != nil
}

// Settle makes sure that each target has taken the item or has it in its queue, and
// returns the reply, in clear text, or nil. It must be called before WeChat is
// answered. What is still being tried is queued first, to be tried again when the
// attempt has ended. The error is that of the storage; the push must not be
// acknowledged then.
func (d *Delivery) Settle(ctx context.Context) ([]byte, error) {
	grace, cancel := context.WithTimeout(ctx, settleGrace)
	defer cancel()
	if !d.hasReply() { // time has been given
		cancel()
	}
	due := d.began.Add(directTimeout)
	errs := make([]error, len(d.parts))
	var queueing sync.WaitGroup
	for i, p := range d.parts {
		queueing.Go(func() {
			if !p.late {
				p.wait(grace)
			}
			errs[i] = d.queueUntil(ctx, p, due)
		})
	}
	queueing.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched = d.fetched || d.reply != nil
	return d.reply, nil
}

// warnOfLostReply is called when no repetition can fetch the reply any more.
func (d *Delivery) warnOfLostReply() {
	d.mu.Lock()
	lost, by, took, hurried := d.reply != nil && !d.fetched, d.by, d.took, d.hurried
	d.mu.Unlock()
	if !lost || by == nil {
		return
	}
	remedy := "answer within 14 seconds; or answer success at once, and send the reply by /cgi-bin/message/custom/send"
	if hurried {
		remedy = "answer success at once, and send the reply by /cgi-bin/message/custom/send; or answer within 4.5 seconds, but if the account is no official one, WeChat takes no reply but transfer_customer_service"
	}
	d.log(by).Warn("a reply came too late, WeChat does not ask for it any more", zap.Duration("took", took), zap.String("remedy", remedy))
}
