// SPDX-License-Identifier: Apache-2.0

package publishtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// lookInterval is how often it is looked for codes that other nodes have taken, and
	// may have left.
	lookInterval = time.Minute
	// relookInterval is the same after the storage has failed.
	relookInterval = time.Second
	// sendTimeout bounds one attempt, in which WeChat is asked twice and a token may have
	// to be renewed. Together with noteTimeout it is less than a lock is left to its owner,
	// see vault.LockPublishTest.
	sendTimeout = 40 * time.Second
	// noteTimeout is the time to note that a code was sent back.
	noteTimeout = 5 * time.Second
	// storeInterval is the time between two attempts to store a code, while WeChat waits.
	storeInterval = 500 * time.Millisecond
	// maxRetryDelay is the longest time between two attempts.
	maxRetryDelay = 30 * time.Second
	// giveUpAfter is how long it is tried to send a code back. The test has ended long
	// before, and codes are said to live that long.
	giveUpAfter = 10 * time.Minute
)

// Tester answers the test. It survives reloads and is safe for concurrent use.
type Tester struct {
	settings func() Settings
	keeper   *tokens.Keeper

	wake   chan struct{} // capacity 1; gets an element when a code is stored
	atWork sync.Map      // vault.PublishTestKey → a goroutine of this node sends its code back
	work   sync.WaitGroup
	life   context.Context // ends with Finish
	end    context.CancelFunc
}

// New returns a Tester that asks current for the configuration in force whenever it
// needs it.
func New(current func() Settings, keeper *tokens.Keeper) *Tester {
	t := &Tester{settings: current, keeper: keeper, wake: make(chan struct{}, 1)}
	t.life, t.end = context.WithCancel(context.Background())
	return t
}

// take stores a code and has it sent back. If the storage fails it tries again until ctx
// ends: a message that is refused is repeated at once, and three times in all. A repetition
// is stored as well; whoever comes to it finds that the code was sent back.
func (t *Tester) take(ctx context.Context, m Message, openid, code string) error {
	key := vault.PublishTestKey{Component: m.Component, ID: m.ID, Received: time.Now()}
	test := vault.PublishTest{AppID: m.AppID, OpenID: openid, Code: secret.New(code)}
	for {
		err := t.settings().Vault.StorePublishTest(ctx, key, test)
		if err == nil {
			break
		}
		if !backoff.Wait(ctx, storeInterval) {
			return err
		}
	}
	select {
	case t.wake <- struct{}{}:
	default: // it looks soon anyway
	}
	return nil
}

// Run sends codes back in the background until ctx ends: those that Answer takes, and
// those that another node, or this one before a restart, has left. It returns at once.
// Attempts that have begun go on until Finish.
func (t *Tester) Run(ctx context.Context) {
	t.work.Go(func() {
		for ctx.Err() == nil && t.life.Err() == nil {
			next := lookInterval
			if !t.look(ctx) {
				next = relookInterval
			}
			select {
			case <-t.wake:
			case <-time.After(next):
			case <-ctx.Done():
			case <-t.life.Done():
			}
		}
	})
}

// Finish is called at the end of the process, after the end of Run's ctx and before the
// storage is closed. It waits until the attempts in progress have ended, and at the end
// of ctx interrupts them. What is not sent back then is, after the next start.
func (t *Tester) Finish(ctx context.Context) {
	defer context.AfterFunc(ctx, t.end)()
	t.work.Wait()
	t.end()
}

// look starts to send back each code that is stored, unless this node is at it. It
// reports false if the storage has failed.
func (t *Tester) look(ctx context.Context) (ok bool) {
	ok = true
	for _, component := range t.settings().Components {
		keys, err := t.settings().Vault.PublishTests(ctx, component)
		ok = ok && err == nil
		for _, key := range keys {
			if _, at := t.atWork.LoadOrStore(key, true); at {
				continue
			}
			t.work.Go(func() {
				defer t.atWork.Delete(key)
				t.finish(ctx, key)
			})
		}
	}
	return ok
}

