// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Threats by clients, by strangers, and by what WeChat says to them.

// badPath is a path on which WeChat rejects every token, however good.
const badPath = "/cgi-bin/bad"

// reject makes a call of a client that WeChat rejects, and returns what the client is
// told of it.
func (w *world) reject(who subject.Subject, client, path string) error {
	w.Helper()
	token, err := w.node.Current(w.Context(), who, client)
	w.must(err)
	_, err = w.node.Replace(w.Context(), who, rejectionTo(client, path, token))
	return err
}

// is checks what a caller is told.
func (w *world) is(err error, want *problem.Problem) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("%v, want %v", err, want)
	}
}

// A client that knows one path on which WeChat rejects good tokens makes the gateway
// renew until it serves nobody any more.
func TestOneRejectedPathShutsNoAccount(t *testing.T) {
	for _, who := range []subject.Subject{shop, platform} {
		playAuthorized(t, func(w *world) {
			good := w.token(who)
			for range 20 * 60 * 10 {
				w.is(w.reject(who, "villain", badPath), problem.ErrPathRejects)
				if token := w.token(who); !token.Value.Equal(good.Value) {
					t.Fatal("the token was renewed")
				}
				time.Sleep(100 * time.Millisecond)
			}
			if got := w.renewals(); got != 0 {
				t.Errorf("%d renewals", got)
			}
			if got := w.weixin.Count(askDomainIP); got > 8 { // 10 s, 20 s … 10 min
				t.Errorf("%d questions in 20 minutes", got)
			}
		})
	}
}

// The same client tries a million paths, to spend WeChat's quota or our memory.
func TestClientThatTriesAMillionPaths(t *testing.T) {
	paths := 1_000_000
	if raceEnabled {
		paths /= 10 // they take as long; what is remembered ends at maxMarks either way
	}
	playAuthorized(t, func(w *world) {
		w.token(shop)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range paths {
			w.is(w.reject(shop, "villain", fmt.Sprintf("/cgi-bin/%x", i)), problem.ErrPathRejects)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if marks := w.node.doubts.marks.Load(); marks != maxMarks+1 {
			t.Errorf("%d marks, want %d", marks, maxMarks+1)
		}
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
			t.Errorf("the heap has grown by %d KiB", grown>>10)
		}
		if got := w.weixin.Count(askDomainIP); got > maxMarks+1 {
			t.Errorf("%d questions", got)
		}
		w.is(w.reject(shop, "honest", authorizerCall), problem.ErrPathRejects) // has marks of its own
		time.Sleep(3 * time.Hour)
		w.node.doubts.Sweep(time.Now())
		if got := w.node.doubts.marks.Load(); got != 0 || len(w.node.doubts.of) != 0 {
			t.Errorf("%d marks of %d subjects are left", got, len(w.node.doubts.of))
		}
	})
}

// Many clients at once ask no more than one.
func TestQuestionsAreOneASecondHoweverManyAsk(t *testing.T) {
	playAuthorized(t, func(w *world) {
		token := w.token(shop)
		w.weixin.Inject(sandbox.Fault{Path: askDomainIP, Latency: 500 * time.Millisecond})
		began := time.Now()
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				_, err := w.node.Replace(w.Context(), shop, rejectionTo(fmt.Sprintf("client%d", i), badPath, token))
				w.is(err, problem.ErrPathRejects)
			})
		}
		all.Wait()
		if got, most := w.weixin.Count(askDomainIP), int(time.Since(began)/questionInterval)+1; got < 5 || got > most {
			t.Errorf("%d questions, want at most %d", got, most)
		}
	})
}

// A token that really dies must be renewed for a client that knows one path only, on
// which it was rejected before: the mark must end.
func TestDeadTokenIsRenewedAfterItsPathWasMarked(t *testing.T) {
	playAuthorized(t, func(w *world) {
		for range 40 * 60 { // marked for ten minutes in the end
			w.is(w.reject(shop, "villain", badPath), problem.ErrPathRejects)
			time.Sleep(time.Second)
		}
		w.weixin.KillTokens(theShop)
		for died := time.Now(); w.reject(shop, "villain", badPath) != nil; time.Sleep(time.Second) {
			if time.Since(died) > maxMark+time.Second {
				t.Fatalf("the token is dead for %v", time.Since(died))
			}
		}
		w.token(shop)
		if got := w.renewals(); got != 1 {
			t.Errorf("%d renewals, want one", got)
		}
	})
}

