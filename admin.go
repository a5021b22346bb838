// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/command"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

func init() {
	caddy.RegisterModule(Admin{})
	caddycmd.RegisterCommand(caddycmd.Command{Name: "wechat", Short: "Tools of the WeChat gateway", CobraFunc: command.Root})
}

// Admin adds the requests of operators to Caddy's admin API. No answer has a secret.
//
//	GET  /wechat/status             whether the gateway is well: components, storage, warnings
//	GET  /wechat/health/live        whether a configuration is in force
//	GET  /wechat/health/ready       whether storage has answered as well
//	GET  /wechat/accounts           the accounts of a component; ?component=&q=&state=&client=&lang=&cursor=&limit=
//	GET  /wechat/accounts/<appid>   one of them; ?component=&lang=
//	POST /wechat/accounts/<appid>/renew    have WeChat issue a new token; the same
//	POST /wechat/accounts/<appid>/reread   ask WeChat who the account is; the same
//	POST /wechat/accounts/<appid>/forget   delete what is stored of one that has withdrawn; the same
//	GET  /wechat/pushes             the last pushes to this node; ?component=&appid=&outcome=&limit=
//	GET  /wechat/usage              who has called what on this node; ?client=&appid=&limit=
//	POST /wechat/doctor             have the gateway examine itself; the body is what GET /config/ answers, or empty
//	GET  /wechat/events             what waits for delivery, and dead letters, without bodies; ?client=&target=&state=&cursor=&limit=
//	POST /wechat/events/replay      deliver it at once; ?client=&target=&event_id=&since=&state=, or ?all=true
//	POST /wechat/events/discard     delete it; the same
//	POST /wechat/events/test        send a test to the targets of a client; ?client=&target=
//	POST /wechat/sync               ask WeChat for a page of its authorizers and store what is missing; ?component=&offset=
//	POST /wechat/reseal             seal a part of what is stored with the current key; ?component=&offset=
//
// Package operate says what the requests take and answer. The component may be left
// out if there is only one.
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.wechat", New: func() caddy.Module { return new(Admin) }}
}

// Routes returns the requests and their handlers. Caddy calls it before any app
// exists, so the handlers look for the state at each request. Caddy's metrics of the
// admin API have the patterns as labels, so no appid stands in one.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/wechat/status", Handler: inForce(http.MethodGet, on((*operate.Operator).Status))},
		{Pattern: "/wechat/health/live", Handler: inForce(http.MethodGet, on((*operate.Operator).Live))},
		{Pattern: "/wechat/health/ready", Handler: inForce(http.MethodGet, on((*operate.Operator).Ready))},
		{Pattern: "/wechat/accounts", Handler: inForce(http.MethodGet, on((*operate.Operator).Accounts))},
		{Pattern: "/wechat/accounts/", Handler: caddy.AdminHandlerFunc(onAccount)},
		{Pattern: "/wechat/pushes", Handler: inForce(http.MethodGet, on((*operate.Operator).Recent))},
		{Pattern: "/wechat/usage", Handler: inForce(http.MethodGet, on((*operate.Operator).Calls))},
		{Pattern: "/wechat/doctor", Handler: inForce(http.MethodPost, diagnose)},
		{Pattern: "/wechat/events", Handler: inForce(http.MethodGet, on((*operate.Operator).Events))},
		{Pattern: "/wechat/events/replay", Handler: inForce(http.MethodPost, on((*operate.Operator).Replay))},
		{Pattern: "/wechat/events/discard", Handler: inForce(http.MethodPost, on((*operate.Operator).Discard))},
		{Pattern: "/wechat/events/test", Handler: inForce(http.MethodPost, on((*operate.Operator).Test))},
		{Pattern: "/wechat/sync", Handler: inForce(http.MethodPost, on((*operate.Operator).Sync))},
		{Pattern: "/wechat/reseal", Handler: inForce(http.MethodPost, on((*operate.Operator).Reseal))},
	}
}

// answering is the handler of an operator's request. An error is for adminError.
type answering func(o *operate.Operator, w http.ResponseWriter, r *http.Request) error

