// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"net/http"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Faults of WeChat's that are no matter of one answer. Each begins and returns
// what ends it.

// late: WeChat acts, and answers when nobody listens any more. The refresh
// token in the answer is lost with it.
func late(tr *trial, at fetch) (end func()) {
	tr.weixin.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
	tr.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
		answer, err := next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
		if r.URL.Path != at.path || err != nil {
			return answer, err
		}
		<-r.Context().Done()
		answer.Body.Close()
		return nil, r.Context().Err()
	})
	return func() {
		tr.rewire(func(r *http.Request, next http.RoundTripper) (*http.Response, error) { return next.RoundTrip(r) })
	}
}

// drought: no push arrives, and nobody notices until all tokens have expired.
func drought(tr *trial, _ fetch) (end func()) {
	tr.deaf.Store(true)
	time.Sleep(13 * time.Hour)
	tr.begin()
	return func() {
		tr.deaf.Store(false)
		tr.must(tr.weixin.PushTicket(tr.Context()))
	}
}

// withdrawn: WeChat says so, and it is not true.
func withdrawn(tr *trial, at fetch) (end func()) {
	tr.weixin.Inject(sandbox.Fault{Path: at.path, ErrCode: 61003})
	return func() {
		tr.weixin.ClearFaults()
		_, err := tr.weixin.UpdateAuthorized(tr.Context(), theShop)
		tr.must(err)
	}
}

// stormOnPath: WeChat rejects every token, however good, on one path.
func stormOnPath(tr *trial, at fetch) (end func()) {
	path := authorizerCall
	if at.who.IsComponent() {
		path = componentCall
	}
	tr.weixin.Inject(sandbox.Fault{Path: path, ErrCode: 40001})
	return tr.weixin.ClearFaults
}

// storm: and also when the gateway asks.
func storm(tr *trial, at fetch) (end func()) {
	tr.weixin.Inject(sandbox.Fault{Path: askDomainIP, ErrCode: 40001})
	return stormOnPath(tr, at)
}

// otherProcess fetches tokens of its own every 20 seconds, whereupon ours die.
func otherProcess(tr *trial, at fetch) (end func()) {
	ctx, end := context.WithCancel(tr.Context())
	go func() {
		for ctx.Err() == nil {
			tr.weixin.KillTokens(appIDOf(at.who))
			time.Sleep(20 * time.Second)
		}
	}()
	return end
}

// tokenLifetime: WeChat tells this one for its tokens, which live two hours.
func tokenLifetime(told time.Duration) func(tr *trial, at fetch) (end func()) {
	return func(tr *trial, _ fetch) (end func()) {
		tr.weixin.SetSwitches(sandbox.Switches{ExpiresIn: int(told.Seconds())})
		tr.call(tr.who)
		time.Sleep(told / 2)
		tr.begin()
		return func() { tr.weixin.SetSwitches(sandbox.Switches{}) }
	}
}

// recordOff: the record was written by a node whose clock is off, and found by
// one that is an hour older than its token.
func recordOff(off time.Duration) func(tr *trial, at fetch) (end func()) {
	return func(tr *trial, at fetch) (end func()) {
		tr.call(tr.who)
		record := tr.record(at.who)
		record.Obtained, record.Expires = record.Obtained.Add(off), record.Expires.Add(off)
		_, err := tr.settings(1).Vault.Store(tr.Context(), at.who, record)
		tr.must(err)
		tr.node.memory.Drop(at.who)
		time.Sleep(90 * time.Minute)
		tr.begin()
		return func() {}
	}
}

// ticketOff: one ticket has a CreateTime that is off.
func ticketOff(off time.Duration) func(tr *trial, at fetch) (end func()) {
	return func(tr *trial, _ fetch) (end func()) {
		value := secret.New(tr.weixin.ValidToken(sandbox.KindTicket, ""))
		tr.must(tr.node.Ticket(tr.Context(), theComponent, value, time.Now().Add(off)))
		return func() {}
	}
}

// hidden: an authorized event came with a CreateTime an hour ahead, so that
// the unauthorized event after it looks older.
func hidden(tr *trial, _ fetch) (end func()) {
	tr.call(tr.who)
	tr.begin()
	record := tr.record(shop)
	record.EventTime = time.Now().Add(time.Hour)
	_, err := tr.settings(1).Vault.Store(tr.Context(), shop, record)
	tr.must(err)
	tr.must(tr.weixin.Revoke(tr.Context(), theShop))
	return func() {
		time.Sleep(time.Hour)
		tr.authorize(theShop)
	}
}
