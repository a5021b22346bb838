// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
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
//	GET  /wechat/dead-events   authorisation events that could not be delivered, by client
//	GET  /wechat/authorizers   appids with a record, also those that have withdrawn; ?component=
//	POST /wechat/sync          ask WeChat for a page of its authorizers and store what is missing; ?component=&offset=
//	POST /wechat/reseal        seal a part of what is stored with the current key; ?component=&offset=
//
// The component may be left out if there is only one. A page of /wechat/sync
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
		{Pattern: "/wechat/dead-events", Handler: inForce(http.MethodGet, deadEvents)},
		{Pattern: "/wechat/authorizers", Handler: inForce(http.MethodGet, authorizers)},
		{Pattern: "/wechat/sync", Handler: inForce(http.MethodPost, syncPage)},
		{Pattern: "/wechat/reseal", Handler: inForce(http.MethodPost, resealPart)},
	}
}

// deadEvents answers with all dead letters, sorted by client and time. It reads
// each of them from the storage.
func deadEvents(s *state, w http.ResponseWriter, r *http.Request) error {
	dead := []operate.DeadEvent{}
	for f := (delivery.Filter{Dead: true}); ; {
		page, err := s.courier.Events(r.Context(), f)
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
		}
		for _, letter := range page.Items {
			dead = append(dead, operate.DeadEvent{
				Component: letter.Component, Client: letter.Client, AppID: letter.AppID,
				InfoType: letter.InfoType, Queued: letter.Queued, Attempts: letter.Attempts, Failure: letter.Failure,
			})
		}
		if f.Cursor = page.Next; f.Cursor == "" {
			return adminJSON(w, dead)
		}
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
		Resealed: done.Anew, Unreadable: done.Unreadable,
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
		if r.Method != method {
			return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed, want " + method)}
		}
		s := current()
		if s == nil {
			return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the wechat app is not running")}
		}
		return handler(s, w, r)
	})
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
