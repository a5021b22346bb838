// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin adds the requests of operators to Caddy's admin API. No answer contains
// a secret.
//
//	GET  /wechat/events           what waits for delivery, and dead letters, without bodies; ?client=&target=&state=&cursor=&limit=
//	POST /wechat/events/replay    deliver it at once; ?client=&target=&event_id=&since=&state=, or ?all=true
//	POST /wechat/events/discard   delete it; the same
//	POST /wechat/events/test      send a test to the targets of a client; ?client=&target=
//	GET  /wechat/authorizers      appids with a record, also those that have withdrawn; ?component=
//	POST /wechat/sync             ask WeChat for a page of its authorizers and store what is missing; ?component=&offset=
//	POST /wechat/reseal           seal a part of what is stored with the current key; ?component=&offset=
//
// Package operate says what the requests of /wechat/events take and answer. The
// component may be left out if there is only one. A page of /wechat/sync
// has 500 authorizers. The answer says how many there are, and the offset of
// the next page: {"component":"…","next":500,"total":1234}. A page of
// /wechat/reseal is one of 257 parts. Its answer also says how many files were
// sealed, {…,"resealed":12}, and lists under "unreadable" the files that no key
// opens.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.wechat", New: func() caddy.Module { return new(Admin) }}
}

// Routes returns the requests and their handlers. Caddy calls it before any app
// exists, so the handlers look for the state at each request.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/wechat/events", Handler: inForce(http.MethodGet, onQueues(operate.Queues.List))},
		{Pattern: "/wechat/events/replay", Handler: inForce(http.MethodPost, onQueues(operate.Queues.Replay))},
		{Pattern: "/wechat/events/discard", Handler: inForce(http.MethodPost, onQueues(operate.Queues.Discard))},
		{Pattern: "/wechat/events/test", Handler: inForce(http.MethodPost, onQueues(operate.Queues.Test))},
		{Pattern: "/wechat/authorizers", Handler: inForce(http.MethodGet, authorizers)},
		{Pattern: "/wechat/sync", Handler: inForce(http.MethodPost, syncPage)},
		{Pattern: "/wechat/reseal", Handler: inForce(http.MethodPost, resealPart)},
	}
}

// onQueues returns the handler of a request that shows the queues or acts on them. A
// body is refused: parameters in it would be overlooked, and more be meant than the
// operator has said.
func onQueues[Answer any](do func(operate.Queues, context.Context, string) (Answer, error)) func(*state, http.ResponseWriter, *http.Request) error {
	return func(s *state, w http.ResponseWriter, r *http.Request) error {
		if r.ContentLength != 0 {
			return &operate.Error{Status: http.StatusBadRequest, Text: "the request has a body", Remedy: "write the parameters into the query of the URL"}
		}
		answer, err := do(operate.Queues{Courier: s.courier, Settings: s.settings.Load().deliveries}, r.Context(), r.URL.RawQuery)
		if err != nil {
			return err
		}
		return adminJSON(w, answer)
	}
}

// authorizers answers with the appids of all records of a component.
func authorizers(s *state, w http.ResponseWriter, r *http.Request) error {
	in := s.settings.Load()
	component, err := in.requestedComponent(r)
	if err != nil {
		return err
	}
	appids, err := in.tokens.Vault.List(r.Context(), component)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	return adminJSON(w, appids)
}

// syncPage answers with the progress after one page of WeChat's list. The
// keeper has stored the refresh tokens on it by then. An empty page before the
// end, which would make the caller repeat it for ever, counts as the last one.
func syncPage(s *state, w http.ResponseWriter, r *http.Request) error {
	component, offset, err := s.settings.Load().requestedPage(r)
	if err != nil {
		return err
	}
	list, err := s.keeper.AuthorizerList(r.Context(), component, tokens.Itself, offset, openapi.MaxListed)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusBadGateway, Err: err}
	}
	page := operate.Progress{Component: component, Next: offset + len(list.Authorizers), Total: list.Total}
	if len(list.Authorizers) == 0 {
		page.Next = list.Total
	}
	return adminJSON(w, page)
}

// resealPart answers with the result for one part, see [vault.Vault.Reseal].
// The offset is the number of the part.
func resealPart(s *state, w http.ResponseWriter, r *http.Request) error {
	in := s.settings.Load()
	component, part, err := in.requestedPage(r)
	if err == nil && part >= vault.Parts {
		err = caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("offset is not below %d", vault.Parts)}
	}
	if err != nil {
		return err
	}
	done, err := in.tokens.Vault.Reseal(r.Context(), component, part)
	if err != nil {
		return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
	}
	return adminJSON(w, operate.Resealed{
		Progress: operate.Progress{Component: component, Next: part + 1, Total: vault.Parts},
		Resealed: done.Anew, Unreadable: append([]string{}, done.Unreadable...),
	})
}

// requestedPage returns the component and the offset in the query of a request.
// The offset is 0 if it is missing.
func (s *settings) requestedPage(r *http.Request) (component string, offset int, err error) {
	if component, err = s.requestedComponent(r); err != nil {
		return "", 0, err
	}
	if text := r.URL.Query().Get("offset"); text != "" {
		if offset, err = strconv.Atoi(text); err != nil || offset < 0 {
			return "", 0, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: errors.New("offset is not a number from 0")}
		}
	}
	return component, offset, nil
}

// requestedComponent returns the component in the query of a request, or else
// the only one.
func (s *settings) requestedComponent(r *http.Request) (string, error) {
	component, _, ok := subject.Named(s.tokens.Components, r.URL.Query().Get("component"))
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(s.tokens.Components)), ", ")
		return "", caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("component is not one of: %s", known)}
	}
	return component, nil
}

// adminJSON writes an answer.
func adminJSON(w http.ResponseWriter, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

// inForce returns an admin handler that checks the method and calls handler
// with the state of the process. If there is none, because no configuration has
// the app, it answers 404.
func inForce(method string, handler func(*state, http.ResponseWriter, *http.Request) error) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s, err := current(), error(nil)
		switch {
		case r.Method != method:
			w.Header().Set("Allow", method)
			err = &operate.Error{Status: http.StatusMethodNotAllowed, Text: "method not allowed, want " + method, Remedy: "use " + method}
		case s == nil:
			err = &operate.Error{Status: http.StatusNotFound, Text: "the wechat app is not running", Remedy: "load a configuration with a wechat block"}
		default:
			err = handler(s, w, r)
		}
		return adminError(w, err)
	})
}

// adminError answers with an operate.Error. Caddy answers with all other errors.
func adminError(w http.ResponseWriter, err error) error {
	var told *operate.Error
	if !errors.As(err, &told) {
		return err
	}
	caddy.Log().Named("admin.api").Error("request error", zap.Error(told), zap.Int("status_code", told.Status)) // as Caddy does
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(told.Status)
	return json.NewEncoder(w).Encode(told)
}

// current returns the state of the process, nil if no configuration has the
// app. The caller must not keep it: it has no reference of its own in the pool.
func current() (s *state) {
	pool.Range(func(_, value any) bool {
		s = value.(*state)
		return false
	})
	return s
}

var _ caddy.AdminRouter = (*Admin)(nil)