// For every other client it is renewed at the first call.
func TestMarkOfOneClientDelaysNoOther(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.is(w.reject(shop, "villain", badPath), problem.ErrPathRejects)
		w.weixin.KillTokens(theShop)
		for _, other := range []Caller{{"honest", badPath}, {"villain", authorizerCall}} {
			w.must(w.reject(shop, other.Client, other.Path))
			w.token(shop)
			w.weixin.KillTokens(theShop)
		}
	})
}

// A call that is accepted ends the mark of its path.
func TestAcceptedCallRemovesTheMark(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.is(w.reject(shop, "client", badPath), problem.ErrPathRejects)
		w.weixin.KillTokens(theShop)
		w.is(w.reject(shop, "client", badPath), problem.ErrPathRejects) // marked
		w.node.Accepted(shop, w.node.memory.Get(shop), Caller{"client", authorizerCall})
		w.is(w.reject(shop, "client", badPath), problem.ErrPathRejects) // it was another path
		w.node.Accepted(shop, w.node.memory.Get(shop), Caller{"client", badPath})
		w.must(w.reject(shop, "client", badPath))
	})
}

// Only a question that was sent after a rejection had arrived says anything about it:
// the token may have died in between.
func TestQuestionSentBeforeTheRejectionProvesNothing(t *testing.T) {
	playAuthorized(t, func(w *world) {
		token := w.token(shop)
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			answer, err := next.RoundTrip(r) // says that the token is alive
			if r.URL.Path == askDomainIP {
				time.Sleep(1500 * time.Millisecond)
			}
			return answer, err
		})
		go func() { _ = w.reject(shop, "first", badPath) }()
		time.Sleep(500 * time.Millisecond)
		w.weixin.KillTokens(theShop)
		newer, err := w.node.Replace(w.Context(), shop, rejectionTo("second", authorizerCall, token))
		w.must(err)
		w.isValid(newer, shop)
		synctest.Wait()
	})
}

// WeChat rejects every token, also when the gateway asks, for a while: a second or ten
// minutes of it must cost neither the hour nor the quota.
func TestStormOfRejectionsIsOverWhenItEnds(t *testing.T) {
	for _, lasts := range []time.Duration{time.Second, 10 * time.Minute} {
		playAuthorized(t, func(w *world) {
			tr := &trial{world: w, node: w.node, who: shop}
			w.weixin.Inject(sandbox.Fault{Path: authorizerCall, ErrCode: 40001})
			w.weixin.Inject(sandbox.Fault{Path: askDomainIP, ErrCode: 40001})
			tr.isTold(tr.ask(lasts), "rejected")
			w.weixin.ClearFaults()
			if got, most := w.renewals(), maxForcedHourly+int(lasts/contendedInterval); got > most {
				t.Errorf("%d renewals, want at most %d", got, most)
			}
			if got, most := w.weixin.Count(askDomainIP), int(lasts/questionInterval)+1; got > most {
				t.Errorf("%d questions, want at most %d", got, most)
			}
			tr.heals(time.Second)
		})
	}
}

