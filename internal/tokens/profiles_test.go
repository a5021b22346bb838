// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// hearing is what a node has told its Profiles.
type hearing struct {
	mu  sync.Mutex
	all []string
}

func (p *hearing) add(what string, who subject.Subject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, what+" "+who.Authorizer())
}

func (p *hearing) Used(who subject.Subject) { p.add("used", who) }

func (p *hearing) Granted(who subject.Subject, at time.Time) {
	if at.IsZero() || time.Since(at) > time.Minute {
		panic(fmt.Sprint("granted at ", at))
	}
	p.add("granted", who)
}

func (p *hearing) Learned(who subject.Subject, info openapi.AuthorizerInfo, asked time.Time) {
	if info.UserName == "" || asked.IsZero() {
		panic(fmt.Sprintf("%+v at %v", info, asked))
	}
	p.add("learned", who)
}

func (p *hearing) Save(_ context.Context, who subject.Subject, info openapi.AuthorizerInfo, asked time.Time) error {
	if info.UserName == "" || asked.IsZero() {
		panic(fmt.Sprintf("%+v at %v", info, asked))
	}
	p.add("saved", who)
	return nil
}

func (p *hearing) Forget(who subject.Subject) { p.add("forgotten", who) }

// are checks what was told since the last time.
func (p *hearing) are(w *world, want ...string) {
	w.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range want {
		want[i] += " " + theShop
	}
	if !slices.Equal(p.all, want) {
		w.Errorf("told %q, want %q", p.all, want)
	}
	p.all = nil
}

// Whoever keeps profiles is told of what the engine learns, and not at each call. A grant is
// told first, because it is urgent.
func TestProfilesAreTold(t *testing.T) {
	play(t, func(w *world) {
		profiles := new(hearing)
		w.node.settings.Load().Profiles = profiles
		code := w.authorize(theShop)
		profiles.are(w, "granted", "used")
		for range 3 {
			w.token(shop)
		}
		_, err := w.node.Exchange(w.Context(), theComponent, secret.New(code)) // the browser brings it, too
		w.must(err)
		profiles.are(w)
		_, err = w.weixin.UpdateAuthorized(w.Context(), theShop)
		w.must(err)
		profiles.are(w, "granted", "used")
		_, err = w.node.AuthorizerInfo(w.Context(), shop, theClient)
		w.must(err)
		profiles.are(w, "learned")

		w.restart()
		w.node.settings.Load().Profiles = profiles
		w.token(shop) // from the vault
		w.token(shop)
		profiles.are(w, "used")
		time.Sleep(3 * time.Hour)
		w.token(shop) // renewed
		profiles.are(w, "used")
	})
}

// An account that comes back after its record was lost brings its profile along.
func TestTheQuestionOfARecoveryIsTold(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.must(w.storage.Delete(w.Context(), "wechat/"+theComponent+"/authorizers/aa/"+theShop+".json"))
		w.restart()
		profiles := new(hearing)
		w.node.settings.Load().Profiles = profiles
		w.token(shop)
		profiles.are(w, "learned", "used")
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerInfo, ErrCode: 45009})
		_, err := w.node.AuthorizerInfo(w.Context(), shop, theClient)
		if err == nil {
			t.Error("no error")
		}
		profiles.are(w)
	})
}

// A code that is spent without an answer is a grant as well: by whoever it was exchanged,
// it may have died before it learnt the profile.
func TestASpentCodeIsAGrant(t *testing.T) {
	play(t, func(w *world) {
		profiles := new(hearing)
		w.node.settings.Load().Profiles = profiles
		w.weixin.Inject(sandbox.Fault{Path: askQueryAuth, DropAfter: true, Times: 1})
		w.authorize(theShop)
		time.Sleep(10 * time.Second) // the exchange is tried again
		profiles.are(w, "learned", "used", "granted")
	})
}
