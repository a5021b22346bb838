// SPDX-License-Identifier: Apache-2.0

// Package problem says what callers are told of a failure: which errcode, which
// HTTP status, which words. It decides in one place what of an error is public.
package problem

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Problem is a refusal of the gateway's own: all that a caller is shown of it.
// It is answered in WeChat's own shape, {"errcode":N,"errmsg":"… (gateway)"},
// with the header Wechat-Gateway-Error carrying the slug. What WeChat itself
// could say comes with HTTP 200, as from WeChat, so that every SDK shows the
// text; 401 and 5xx are for what is not WeChat's to say.
type Problem struct {
	Status  int
	Errcode int
	Slug    string
	Text    string
}

func (p *Problem) Error() string { return p.Text }

// Because returns a copy of p that says more, still fit for callers.
func (p *Problem) Because(format string, args ...any) *Problem {
	more := *p
	more.Text += ": " + fmt.Sprintf(format, args...)
	return &more
}

// Is makes errors.Is find a problem under whatever text it carries.
func (p *Problem) Is(target error) bool {
	other, ok := target.(*Problem)
	return ok && other.Slug == p.Slug
}

// The refusals of README's error table. None but the first two is ever 40001, 40014 or
// 42001: SDKs fetch a new token and repeat on those, and so would loop.
var (
	ErrTokenExpired   = &Problem{http.StatusOK, 42001, "token_expired", "access_token expired, fetch a new one from the gateway"}
	ErrTokenUnknown   = &Problem{http.StatusOK, 40001, "token_unknown", "invalid credential, access_token is not of this gateway or its client or secret was removed"}
	ErrTokenMissing   = &Problem{http.StatusOK, 41001, "token_missing", "access_token missing"}
	ErrAppIDMissing   = &Problem{http.StatusOK, 41002, "appid_missing", "appid missing"}
	ErrComponent      = &Problem{http.StatusOK, 40013, "component", "invalid component_appid, the client works under another platform"}
	ErrClientSecret   = &Problem{http.StatusOK, 40125, "client_secret", "invalid appsecret, use the client's secret at the gateway"}
	ErrBearer         = &Problem{http.StatusUnauthorized, 40125, "bearer", "Authorization: Bearer wants a client secret of the gateway"}
	ErrNotAllowed     = &Problem{http.StatusOK, 48001, "not_allowed", "api unauthorized for this client"}
	ErrUnauthorized   = &Problem{http.StatusOK, 61003, "not_authorized", "authorizer is not authorized to this component or not granted to this client"}
	ErrWantComponent  = &Problem{http.StatusOK, 61014, "want_component", "must use component token for component api"}
	ErrWantAuthorizer = &Problem{http.StatusOK, 61015, "want_authorizer", "must use authorizer token for this api"}
	ErrNeedsAdmin     = &Problem{http.StatusOK, 61023, "needs_authorization", "refresh_token is lost, the account's admin must authorize again"}
	ErrForeignRefresh = &Problem{http.StatusOK, 61023, "foreign_refresh_token", "refresh_token is invalid, it was given for another authorizer"}
	ErrNoTicket       = &Problem{http.StatusServiceUnavailable, 61005, "no_ticket", "no component_verify_ticket yet, WeChat pushes one every 10 minutes"}
	ErrNoComponent    = &Problem{http.StatusServiceUnavailable, 61005, "component_token", "component_access_token cannot be had at present"}
	ErrUnreachable    = &Problem{http.StatusBadGateway, -1, "unreachable", "WeChat cannot be reached"}
	ErrTimeout        = &Problem{http.StatusGatewayTimeout, -1, "timeout", "WeChat did not answer in time"}
	ErrLoop           = &Problem{http.StatusBadGateway, -1, "loop", "a gateway answers in WeChat's place: does the host in api lead to the gateway itself, by DNS for instance?"}
	ErrStorage        = &Problem{http.StatusServiceUnavailable, -1, "storage", "storage is unavailable"}
	ErrRefused        = &Problem{http.StatusServiceUnavailable, -1, "refused", "WeChat refuses to issue a token"}
	ErrContended      = &Problem{http.StatusServiceUnavailable, -1, "contended", "tokens die as soon as they are issued, another process uses the same credentials"}
	ErrRationed       = &Problem{http.StatusServiceUnavailable, -1, "rationed", "too many unknown authorizers were asked for, try again later"}
	ErrBadRequest     = &Problem{http.StatusOK, 47001, "bad_request", "data format error"}
	ErrTooLarge       = &Problem{http.StatusRequestEntityTooLarge, 47001, "too_large", "request body too large"}
)

// Of is the one switch from error to public answer. Errors that are not problems
// themselves contribute their kind, never their text: it may quote a credential.
func Of(err error) *Problem {
	var problem *Problem
	var refusal *openapi.Refusal
	var netErr net.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &refusal):
		return ErrRefused.Because("errcode %d", refusal.Code)
	case errors.As(err, &tooLarge): // a streamed body met a limit set in Caddy
		return ErrTooLarge
	case errors.Is(err, vault.ErrUnavailable):
		return ErrStorage
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return ErrTimeout
	default:
		return ErrUnreachable
	}
}

// OfBody is the problem of a request body that could not be read: it tells a body
// that a limit has cut from one that did not arrive.
func OfBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return ErrTooLarge
	}
	return ErrBadRequest.Because("the request body broke off")
}