// finish sends a code back. It tries again, with growing delays, until that is done or of
// no use any more, or ctx ends.
func (t *Tester) finish(ctx context.Context, key vault.PublishTestKey) {
	sent := false
	for failures := 1; ; failures++ {
		err := t.try(ctx, key, &sent)
		if err == nil || ctx.Err() != nil {
			return
		}
		if failures == 1 {
			t.log(key.Component).Warn("the code of WeChat's publish test could not be sent back, will be tried again", zap.Error(err), openapi.RemedyField(err))
		}
		if !backoff.Wait(ctx, backoff.Jitter(backoff.Delay(failures, time.Second, maxRetryDelay))) {
			return
		}
	}
}

// try makes one attempt to send a code back, unless that was done or comes too late, and
// deletes the code then. It holds the lock of the message, so that one node at a time does
// so; it waits for the lock as long as ctx lasts. sent tells, from one attempt of this node
// to the next, that only the note of it is missing. The error is that of the storage or of
// WeChat.
func (t *Tester) try(ctx context.Context, key vault.PublishTestKey, sent *bool) error {
	records := t.settings().Vault
	unlock, err := records.LockPublishTest(ctx, key)
	if err != nil {
		return err
	}
	defer unlock() // if that fails, the lock expires by itself
	ctx, cancel := context.WithTimeout(t.life, sendTimeout)
	defer cancel()
	tooOld := time.Since(key.Received) >= giveUpAfter
	test, err := records.LoadPublishTest(ctx, key)
	unreadable := new(vault.Unreadable)
	switch {
	case errors.Is(err, vault.ErrNotFound): // another node has done it
		return nil
	case errors.As(err, &unreadable) && !tooOld: // it is left to a node that has its seal key
		return nil
	case err != nil && !tooOld, errors.Is(err, vault.ErrUnavailable):
		return err
	}
	noted, err := t.wasSent(ctx, key)
	switch {
	case err != nil:
		return err
	case noted:
	case tooOld && !*sent:
		t.log(key.Component).Error("the code of WeChat's publish test was not sent back, given up", zap.String("authorizer", test.AppID),
			zap.String("remedy", "see the warnings before this line, and start the test again in the WeChat Open Platform console (全网发布)"))
	default:
		if err := t.send(ctx, key, test, sent); err != nil {
			return err
		}
	}
	return records.RemovePublishTest(ctx, key)
}

// wasSent reports whether the code of a message was sent back, by whatever node.
func (t *Tester) wasSent(ctx context.Context, key vault.PublishTestKey) (bool, error) {
	_, claim, err := t.settings().Vault.FindClaim(ctx, key.Component, key.ID, time.Now())
	if errors.Is(err, vault.ErrNotFound) {
		return false, nil
	}
	return err == nil && !claim.Answered.IsZero(), err
}

// send exchanges a code, sends it back with the token of the account, and notes that. The
// code may be that of the account's authorization event, which the gateway exchanges as
// soon as the event comes: so a code that is spent or expired is no obstacle, there is a
// token then.
func (t *Tester) send(ctx context.Context, key vault.PublishTestKey, test vault.PublishTest, sent *bool) error {
	if !*sent {
		if _, err := t.keeper.Exchange(ctx, key.Component, test.Code); err != nil && openapi.KindOf(err) != openapi.CodeSpent {
			return err
		}
		if err := t.keeper.ReturnCode(ctx, subject.Of(key.Component, test.AppID), test.OpenID, test.Code); err != nil {
			return err
		}
		*sent = true
		t.log(key.Component).Info("code of WeChat's publish test sent back", zap.String("authorizer", test.AppID))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout) // also at the end of the process
	defer cancel()
	now := time.Now()
	return t.settings().Vault.StoreClaim(ctx, vault.ClaimKey{Component: key.Component, ID: key.ID, Made: now}, vault.Claim{Until: now, Answered: now})
}

// log returns the logger of the configuration in force.
func (t *Tester) log(component string) *zap.Logger {
	return t.settings().Log.With(zap.String("component", component))
}
