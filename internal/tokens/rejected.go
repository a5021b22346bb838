// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// What follows when WeChat rejects a token. A rejection alone proves nothing: some
// paths reject every token, and for a while WeChat may reject good ones. If it were
// believed, one caller could make the gateway renew without end, or refuse to serve
// the others. So only proof renews: WeChat is asked about the token by a call of the
// gateway's own. Meanwhile the newest token goes on being served.

// replace returns a token for the repetition of a rejected call, see Keeper.Replace.
func (s *source) replace(ctx context.Context, who subject.Subject, r Rejection) (*Token, error) {
	now := time.Now()
	if token := s.memory.Get(who); token.replaces(r.Token, now) {
		return token, nil
	}
	if !now.Before(r.Token.Expires) {
		return s.wait(ctx, who, r.Client)
	}
	if s.doubts.Marked(who, r.Token, r.Caller, now) {
		return nil, r.asPathRejects()
	}
	if r.Client == "" && !s.doubts.AnonymousIsDue(who, now) {
		return nil, r.AsRejected(nil)
	}
	token, err := s.prove(ctx, who, r)
	if err == nil && !token.replaces(r.Token, now) {
		s.mark(who, r)
		return nil, r.asPathRejects()
	}
	return token, err
}

// prove asks WeChat about a rejected token. It returns that token if it is alive, and
// otherwise another one, which there may be already, or which is renewed.
func (s *source) prove(ctx context.Context, who subject.Subject, r Rejection) (*Token, error) {
	found, err := s.investigate(ctx, who, r.Token, r.Arrived)
	switch {
	case err != nil:
		return nil, err
	case found.newer != nil:
		return found.newer, nil
	case found.verdict == alive:
		s.doubts.Suspect(who, r.Token, false)
		return r.Token, nil
	}
	token, err := s.renewRejected(ctx, who, r)
	if errors.Is(err, problem.ErrRejected) {
		s.doubts.Suspect(who, r.Token, true)
	}
	return token, err
}

// mark notes that calls like this one are rejected although the token is alive. A
// call without a client leaves no mark: such calls are counted instead.
func (s *source) mark(who subject.Subject, r Rejection) {
	if r.Client == "" {
		return
	}
	pause := s.doubts.Mark(who, r.Token, r.Caller, time.Now())
	if pause == 0 {
		return
	}
	s.log(who).Warn("WeChat rejects a token on this path and says that it is alive",
		zap.String("client", strings.TrimSpace(r.Client)), zap.String("path", r.Path),
		zap.Int("errcode", r.Errcode), zap.String("rid", r.RID), zap.Duration("ask_again_in", pause))
}

// renewRejected renews a token that WeChat calls dead, or of which it says nothing.
// The renewal may be one that runs already, even ahead of expiry.
func (s *source) renewRejected(ctx context.Context, who subject.Subject, r Rejection) (*Token, error) {
	for range 2 { // the first may have begun with an older token
		token, err := s.fetch(ctx, who, r.Client, wanted{old: r.Token, forced: true})
		switch {
		case ctx.Err() != nil, errors.Is(err, problem.ErrUnauthorized), errors.Is(err, problem.ErrNeedsAdmin):
			return nil, err
		case err != nil:
			return nil, r.AsRejected(err)
		case token.replaces(r.Token, time.Now()):
			return token, nil
		}
	}
	return nil, r.AsRejected(nil)
}

// withToken makes a call of the gateway's own with who's token, for by. If WeChat
// rejects the token, the call is made once more with another one, see replace. While the
// token is suspect the call is not made, WeChat is asked about the token instead: that
// costs no quota of the call, and shows at once when WeChat has recovered. An
// error that concerns the component's token and not the call is marked as a
// componentError, so that the authorizer that the call was for does not cool down. If
// the token is alive, the rejection concerns the call: a client is told so, the
// gateway itself has WeChat's refusal.
func (s *source) withToken(ctx context.Context, who subject.Subject, by Caller, call func(token secret.Secret) error) error {
	token, err := s.current(ctx, who, by.Client)
	if err == nil && s.doubts.IsSuspect(who, token) {
		token, err = s.prove(ctx, who, Rejection{Caller: by, Token: token, Arrived: time.Now()})
	}
	if err != nil {
		return attributed(who, err)
	}
	err = call(token.Value)
	if openapi.KindOf(err) != openapi.TokenDead {
		s.accepted(who, token, by, err)
		return err
	}
	r := rejectionOf(err, token, by)
	newer, failure := s.replace(ctx, who, r)
	switch {
	case errors.Is(failure, problem.ErrPathRejects) && by.isItself():
		return err
	case errors.Is(failure, problem.ErrPathRejects):
		return failure
	case failure != nil:
		return attributed(who, failure)
	}
	if err = call(newer.Value); openapi.KindOf(err) == openapi.TokenDead {
		return attributed(who, rejectionOf(err, newer, by).AsRejected(err))
	}
	s.accepted(who, newer, by, err)
	return err
}

// accepted removes the mark of a call of the gateway's own, unless it has failed.
func (s *source) accepted(who subject.Subject, token *Token, by Caller, err error) {
	var refusal *openapi.Refusal
	if err == nil || errors.As(err, &refusal) && refusal.Code != -1 {
		s.doubts.Accepted(who, token, by)
	}
}

// rejectionOf returns what a refusal of WeChat's says of the token.
func rejectionOf(err error, token *Token, by Caller) Rejection {
	r := Rejection{Caller: by, Token: token, Arrived: time.Now()}
	var refusal *openapi.Refusal
	if errors.As(err, &refusal) {
		r.Errcode, r.RID = refusal.Code, openapi.RID(refusal.Message)
	}
	return r
}

// asPathRejects is what the caller is told if the token is alive.
func (r Rejection) asPathRejects() error { return r.because(problem.ErrPathRejects) }

// AsRejected is the problem that the caller is told if nobody knows whether the token is alive,
// or if there is no newer one; the cause is for the log and may be nil.
func (r Rejection) AsRejected(cause error) error {
	if cause == nil {
		return r.because(problem.ErrRejected)
	}
	return fmt.Errorf("%w: %w", r.because(problem.ErrRejected), cause)
}

// because adds to a problem how WeChat has rejected the token. WeChat's errmsg is not
// repeated: some server on the way may have written the request into it.
func (r Rejection) because(p *problem.Problem) error {
	switch {
	case r.Errcode == 0: // the call was not made
		return p
	case r.RID == "":
		return p.Because("errcode %d", r.Errcode)
	}
	return p.Because("errcode %d rid: %s", r.Errcode, r.RID)
}
