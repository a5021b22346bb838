// SPDX-License-Identifier: Apache-2.0

// Package problem decides what a caller is told about a failure: the errcode,
// the HTTP status and the text. No other package decides what of an error is
// public.
//
// Entry points: [Of] for the decision, [Write] for the answer.
package problem

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Problem is an error answer of the gateway itself, with everything that the
// caller sees. The answer has the form of WeChat's errors,
// {"errcode":N,"errmsg":"… (gateway)"}, and the slug in the header
// Wechat-Gateway-Error. An error that WeChat also has is answered with HTTP
// 200, as WeChat does, so that every SDK shows the text. The statuses 401, 413
// and 5xx are for errors that only a gateway has.
//
// The problems below are shared by all goroutines and must not be changed.
type Problem struct {
	Status  int    // HTTP status
	Errcode int    // WeChat's number for an error of this kind, or -1
	Slug    string // names the problem in the header, in metrics and in logs
	Text    string // for the caller; contains no secret
}

// Error returns the text for the caller.
func (p *Problem) Error() string { return p.Text }

// Because returns a copy of p with more text. The caller of the gateway sees
// the text, so no argument may contain a secret or text of another error.
func (p *Problem) Because(format string, args ...any) *Problem {
	more := *p
	more.Text += ": " + fmt.Sprintf(format, args...)
	return &more
}

// Is reports whether target is the same problem. errors.Is calls it, so that it
// also finds the copies that Because has made. Two problems share the slug "rejected".
func (p *Problem) Is(target error) bool {
	other, ok := target.(*Problem)
	return ok && other.Slug == p.Slug && other.Errcode == p.Errcode
}

// The problems in the table of docs/errors.md. Only the first two may have the
// errcode 40001, 40014 or 42001. At these an SDK fetches another token and
// repeats the call. For another problem the repeated call would fail as well,
// and some SDKs repeat it without an end.
var (
	ErrTokenExpired   = &Problem{http.StatusOK, 42001, "token_expired", "access_token expired, fetch a new one from the gateway"}
	ErrTokenUnknown   = &Problem{http.StatusOK, 40001, "token_unknown", "invalid credential, access_token is not of this gateway or its client or secret was removed"}
	ErrTokenMissing   = &Problem{http.StatusOK, 41001, "token_missing", "access_token missing"}
	ErrAppIDMissing   = &Problem{http.StatusOK, 41002, "appid_missing", "appid missing"}
	ErrComponent      = &Problem{http.StatusOK, 40013, "component", "invalid component_appid, the client works under another platform"}
	ErrClientSecret   = &Problem{http.StatusOK, 40125, "client_secret", "invalid appsecret, use the client's secret at the gateway"}
	ErrBearer         = &Problem{http.StatusUnauthorized, 40125, "bearer", "Authorization: Bearer wants a client secret of the gateway"}
	ErrAddress        = &Problem{http.StatusOK, 40164, "address", "invalid ip, this client may not call from this address"}
	ErrNotAllowed     = &Problem{http.StatusOK, 48001, "not_allowed", "api unauthorized for this client"}
	ErrUnauthorized   = &Problem{http.StatusOK, 61003, "not_authorized", "authorizer is not authorized to this component or not granted to this client"}
	ErrWantComponent  = &Problem{http.StatusOK, 61014, "want_component", "must use component token for component api"}
	ErrWantAuthorizer = &Problem{http.StatusOK, 61015, "want_authorizer", "must use authorizer token for this api"}
	ErrCodeUnknown    = &Problem{http.StatusOK, 61009, "code_unknown", "invalid authorization_code, it is not of this gateway, or its client or secret was removed"}
	ErrCodeExpired    = &Problem{http.StatusOK, 61010, "code_expired", "authorization_code expired, it came with an event more than an hour ago"}
	ErrNeedsAdmin     = &Problem{http.StatusOK, 61023, "needs_authorization", "refresh_token is lost, the account's admin must authorize again"}
	ErrForeignRefresh = &Problem{http.StatusOK, 61023, "foreign_refresh_token", "refresh_token is invalid, it was given for another authorizer"}
	ErrNoTicket       = &Problem{http.StatusServiceUnavailable, 61005, "no_ticket", "no component_verify_ticket yet, WeChat pushes one every 10 minutes"}
	ErrNoComponent    = &Problem{http.StatusServiceUnavailable, 61005, "component_token", "component_access_token cannot be had at present"}
	ErrUnreachable    = &Problem{http.StatusBadGateway, -1, "unreachable", "WeChat cannot be reached"}
	ErrTimeout        = &Problem{http.StatusGatewayTimeout, -1, "timeout", "WeChat did not answer in time"}
	ErrLoop           = &Problem{http.StatusBadGateway, -1, "loop", "a gateway answers in WeChat's place: does the host in api lead to the gateway itself, by DNS for instance?"}
	ErrStorage        = &Problem{http.StatusServiceUnavailable, -1, "storage", "storage is unavailable"}
	ErrRefused        = &Problem{http.StatusServiceUnavailable, -1, "refused", "WeChat refuses to issue a token"}
	ErrPathRejects    = &Problem{http.StatusOK, 48001, "rejected", "WeChat rejects on this path a token that is alive"}
	ErrRejected       = &Problem{http.StatusServiceUnavailable, -1, "rejected", "WeChat rejects the token and there is no newer one yet, try again later"}
	ErrNotKept        = &Problem{http.StatusServiceUnavailable, -1, "not_kept", "the token was renewed, but the request body was not kept to be sent once more, try again"}
	ErrRationed       = &Problem{http.StatusServiceUnavailable, -1, "rationed", "too many unknown authorizers were asked for, try again later"}
	ErrBadRequest     = &Problem{http.StatusOK, 47001, "bad_request", "data format error"}
	ErrTooLarge       = &Problem{http.StatusRequestEntityTooLarge, 47001, "too_large", "request body too large"}
)

