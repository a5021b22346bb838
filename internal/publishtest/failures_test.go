// SPDX-License-Identifier: Apache-2.0

package publishtest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A storage that fails for a moment is no trouble. While a code cannot be stored it is not
// acknowledged: WeChat pushes it again.
func TestCodeThatCannotBeStoredIsPushedAgain(t *testing.T) {
	for fails, attempts := range map[time.Duration]int{3 * time.Second: 1, 6 * time.Second: 2} {
		play(t, func(w *world) {
			code := w.authorize(official)
			began := time.Now()
			w.memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
				if op == vaulttest.Store && strings.Contains(name, "/publish-test/") && time.Since(began) < fails {
					return errors.New("disk full")
				}
				return nil
			})
			answer, err := w.weixin.Push(w.Context(), w.asks(official, code))
			if err != nil || answer.Attempts != attempts || answer.Body != "" {
				t.Errorf("failing for %v: %v, %+v", fails, err, answer)
			}
			for _, try := range answer.Tries[:attempts-1] {
				if try.Status != http.StatusServiceUnavailable || try.Took > 4500*time.Millisecond {
					t.Errorf("answered %d after %v", try.Status, try.Took)
				}
			}
			time.Sleep(time.Minute)
			w.wantSent(official, code, 1)
			w.wantNothingLeft()
		})
	}
}

// A storage that fails while it is looked for codes delays them by a moment.
func TestCodesAreLookedForSoonAgain(t *testing.T) {
	play(t, func(w *world) {
		code := w.authorize(official)
		began := time.Now()
		w.memory.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.List && time.Since(began) < 3*time.Second {
				return errors.New("connection refused")
			}
			return nil
		})
		w.wantEmpty(w.asks(official, code))
		time.Sleep(5 * time.Second)
		w.wantSent(official, code, 1)
	})
}

// While the storage fails after the message was sent, it is not sent again.
func TestStorageThatFailsAfterwardsRepeatsNothing(t *testing.T) {
	for _, broken := range []vaulttest.Op{vaulttest.Store, vaulttest.Delete, vaulttest.Load, vaulttest.Lock, vaulttest.List} {
		play(t, func(w *world) {
			code := w.authorize(official)
			w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if r.URL.Path == customer {
					w.memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
						if op == broken {
							return errors.New("disk full")
						}
						return nil
					})
				}
				return next.RoundTrip(r)
			})
			w.wantEmpty(w.asks(official, code))
			time.Sleep(3 * time.Minute)
			w.memory.Intercept(nil)
			time.Sleep(3 * time.Minute)
			w.wantSent(official, code, 1)
			w.wantNothingLeft()
		})
	}
}

// What WeChat refuses or does not answer is tried again, and given up when it is of no use any
// more.
func TestFailuresOfWeChat(t *testing.T) {
	for name, row := range map[string]struct {
		fault    sandbox.Fault
		lasts    time.Duration
		sent     int
		attempts int // of the call, at most
		log      string
	}{
		"a token that is dead":               {sandbox.Fault{Path: customer, ErrCode: 40001, Times: 1}, 0, 1, 2, ""},
		"WeChat is busy":                     {sandbox.Fault{Path: customer, ErrCode: -1}, time.Minute, 1, 12, "tried again"},
		"the exchange is refused for a time": {sandbox.Fault{Path: queryAuth, ErrCode: -1}, time.Minute, 1, 12, "tried again"},
		"an address that is not listed":      {sandbox.Fault{Path: customer, ErrCode: 40164}, time.Minute, 1, 12, "white list"},
		"refused for ever":                   {sandbox.Fault{Path: customer, ErrCode: 48001}, time.Hour, 0, 40, "given up"},
		"no answer for ever":                 {sandbox.Fault{Path: customer, Status: 502}, time.Hour, 0, 40, "given up"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(w *world) {
				if row.fault.Path == queryAuth {
					w.quiet()
				}
				code := w.authorize(official)
				w.weixin.ResetCounts()
				w.weixin.Inject(row.fault)
				w.wantEmpty(w.asks(official, code))
				time.Sleep(row.lasts)
				w.weixin.ClearFaults()
				time.Sleep(time.Minute)
				w.wantSent(official, code, row.sent)
				w.wantNothingLeft()
				if calls := w.weixin.Count(row.fault.Path); calls > row.attempts {
					t.Errorf("%s was called %d times, want at most %d", row.fault.Path, calls, row.attempts)
				}
				if !strings.Contains(w.logged(), row.log) {
					t.Errorf("no %q in the log:\n%s", row.log, w.logged())
				}
			})
		})
	}
}

// A code that this node cannot open is left to the others, but not for ever.
func TestCodeThatDoesNotOpenIsDeletedInTheEnd(t *testing.T) {
	play(t, func(w *world) {
		const key = "wechat/" + platform + "/publish-test/"
		name := key + "946684800-0123456789abcdef0123456789abcdef.json" // when this test begins
		w.memory.Put(name, []byte("damaged"))
		time.Sleep(5 * time.Minute)
		if w.memory.Files()[name] == nil {
			t.Error("it is deleted at once")
		}
		time.Sleep(10 * time.Minute)
		w.wantNothingLeft()
	})
}