// on returns the handler that answers with what do returns. A body is refused:
// parameters in it would be overlooked, and more be meant than the operator has said.
// What has been begun is brought to its end, whether or not somebody waits: Caddy's admin
// API ends the context of each request after ten seconds, as though he had hung up. Those
// that only look end with it.
func on[Answer any](do func(*operate.Operator, context.Context, string) (Answer, error)) answering {
	return func(o *operate.Operator, w http.ResponseWriter, r *http.Request) error {
		if r.ContentLength != 0 {
			return &operate.Error{Status: http.StatusBadRequest, Text: "the request has a body", Remedy: "write the parameters into the query of the URL"}
		}
		ctx := r.Context()
		if r.Method != http.MethodGet {
			within, cancel := context.WithTimeout(context.WithoutCancel(ctx), operate.ActionTimeout)
			defer cancel()
			ctx = within
		}
		answer, err := do(o, ctx, r.URL.RawQuery)
		return respond(w, answer, err)
	}
}

// diagnose handles the one request with a body.
func diagnose(o *operate.Operator, w http.ResponseWriter, r *http.Request) error {
	answer, err := o.Diagnose(r.Context(), r.URL.RawQuery, r.Body)
	return respond(w, answer, err)
}

func respond(w http.ResponseWriter, answer any, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(answer)
}

// onAccount handles the requests about one account, whose appid stands in the path.
func onAccount(w http.ResponseWriter, r *http.Request) error {
	appid, action, isAction := strings.Cut(strings.TrimPrefix(r.URL.Path, "/wechat/accounts/"), "/")
	method, do := http.MethodPost, answering(nil)
	switch {
	case !isAction:
		method, do = http.MethodGet, on(about((*operate.Operator).Account, appid))
	case action == "renew":
		do = on(about((*operate.Operator).Renew, appid))
	case action == "reread":
		do = on(about((*operate.Operator).Reread, appid))
	case action == "forget":
		do = on(about((*operate.Operator).Forget, appid))
	default:
		return adminError(w, &operate.Error{Status: http.StatusNotFound, Text: "there is no such request about an account", Remedy: "use renew, reread or forget after the appid, or nothing"})
	}
	return inForce(method, do).ServeHTTP(w, r)
}

// about returns what do does with one account.
func about[Answer any](do func(*operate.Operator, context.Context, string, string) (Answer, error), appid string) func(*operate.Operator, context.Context, string) (Answer, error) {
	return func(o *operate.Operator, ctx context.Context, query string) (Answer, error) {
		return do(o, ctx, appid, query)
	}
}

// inForce returns an admin handler that checks the method and calls handler for an
// operator of the configuration in force. If there is none with the app, it answers 404.
func inForce(method string, handler answering) caddy.AdminHandler {
	return caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		s, err := current(), error(nil)
		switch {
		case r.Method != method:
			w.Header().Set("Allow", method)
			err = &operate.Error{Status: http.StatusMethodNotAllowed, Text: "method not allowed, want " + method, Remedy: "use " + method}
		case s == nil:
			err = &operate.Error{Status: http.StatusNotFound, Text: "the wechat app is not running", Remedy: "load a configuration with a wechat block"}
		default:
			err = handler(s.operator(), w, r)
		}
		return adminError(w, err)
	})
}

// operator returns what an operator sees and does under the current settings. Caddy does
// not know who uses its admin API.
func (s *state) operator() *operate.Operator {
	in := s.settings.Load()
	return &operate.Operator{
		By: "admin", Version: s.version, Node: s.node, Began: s.began,
		Components: slices.Sorted(maps.Keys(in.tokens.Components)), Clients: in.operable, Vault: s.vault, Engine: s.keeper, Census: s.census,
		Queues: operate.Queues{Courier: s.courier, Settings: in.deliveries}, Pushes: s.pushed, Usage: s.usage, Advisor: s.advisor,
		Audit: in.audits, Storage: s.metered.Health, Hosts: in.tokens.API, Doctor: s.doctor, Site: in.site,
	}
}

// operable returns the clients as operators see them, in the order of their names.
func (a *App) operable() (clients []operate.Client) {
	for _, name := range slices.Sorted(maps.Keys(a.Clients)) {
		c := a.Clients[name]
		if c == nil {
			c = new(Client)
		}
		of, _, _ := subject.Named(a.components, c.Component) // Provision has checked it
		client := operate.Client{Name: name, Component: of, Accounts: slices.Clone(c.Authorizers)}
		if slices.Contains(c.Authorizers, "*") {
			client.All, client.Accounts = true, nil
		}
		operate.Sort(client.Accounts)
		clients = append(clients, client)
	}
	return clients
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
