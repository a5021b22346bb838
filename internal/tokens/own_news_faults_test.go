// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// News while storage fails.

// News that cannot be queued are tried again; no call waits for them.
func TestNewsWaitForStorage(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		heard.failing(func() error { return vault.ErrUnavailable })
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		time.Sleep(3 * time.Hour)
		began := time.Now()
		w.fails(shop, problem.ErrNeedsAdmin)
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("the call took %v", waited)
		}
		w.call([]*node{w.node}, 10*time.Minute)
		heard.are()
		if got := w.logged(zap.WarnLevel, "telling applications of an account failed"); got != 1 {
			t.Errorf("%d warnings, want one", got)
		}
		heard.failing(nil)
		time.Sleep(2 * time.Minute)
		heard.are(InfoNeedsAuthorization)
	})
}

func TestNewsThatCannotBeToldAreGivenUpAloud(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		heard.failing(func() error { return vault.ErrUnavailable })
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrNeedsAdmin)
		time.Sleep(2 * time.Hour)
		if got := w.logged(zap.ErrorLevel, "given up"); got != 1 {
			t.Errorf("%d errors, want one", got)
		}
		heard.failing(nil)
		w.fails(shop, problem.ErrNeedsAdmin) // and the next call notices it again
		heard.are(InfoNeedsAuthorization)
	})
}

// A node queues news and dies before it has noted that. Another one tells them again,
// as the same occurrence: the application gets the same event_id.
func TestNewsThatWereNotNotedHaveTheSameOccurrence(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		time.Sleep(3 * time.Hour)
		w.storage.Intercept(func(_ context.Context, op vaulttest.Op, _ string) error {
			if op == vaulttest.Store {
				return errors.New("killed")
			}
			return nil
		})
		w.fails(shop, problem.ErrNeedsAdmin)
		first := heard.are(InfoNeedsAuthorization)
		w.repairStorage()
		w.restart()
		heard.also(w.node)
		time.Sleep(time.Minute)
		w.fails(shop, problem.ErrNeedsAdmin)
		again := heard.are(InfoNeedsAuthorization)
		if first[0].Occurrence != again[0].Occurrence {
			t.Errorf("%q, then %q", first[0].Occurrence, again[0].Occurrence)
		}
	})
}

// What has been overtaken while it could not be told is not told.
func TestNewsThatAreOvertakenAreNotTold(t *testing.T) {
	playAuthorized(t, func(w *world) {
		heard := w.listen(w.node)
		heard.failing(func() error { return vault.ErrUnavailable })
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerToken, ErrCode: 61023})
		time.Sleep(3 * time.Hour)
		w.fails(shop, problem.ErrNeedsAdmin)
		w.weixin.ClearFaults()
		time.Sleep(5 * time.Minute)
		w.token(shop)
		heard.failing(nil)
		time.Sleep(2 * time.Hour)
		heard.are()
		if record := w.record(shop); record.Trouble != vault.NoTrouble {
			t.Errorf("the record says %s", record.Trouble)
		}
	})
}
