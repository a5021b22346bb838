// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// questionTimeout is how long WeChat is given to say whether a token is alive, and
// storage to say whether there is a newer one.
const questionTimeout = 2 * time.Second

// verdict is what WeChat says of a token when the gateway itself asks.
type verdict uint8

const (
	unknown verdict = iota // no answer in time, or none that says anything
	dead
	alive
)

// finding is what was found out about a rejected token.
type finding struct {
	newer   *Token // is in force in its place; nobody was asked
	about   *Token
	asked   time.Time
	verdict verdict
}

// investigate finds out about a token of who that WeChat has rejected in an answer
// that arrived at the given time: whether there is a newer one, or else what WeChat
// says of it. One question about who runs at a time, and one starts in a second at
// most; all who wait share it, but for those whose rejection arrived later than it
// was sent. The verdict is unknown if there is none. It waits no longer than ctx.
func (r *records) investigate(ctx context.Context, who subject.Subject, token *Token, arrived time.Time) (finding, error) {
	for range 3 { // the second is mostly the one: the first was sent too early
		found, err := await[finding](ctx, r.join(string(who)+" question", func(ctx context.Context) (any, error) {
			return r.ask(ctx, who, token), nil
		}))
		switch {
		case err != nil:
			return finding{}, err
		case found.newer.replaces(token, time.Now()):
			return found, nil
		case found.about != nil && found.about.Value.Equal(token.Value) && !found.asked.Before(arrived):
			return found, nil
		}
	}
	return finding{about: token}, nil
}

// ask looks for a newer token, and otherwise asks WeChat about this one.
func (r *records) ask(ctx context.Context, who subject.Subject, token *Token) finding {
	switch newer, withdrawn := r.stored(ctx, who, token); {
	case newer != nil:
		return finding{newer: newer}
	case withdrawn: // another node was told
		r.revoke(who, token)
		return finding{about: token, asked: time.Now(), verdict: dead}
	}
	if wait := r.doubts.ReserveQuestion(who, time.Now()); wait > 0 {
		if !backoff.Wait(ctx, wait) {
			return finding{about: token}
		}
		if newer := r.memory.Get(who); newer.replaces(token, time.Now()) {
			return finding{newer: newer}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	asked := time.Now()
	return finding{about: token, asked: asked, verdict: verdictOf(r.settings().API.TestToken(ctx, token.Value))}
}

// stored returns the token that is in force in the place of token, from memory or
// from the vault; nil if there is none, or if storage does not tell. Withdrawn says
// that the account has withdrawn its authorization.
func (r *records) stored(ctx context.Context, who subject.Subject, token *Token) (newer *Token, withdrawn bool) {
	if held := r.memory.Get(who); held.replaces(token, time.Now()) {
		return held, false
	}
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	record, err := r.load(ctx, who)
	if err != nil {
		return nil, false
	}
	if found := r.tokenOf(who, record); found.replaces(token, time.Now()) {
		return r.remember(who, found), false
	}
	return nil, record.State == vault.Unauthorized
}

// verdictOf reads WeChat's answer to openapi.Client.TestToken. Whoever is refused for
// another reason than the token has shown a good one.
func verdictOf(err error) verdict {
	var refusal *openapi.Refusal
	switch {
	case err == nil:
		return alive
	case !errors.As(err, &refusal), refusal.Code == -1:
		return unknown
	case openapi.RejectsToken(refusal.Code):
		return dead
	}
	return alive
}
