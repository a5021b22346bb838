// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	renewalPath  = "/cgi-bin/component/api_authorizer_token"
	exchangePath = "/cgi-bin/component/api_query_auth"
)

// delays are how long something needs at a reload: it ends on its own storage, or
// goes on with the next one.
var delays = map[string]time.Duration{"ends": time.Second, "goes on": 8 * time.Second}

// wantReload reloads, and checks that this waits for what needs delay, but not for
// long.
func (p *process) wantReload(delay time.Duration) {
	p.Helper()
	if took, most := p.reload(), min(delay, 2*time.Second); took != most {
		p.Errorf("the reload took %v, want %v", took, most)
	}
}

// A renewal holds the account's lock while WeChat is asked, and stores the token
// afterwards.
func TestReloadDuringARenewal(t *testing.T) {
	for name, delay := range delays {
		t.Run(name, func(t *testing.T) {
			playProcess(t, func(p *process) {
				time.Sleep(3 * time.Hour) // the token has expired
				p.must(p.weChat.PushTicket(p.Context()))
				p.weChat.ResetCounts()
				release := p.hold(renewalPath)
				call := begin(func() error { _, err := p.state.keeper.Current(p.Context(), testAccount, tokens.Itself); return err })
				time.AfterFunc(delay, release)
				p.wantReload(delay)
				p.must(<-call)
				if !p.record().Token.Equal(p.token().Value) || p.weChat.Count(renewalPath) != 1 {
					p.Errorf("the token is not the stored one, or was renewed %d times", p.weChat.Count(renewalPath))
				}
			})
		})
	}
}

// WeChat has exchanged a code, and the record with what it has issued is being
// stored: the browser waits for that, and WeChat does not issue it again.
func TestReloadDuringAnExchange(t *testing.T) {
	for name, delay := range delays {
		t.Run(name, func(t *testing.T) {
			playProcess(t, func(p *process) {
				p.must(p.weChat.Revoke(p.Context(), testAccount.Authorizer()))
				p.weChat.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
				code, err := p.weChat.Authorize(p.Context(), testAccount.Authorizer())
				p.must(err)
				met, release := p.hang(vaulttest.Store, testAccount.Authorizer()+".json")
				exchange := begin(func() error {
					_, err := p.state.keeper.Exchange(p.Context(), sandbox.DefaultComponent, secret.New(code))
					return err
				})
				<-met
				time.AfterFunc(delay, release)
				p.wantReload(delay)
				p.must(<-exchange)
				if p.record().Refresh == nil {
					p.Error("the refresh token is not stored")
				}
			})
		})
	}
}

// WeChat pushes a ticket while storage is slow; it waits five seconds for success.
func TestReloadDuringATicket(t *testing.T) {
	for name, delay := range map[string]time.Duration{"ends": time.Second, "goes on": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			playProcess(t, func(p *process) {
				before, err := p.state.vault.LoadTicket(p.Context(), sandbox.DefaultComponent)
				p.must(err)
				time.Sleep(2 * time.Second) // tickets differ by their CreateTime
				met, release := p.hang(vaulttest.Store, "/ticket.json")
				ticket := begin(func() error { return p.weChat.PushTicket(p.Context()) })
				<-met
				time.AfterFunc(delay, release)
				p.wantReload(delay)
				p.must(<-ticket)
				after, err := p.state.vault.LoadTicket(p.Context(), sandbox.DefaultComponent)
				if err != nil || !after.CreateTime.After(before.CreateTime) {
					p.Errorf("the ticket is not stored: %v", err)
				}
			})
		})
	}
}

// A delivery holds the lock of the queue while the application is asked, and notes
// the result afterwards. Without the lock another node would deliver the same event.
func TestReloadDuringADelivery(t *testing.T) {
	for name, delay := range delays {
		t.Run(name, func(t *testing.T) {
			playProcess(t, func(p *process) {
				clear(p.delivered)
				release := p.hold("/")
				p.must(p.weChat.Revoke(p.Context(), testAccount.Authorizer()))
				synctest.Wait()
				time.AfterFunc(delay, release)
				p.wantReload(delay)
				if locked := p.memory.Locked(); (len(locked) == 1) != (delay > 2*time.Second) {
					p.Errorf("locks after the reload: %q", locked)
				}
				time.Sleep(time.Minute)
				if left, err := p.state.vault.Events(p.Context(), p.queue, false); len(left) > 0 || err != nil {
					p.Errorf("%d events are left, %v", len(left), err)
				}
				for id, times := range p.delivered {
					if len(p.delivered) != 1 || times != 1 {
						p.Errorf("%d events were delivered, %s %d times", len(p.delivered), id, times)
					}
				}
			})
		})
	}
}

// What looks into the storage from time to time is no reason for a reload to wait
// long, nor does it meet a closed storage.
func TestReloadDuringTheSweeps(t *testing.T) {
	for _, folder := range []string{"/pending", "/news", "/events/shop"} {
		t.Run(folder, func(t *testing.T) {
			playProcess(t, func(p *process) {
				met, release := p.hang(vaulttest.List, folder)
				<-met
				p.wantReload(8 * time.Second)
				release()
				looks := p.memory.Count(vaulttest.List)
				time.Sleep(2 * time.Minute)
				if p.memory.Count(vaulttest.List) == looks {
					p.Error("nobody looks any more")
				}
			})
		})
	}
}

// An operator seals everything anew, which takes a lock for each file.
func TestReloadDuringAReseal(t *testing.T) {
	playProcess(t, func(p *process) {
		met, release := p.hang(vaulttest.List, "/authorizers/aa")
		reseal := begin(func() error {
			_, err := p.state.vault.Reseal(p.Context(), sandbox.DefaultComponent, 1+0xaa)
			return err
		})
		<-met
		p.wantReload(8 * time.Second)
		release()
		p.must(<-reseal)
	})
}

