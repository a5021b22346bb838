// SPDX-License-Identifier: Apache-2.0

package publishtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The code of the message may be that of the authorization event or another one, and
// either may come first: it is exchanged once, and goes back once.
func TestCodeOfTheEventAndOfTheMessage(t *testing.T) {
	for name, test := range map[string]func(w *world) (code string){
		"the same code, the event first": func(w *world) string {
			code := w.authorize(official)
			w.wantEmpty(w.asks(official, code))
			return code
		},
		"the same code, the message first": func(w *world) string {
			w.quiet()
			code := w.authorize(official)
			w.wantEmpty(w.asks(official, code))
			w.must(w.weixin.PushAuthorized(w.Context(), official))
			return code
		},
		"the same code, both at once": func(w *world) string {
			w.quiet()
			code := w.authorize(official)
			var both sync.WaitGroup
			both.Go(func() { w.wantEmpty(w.asks(official, code)) })
			both.Go(func() { w.must(w.weixin.PushAuthorized(w.Context(), official)) })
			both.Wait()
			return code
		},
		"another code": func(w *world) string {
			w.weixin.SetSwitches(sandbox.Switches{DifferentCodes: true})
			code := w.authorize(official)
			w.wantEmpty(w.asks(official, code))
			return code
		},
		"the same code, the event came to another node": func(w *world) string {
			code := w.authorize(official)
			p := w.asks(official, code)
			p.To = to(w.node())
			w.wantEmpty(p)
			return code
		},
		"a code that was never one": func(w *world) string {
			w.authorize(official)
			w.wantEmpty(w.asks(official, "queryauthcode@@@unknown"))
			return "queryauthcode@@@unknown"
		},
		"a code that has expired": func(w *world) string {
			code := w.authorize(official)
			_, err := w.weixin.UpdateAuthorized(w.Context(), official)
			w.must(err)
			time.Sleep(2 * time.Hour) // and so has the token
			w.must(w.weixin.PushTicket(w.Context()))
			w.wantEmpty(w.asks(official, code))
			return code
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				code := test(w)
				time.Sleep(time.Minute)
				w.wantSent(official, code, 1)
				w.wantNothingLeft()
			})
		})
	}
}

// WeChat's repetitions get the same answer, signed anew or not, from whatever node and
// for as long as pushes are believed, and set nothing off.
func TestRepetitionsSendNothing(t *testing.T) {
	play(t, func(w *world) {
		other := w.node()
		code := w.authorize(official)
		p := w.asks(official, code)
		w.wantEmpty(p)
		for _, pause := range []time.Duration{0, 5 * time.Second, 5 * time.Second, 9 * time.Minute} {
			for _, nodes := range [][]string{to(w.nodes[0]), to(other)} {
				p.To = nodes
				w.wantEmpty(p)
			}
			w.wantEmpty(sandbox.Push{Replay: true, To: to(other)})
			time.Sleep(pause)
		}
		restarted := w.node()
		p.To = to(restarted)
		w.wantEmpty(p)
		time.Sleep(2 * time.Minute)
		w.wantSent(official, code, 1)
		w.wantNothingLeft()
	})
}

// Two messages with the same code are two: WeChat may test once more.
func TestAnotherMessageIsAnsweredAgain(t *testing.T) {
	play(t, func(w *world) {
		code := w.authorize(official)
		w.wantEmpty(w.asks(official, code))
		w.wantEmpty(w.asks(official, code))
		synctest.Wait()
		w.wantSent(official, code, 2)
	})
}

// Nodes to which the same message comes at once send one message, also while WeChat is
// slow.
func TestTwoNodesAtOnceSendOneMessage(t *testing.T) {
	for _, slow := range []time.Duration{0, 8 * time.Second} {
		play(t, func(w *world) {
			w.node()
			w.node()
			code := w.authorize(official)
			w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if r.URL.Path == customer {
					time.Sleep(slow)
				}
				return next.RoundTrip(r)
			})
			p := w.asks(official, code)
			var all sync.WaitGroup
			for _, n := range w.nodes {
				mine := p
				mine.To = to(n)
				all.Go(func() { w.wantEmpty(mine) })
			}
			all.Wait()
			time.Sleep(3 * time.Minute)
			w.wantSent(official, code, 1)
			w.wantNothingLeft()
		})
	}
}

// A crash loses nothing, wherever it happens, and another node goes on if none restarts.
// If WeChat has got the message before, it gets it again: nobody can know.
func TestCrashLosesNothing(t *testing.T) {
	for name, row := range map[string]struct {
		path   string // the crash comes with this call
		before bool   // before WeChat gets it
		code   bool   // the code came with an event before, and is exchanged
		want   int
	}{
		"before the exchange":                    {queryAuth, true, false, 1},
		"after the exchange":                     {queryAuth, false, false, 1},
		"before the message is sent":             {customer, true, false, 1},
		"before the message is sent, code known": {customer, true, true, 1},
		"after the message is sent":              {customer, false, false, 2},
	} {
		for _, restart := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				play(t, func(w *world) {
					if !row.code {
						w.quiet()
					}
					code := w.authorize(official)
					if !restart {
						w.node()
					}
					var crashed atomic.Bool
					w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
						if r.URL.Path != row.path || crashed.Swap(true) {
							return next.RoundTrip(r)
						}
						if !row.before {
							answer, err := next.RoundTrip(r)
							w.must(err)
							_, _ = io.Copy(io.Discard, answer.Body)
						}
						w.nodes[0].dead.Store(true)
						w.nodes[0].storage.Close()
						w.expireLocks()
						return nil, errors.New("this process is dead")
					})
					w.wantEmpty(w.asks(official, code))
					synctest.Wait()
					if !crashed.Load() {
						t.Fatal("there was no crash")
					}
					w.nodes[0].kill()
					if restart {
						w.node()
					}
					time.Sleep(3 * time.Minute)
					w.wantSent(official, code, row.want)
					w.wantNothingLeft()
				})
			})
		}
	}
}

// expireLocks releases the locks that are held now, after the time in which storages
// release those of a dead process.
func (w *world) expireLocks() {
	for _, name := range w.memory.Locked() {
		time.AfterFunc(10*time.Second, func() { _ = w.memory.Unlock(context.Background(), name) })
	}
}

// A node that is stopped ends what it has begun, within its time, and leaves the rest to
// the next start.
func TestStopEndsWhatIsBegun(t *testing.T) {
	for name, row := range map[string]struct {
		slow, grace time.Duration
		sent        int // when the node has stopped
	}{
		"in time":     {3 * time.Second, 10 * time.Second, 1},
		"not in time": {30 * time.Second, 10 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				code := w.authorize(official)
				slow := row.slow
				w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					if r.URL.Path == customer {
						select {
						case <-time.After(slow):
						case <-r.Context().Done():
							return nil, r.Context().Err()
						}
					}
					return next.RoundTrip(r)
				})
				p := w.asks(official, code)
				w.wantEmpty(p)
				time.Sleep(time.Second)
				began := time.Now()
				w.nodes[0].stop(row.grace)
				if took := time.Since(began); took > row.grace+time.Second {
					t.Errorf("stopping takes %v", took)
				}
				w.wantSent(official, code, row.sent)
				slow = 0
				p.To = to(w.node())
				w.wantEmpty(p)
				time.Sleep(time.Minute)
				w.wantSent(official, code, 1)
				w.wantNothingLeft()
			})
		})
	}
}
