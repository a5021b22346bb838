// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// A hundred thousand accounts of an earlier release, all of which are used every two
// hours, are asked about one a second: each once, and none is forgotten. An account that
// authorises meanwhile need not wait for them.
func TestAHundredThousandAccounts(t *testing.T) {
	accounts := 100_000
	if testing.Short() {
		accounts = 20_000
	}
	play(t, func(w *world) {
		n := w.start()
		began := time.Now()
		rounds := 0
		for ; ; rounds++ {
			for i := range accounts {
				n.Used(numbered(i))
			}
			if rounds == 1 {
				w.set(func() { w.asked = nil })
				n.Granted(account, time.Now())
				time.Sleep(2 * time.Second)
				w.stored(n)
			}
			synctest.Wait()
			n.mu.Lock()
			waiting := len(n.queues[component].order)
			n.mu.Unlock()
			if waiting > maxWaiting {
				t.Fatalf("%d wait", waiting)
			}
			time.Sleep(2 * time.Hour)
			if waiting == 0 {
				break
			}
		}
		took := time.Since(began)
		if least, most := time.Duration(accounts)*askInterval, time.Duration(accounts)*askInterval*5/4+4*time.Hour; took < least-time.Minute || took > most {
			t.Errorf("it took %v, want %v to %v", took, least, most)
		}
		if stored := len(w.storage.Files()); stored != accounts+1 {
			t.Errorf("%d are stored", stored)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := maxAtOnce + 1; i < len(w.asked); i++ {
			if during := w.asked[i].Sub(w.asked[i-maxAtOnce-1]); during < askInterval-time.Millisecond {
				t.Fatalf("%d questions within %v", maxAtOnce+1, during)
			}
		}
		if got := len(w.asked); got > accounts+1 {
			t.Errorf("%d questions", got)
		}
	})
}

// An account that authorises is asked about before thousands that are merely used, whether
// or not it was used before; so is what WeChat has told already. If the question fails, a
// minute's work of others goes first, not all of it.
func TestAnAccountThatAuthorisesNeedNotWait(t *testing.T) {
	use := func(n *node) { n.Used(account) }
	grant := func(n *node) { n.Granted(account, time.Now()) }
	learn := func(n *node) { n.Learned(account, openapi.AuthorizerInfo{UserName: userName}, time.Now()) }
	for name, row := range map[string]struct {
		waiting  int
		tell     []func(n *node)
		failures int
		within   time.Duration
	}{
		"granted":                        {maxWaiting, []func(n *node){grant}, 0, 2 * time.Second},
		"used, then granted":             {maxWaiting / 2, []func(n *node){use, grant}, 0, 2 * time.Second},
		"granted, then used":             {maxWaiting / 2, []func(n *node){grant, use}, 0, 2 * time.Second},
		"used, then told by WeChat":      {maxWaiting / 2, []func(n *node){use, learn}, 0, 2 * time.Second},
		"the first questions fail":       {maxWaiting / 2, []func(n *node){grant}, 2, 3 * time.Minute},
		"they fail with a full queue":    {2 * maxWaiting, []func(n *node){grant}, 2, 3 * time.Minute},
		"alone":                          {0, []func(n *node){grant}, 0, 0},
		"alone, used afterwards":         {0, []func(n *node){grant, use}, 0, 0},
		"alone, told what it is at once": {0, []func(n *node){learn}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				n := w.start()
				ask, failures := n.ask, row.failures
				n.ask = func(ctx context.Context, who subject.Subject) error {
					if who == account && failures > 0 {
						failures--
						return errOutage
					}
					return ask(ctx, who)
				}
				for i := range row.waiting {
					n.Used(numbered(i))
				}
				for _, tell := range row.tell {
					tell(n)
				}
				time.Sleep(row.within)
				synctest.Wait()
				w.stored(n)
			})
		})
	}
}

// Many accounts that authorise at the same time are asked about ten at once, then one a
// second.
func TestManyAccountsAuthorise(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		for i := range 100 {
			n.Granted(numbered(i), time.Now())
		}
		w.questions(maxAtOnce + 5) // within 5 s
		time.Sleep(2 * time.Minute)
		w.questions(100 - maxAtOnce - 5)
	})
}