// Slugs returns the slugs of all problems, each once.
func Slugs() (slugs []string) {
	for _, p := range []*Problem{
		ErrTokenExpired, ErrTokenUnknown, ErrTokenMissing, ErrAppIDMissing, ErrComponent, ErrClientSecret, ErrBearer, ErrAddress,
		ErrNotAllowed, ErrUnauthorized, ErrWantComponent, ErrWantAuthorizer, ErrCodeUnknown, ErrCodeExpired, ErrNeedsAdmin, ErrForeignRefresh,
		ErrNoTicket, ErrNoComponent, ErrUnreachable, ErrTimeout, ErrLoop, ErrStorage, ErrRefused, ErrPathRejects, ErrRejected,
		ErrNotKept, ErrRationed, ErrBadRequest, ErrTooLarge,
	} {
		if !slices.Contains(slugs, p.Slug) {
			slugs = append(slugs, p.Slug)
		}
	}
	return slugs
}

// Of returns the problem with which err is answered. err must not be nil. If
// err wraps a problem, it is that one. Of any other error only the kind is
// used, and of a refusal by WeChat the errcode. Its text is never used: it may
// quote a credential. An error of unknown kind is ErrUnreachable.
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
	case errors.As(err, &tooLarge): // a body is longer than a limit that is set in Caddy
		return ErrTooLarge
	case errors.Is(err, vault.ErrUnavailable):
		return ErrStorage
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return ErrTimeout
	default:
		return ErrUnreachable
	}
}

// OfBody returns the problem for an error while a request body was read. A body
// that is longer than a limit set in Caddy is ErrTooLarge, any other
// ErrBadRequest: the body did not arrive completely, or too slowly.
func OfBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return ErrTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrBadRequest.Because("the request body did not arrive in time")
	}
	return ErrBadRequest.Because("the request body broke off")
}