// What the question can be answered, and what follows.
func TestVerdicts(t *testing.T) {
	answers := func(status int, body string) func() (*http.Response, error) {
		return func() (*http.Response, error) {
			return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
		}
	}
	for _, c := range []struct {
		name   string
		answer func() (*http.Response, error)
		alive  bool
	}{
		{"addresses", answers(200, `{"ip_list":["203.0.113.7"]}`), true},
		{"no right to the call", answers(200, `{"errcode":48001,"errmsg":"api unauthorized"}`), true},
		{"quota", answers(200, `{"errcode":"45009"}`), true},
		{"rejected", answers(200, `{"errcode":40014}`), false},
		{"expired", answers(200, `{"errcode":42001}`), false},
		{"busy", answers(200, `{"errcode":-1}`), false},
		{"another status", answers(502, `{"ip_list":[]}`), false},
		{"another JSON", answers(200, `{"hello":"world"}`), false},
		{"HTML", answers(200, `<html>ip_list</html>`), false},
		{"nothing", answers(200, ``), false},
		{"reset", func() (*http.Response, error) { return nil, errors.New("connection reset by peer") }, false},
		{"no answer in time", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			playAuthorized(t, func(w *world) {
				w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
					if r.URL.Path != askDomainIP {
						return next.RoundTrip(r)
					}
					if c.answer == nil {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return c.answer()
				})
				began := time.Now()
				err := w.reject(shop, "client", badPath)
				if time.Since(began) > questionTimeout {
					t.Errorf("after %v", time.Since(began))
				}
				if c.alive {
					w.is(err, problem.ErrPathRejects)
				} else {
					w.must(err)
				}
				if renewed := w.renewals() == 1; renewed == c.alive {
					t.Errorf("renewed: %v", renewed)
				}
				synctest.Wait()
			})
		})
	}
}

// Anybody can make calls whose only credential is an end user's, and have them
// rejected. A second question within a minute is none of theirs.
func TestCallsWithoutAClientShutNothing(t *testing.T) {
	playAuthorized(t, func(w *world) {
		good := w.token(platform)
		for range 600 {
			if err := w.reject(platform, "", "/sns/oauth2/component/refresh_token"); err == nil {
				t.Fatal("repeated")
			}
			if token := w.token(platform); !token.Value.Equal(good.Value) {
				t.Fatal("the component's token was renewed")
			}
			time.Sleep(time.Second)
		}
		if got := w.weixin.Count(askDomainIP); got != 10 {
			t.Errorf("%d questions in ten minutes, want 10", got)
		}
		w.weixin.KillTokens(theComponent)
		w.must(w.reject(platform, "honest", componentCall)) // a client need not wait for the minute
		w.token(platform)
	})
	playAuthorized(t, func(w *world) { // nor is the platform dead where only strangers call
		w.is(w.reject(platform, "", "/sns/x"), problem.ErrPathRejects)
		w.weixin.KillTokens(theComponent)
		w.is(w.reject(platform, "", "/sns/x"), problem.ErrRejected)
		time.Sleep(anonymousInterval)
		w.must(w.reject(platform, "", "/sns/x"))
		w.token(platform)
	})
}

// WeChat may reject a call of the gateway's own about one account, with a good token.
// The other accounts, and the component, go on.
func TestRejectedCallAboutOneAccountHarmsNoOther(t *testing.T) {
	playAuthorized(t, func(w *world) {
		const other = "wxbbbbbbbbbbbbbbbb"
		w.must(w.weixin.AddAccount(sandbox.Account{AppID: other}))
		w.authorize(other)
		w.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if r.URL.Path == askAuthorizerToken && strings.Contains(string(body), theShop) {
				return jsonAnswer(`{"errcode":40001,"errmsg":"invalid credential"}`), nil
			}
			return next.RoundTrip(r)
		})
		time.Sleep(3 * time.Hour)
		w.must(w.weixin.PushTicket(w.Context()))
		w.weixin.ResetCounts()
		for range 600 {
			w.fails(shop, problem.ErrRefused)
			w.token(subject.Of(theComponent, other))
			time.Sleep(time.Second)
		}
		w.calls(askComponentToken, 1)
		w.weixin.KillTokens(theComponent) // and the other account finds that out at once
		w.weixin.KillTokens(other)
		w.must(w.reject(subject.Of(theComponent, other), "honest", authorizerCall))
	})
}