// While WeChat fails it is asked more and more rarely, whoever uses the account how often;
// when it is back, all are learnt.
func TestWeChatFails(t *testing.T) {
	for name, err := range map[string]error{
		"outage":        errOutage,
		"quota":         &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerInfo, Code: 45009},
		"white list":    &openapi.Refusal{Endpoint: openapi.EndpointAuthorizerInfo, Code: 61004},
		"the component": &openapi.Refusal{Endpoint: openapi.EndpointComponentToken, Code: 40013}, // no word of the account
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				n := w.start()
				w.fail = err
				for range 60 {
					for i := range 5 {
						n.Used(numbered(i))
						n.Account(w.Context(), component, numbered(i).Authorizer(), userName)
					}
					n.Granted(account, time.Now())
					time.Sleep(time.Minute)
				}
				w.mu.Lock()
				questions := len(w.asked)
				w.asked, w.fail = nil, nil
				w.mu.Unlock()
				if questions < 5 || questions > 20 {
					t.Errorf("%d questions in an hour", questions)
				}
				time.Sleep(maxPause * 3 / 2)
				w.questions(6)
				w.stored(n)
				if warnings := w.logs.FilterMessage("learning the profile of an account failed, will be tried again").Len(); warnings != 1 {
					t.Errorf("%d warnings", warnings)
				}
			})
		})
	}
}

// An account about which WeChat always fails keeps no other waiting, and is given up.
func TestOneAccountThatAlwaysFails(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		ask, poisoned := n.ask, numbered(0)
		var questions atomic.Int32
		n.ask = func(ctx context.Context, who subject.Subject) error {
			if who == poisoned {
				questions.Add(1)
				return errOutage
			}
			return ask(ctx, who)
		}
		for i := range 100 {
			n.Used(numbered(i))
		}
		time.Sleep(5 * time.Minute)
		w.questions(99)
		time.Sleep(24 * time.Hour)
		if got := questions.Load(); got != maxFailures {
			t.Errorf("%d questions", got)
		}
	})
}

// However long accounts have failed, one that authorises is asked about at once, and what
// WeChat has told already is stored at once.
func TestAccountsThatFailKeepNoNewOneWaiting(t *testing.T) {
	for _, failing := range []int{1, 3} {
		for name, tell := range map[string]func(n *node){
			"authorised":     func(n *node) { n.Granted(account, time.Now()) },
			"told by WeChat": func(n *node) { n.Learned(account, openapi.AuthorizerInfo{UserName: userName}, time.Now()) },
		} {
			t.Run(fmt.Sprintf("%d fail, %s", failing, name), func(t *testing.T) {
				play(t, func(w *world) {
					n := w.start()
					ask := n.ask
					n.ask = func(ctx context.Context, who subject.Subject) error {
						if who != account {
							return errOutage
						}
						return ask(ctx, who)
					}
					for i := range failing {
						n.Used(numbered(i))
					}
					time.Sleep(time.Hour)
					synctest.Wait()
					tell(n)
					synctest.Wait()
					w.stored(n)
				})
			})
		}
	}
}

// What WeChat has told of an account about which questions failed is taken at once, too.
func TestAnAnswerAfterFailures(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		w.fail = errOutage
		n.Granted(account, time.Now())
		time.Sleep(time.Hour)
		n.Learned(account, openapi.AuthorizerInfo{UserName: userName}, time.Now())
		synctest.Wait()
		w.stored(n)
	})
}

// While WeChat fails, an account that authorises costs one question beside those of the
// pauses.
func TestAccountsAuthoriseWhileWeChatFails(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		w.fail = errOutage
		for i := range 60 {
			n.Granted(numbered(i), time.Now())
			n.Granted(numbered(0), time.Now())
			time.Sleep(time.Minute)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if got := len(w.asked); got < 60 || got > 60+20 {
			t.Errorf("%d questions in an hour", got)
		}
	})
}

// A component that is no longer configured is not asked for.
func TestAComponentThatIsGone(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		n.Granted(subject.Of("wx0000000000000000", appid), time.Now())
		w.questions(0)
	})
}

// The end waits for what is in progress, begins nothing, and may be called again.
func TestClose(t *testing.T) {
	play(t, func(w *world) {
		n := w.start()
		w.takes = time.Hour
		n.Granted(account, time.Now())
		n.Used(numbered(1))
		time.Sleep(time.Second)
		began := time.Now()
		n.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		n.Granted(account, time.Now())
		n.Learned(account, openapi.AuthorizerInfo{UserName: userName}, time.Now())
		w.push(n, another, true, true)
		w.questions(1)
		if files := w.storage.Files(); len(files) != 0 {
			t.Errorf("%d files", len(files))
		}
	})
}