// A reload fails when the app has started: because another app does not start, or at
// the very end, when Caddy cleans up without stopping the app. The old configuration
// goes on, with its storage, also for what has begun under the new one.
func TestReloadThatFails(t *testing.T) {
	for name, fail := range map[string]func(p *process, failing *config){
		"at the start of another app": func(p *process, failing *config) { p.stop(failing) },
		"at the very end": func(p *process, failing *config) {
			failing.cleanUp()
			begin(func() error { p.state.stop(failing.settings, time.Now()); return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			playProcess(t, func(p *process) {
				_, release := p.hang(vaulttest.Load, testAccount.Authorizer()+".json")
				load := func() error { _, err := p.state.vault.Load(p.Context(), testAccount); return err }
				before := begin(load)
				p.start()
				failing := p.configs[1]
				p.configs = p.configs[:1]
				after := begin(load)
				time.AfterFunc(time.Second, release)
				fail(p, failing)
				later := begin(load)
				for _, loaded := range []chan error{before, after, later} {
					p.must(<-loaded)
				}
				if refused := failing.client.Refused(); len(refused) > 0 {
					p.Errorf("used after it was closed: %q", refused)
				}
			})
		})
	}
}

// A record that storage did not take is stored before the storage is closed at the
// end of the process: its refresh token may exist nowhere else.
func TestLastStopStoresWhatIsUnsaved(t *testing.T) {
	playProcess(t, func(p *process) {
		time.Sleep(3 * time.Hour)
		p.must(p.weChat.PushTicket(p.Context()))
		p.memory.Intercept(func(_ context.Context, op vaulttest.Op, name string) error {
			if op == vaulttest.Store {
				return errors.New("no space left on device")
			}
			return nil
		})
		token := p.token()
		p.memory.Intercept(nil) // and no other attempt is due yet
		p.end()
		p.state = nil // another process
		p.start()
		if !p.record().Token.Equal(token.Value) {
			p.Error("the token is lost")
		}
		p.logs.TakeAll() // of what storage did not take
	})
}

// The process ends while WeChat is slow: the lock does not stand until it goes
// stale, and the caller hears of the end at once.
func TestLastStopDuringARenewal(t *testing.T) {
	playProcess(t, func(p *process) {
		time.Sleep(3 * time.Hour)
		p.must(p.weChat.PushTicket(p.Context()))
		defer p.hold(renewalPath)()
		call := begin(func() error { _, err := p.state.keeper.Current(p.Context(), testAccount, tokens.Itself); return err })
		began := time.Now()
		p.end()
		synctest.Wait() // until the caller has heard of it
		if took := time.Since(began); took != 2*time.Second || len(call) != 1 {
			p.Errorf("the end took %v, %d callers have heard of it", took, len(call))
		}
		if locked := p.memory.Locked(); len(locked) > 0 {
			p.Errorf("locks that stand: %q", locked)
		}
		p.state = nil // another process
		p.start()
	})
}

// Everything at once, over many reloads, with WeChat and application of all speeds:
// nothing fails, nothing is lost, and no event is delivered twice.
func TestReloadsUnderLoadOfAllKinds(t *testing.T) {
	playProcessWith(t, sandbox.Config{TokenLifetime: 20 * time.Second, Overlap: 5 * time.Second}, func(p *process) {
		clear(p.delivered)
		ctx, stop := context.WithCancel(p.Context())
		var work sync.WaitGroup
		repeat := func(every time.Duration, do func(i int) error) {
			work.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					if err := do(i); err != nil {
						p.Error(err)
					}
					time.Sleep(every)
				}
			})
		}
		for _, path := range []string{renewalPath, exchangePath, "/"} { // all of them are slow at times
			repeat(time.Second, func(int) error {
				release := p.hold(path)
				time.Sleep(rand.N(6 * time.Second))
				release()
				return nil
			})
		}
		var accounts []string
		for i := range 8 {
			appid := fmt.Sprintf("wx%016x", i)
			p.must(p.weChat.AddAccount(sandbox.Account{AppID: appid}))
			accounts = append(accounts, appid)
		}
		for _, appid := range accounts {
			repeat(3*time.Second, func(int) error {
				code, err := p.weChat.Authorize(p.Context(), appid)
				if err != nil {
					return err
				}
				got, err := p.state.keeper.Exchange(p.Context(), sandbox.DefaultComponent, secret.New(code))
				if err == nil && got != appid {
					err = fmt.Errorf("the code of %s is said to be that of %s", appid, got)
				}
				return errors.Join(err, p.weChat.Revoke(p.Context(), appid))
			})
		}
		repeat(time.Second, func(int) error {
			_, err := p.state.keeper.Current(p.Context(), testAccount, tokens.Itself)
			return err
		})
		repeat(time.Second, func(int) error { return p.weChat.PushTicket(p.Context()) })
		for range 40 {
			p.reload()
			time.Sleep(rand.N(4 * time.Second))
		}
		stop()
		work.Wait()
		time.Sleep(5 * time.Minute)
		if left, err := p.state.vault.Events(p.Context(), p.queue, false); len(left) > 0 || err != nil {
			p.Errorf("%d events are left, %v", len(left), err)
		}
		for id, times := range p.delivered {
			if times != 1 {
				p.Errorf("event %s was delivered %d times", id, times)
			}
		}
		p.Logf("%d renewals, %d exchanges, %d events", p.weChat.Count(renewalPath), p.weChat.Count(exchangePath), len(p.delivered))
	})
}