// A client that may act for every account tries appids. The accounts of others must
// come back from an empty storage all the same, without waiting for its look-ups.
func TestClientThatTriesAppidsDelaysNoOther(t *testing.T) {
	play(t, func(w *world) {
		accounts := make([]subject.Subject, 50)
		for i := range accounts {
			accounts[i] = subject.Of(theComponent, fmt.Sprintf("wxaa%014d", i))
			w.must(w.weixin.AddAccount(sandbox.Account{AppID: accounts[i].Authorizer()}))
			w.authorize(accounts[i].Authorizer())
		}
		for name := range w.storage.Files() {
			if strings.Contains(name, "authorizers") {
				w.must(w.storage.Delete(w.Context(), name))
			}
		}
		w.restart()
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerInfo, Latency: 300 * time.Millisecond})
		stop := make(chan struct{})
		var villain sync.WaitGroup
		villain.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				villain.Go(func() {
					_, err := w.node.Current(w.Context(), subject.Of(theComponent, fmt.Sprintf("wx%016x", i)), "villain")
					if !errors.Is(err, problem.ErrRationed) && !errors.Is(err, problem.ErrUnauthorized) {
						t.Errorf("an unknown account: %v", err)
					}
				})
			}
		})
		time.Sleep(2 * time.Minute) // its ration is spent
		w.weixin.ResetCounts()
		for _, who := range accounts {
			began := time.Now()
			token, err := w.node.Current(w.Context(), who, "honest")
			w.must(err)
			w.isValid(token, who)
			if waited := time.Since(began); waited > time.Second {
				t.Errorf("%s came back after %v", who, waited)
			}
		}
		close(stop)
		villain.Wait()
		if got := len(w.node.health.of); got > 2*(maxFutileLookups+maxOpenLookups)+240 { // what is not asked about is not remembered
			t.Errorf("%d subjects are remembered", got)
		}
	})
}

// A client that goes away at once has asked all the same.
func TestClientThatLeavesSpendsItsRation(t *testing.T) {
	play(t, func(w *world) {
		w.token(platform)
		w.weixin.Inject(sandbox.Fault{Path: askAuthorizerInfo, Latency: 50 * time.Millisecond})
		began := time.Now()
		for i := range 10_000 {
			ctx, leave := context.WithTimeout(w.Context(), 10*time.Millisecond)
			_, _ = w.node.Current(ctx, subject.Of(theComponent, fmt.Sprintf("wx%016x", i)), "villain")
			leave()
		}
		synctest.Wait()
		most := maxFutileLookups + maxOpenLookups + int(time.Since(began)/futileLookupInterval)
		if got := w.weixin.Count(askAuthorizerInfo); got > most {
			t.Errorf("WeChat was asked %d times, want at most %d", got, most)
		}
	})
}

// Nobody learns from the ration of another, and no other waits: the ration is spent by
// one client, and another's question about the same appid is asked.
func TestRationIsPerClient(t *testing.T) {
	playAuthorized(t, func(w *world) {
		w.lose(theShop)
		w.restart()
		limiter := w.node.health.LookupLimiter(theComponent, "villain")
		limiter.futile.AllowN(time.Now(), maxFutileLookups)
		if _, err := w.node.Current(w.Context(), shop, "villain"); !errors.Is(err, problem.ErrRationed) {
			t.Errorf("%v", err)
		}
		_, err := w.node.Current(w.Context(), shop, "honest")
		w.must(err)
		if _, err := w.node.Current(w.Context(), shop, "villain"); err != nil { // it is known now
			t.Errorf("%v", err)
		}
	})
}

// The rejection of a token tells whose call it was and how WeChat named it, and repeats
// nothing else of WeChat's answer.
func TestWhatACallerIsToldOfARejection(t *testing.T) {
	r := Rejection{Caller: Caller{"client", badPath}, Errcode: 40014, RID: "66c669e3-210a005b-256a5f92"}
	for _, err := range []error{r.asPathRejects(), r.AsRejected(errors.New("secret cause"))} {
		text := problem.Of(err).Text
		if !strings.HasSuffix(text, ": errcode 40014 rid: 66c669e3-210a005b-256a5f92") {
			t.Error(text)
		}
	}
	if codes := []int{problem.Of(r.asPathRejects()).Errcode, problem.Of(r.AsRejected(nil)).Errcode}; !slices.Equal(codes, []int{48001, -1}) {
		t.Errorf("errcodes %v", codes)
	}
}
