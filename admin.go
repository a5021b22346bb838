// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

func init() {
	caddy.RegisterModule(Admin{})
}

// Admin adds to Caddy's admin API what an operator has to see. It changes
// nothing and shows no secret.
//
//	GET /wechat/dead-events   authorisation events that no delivery reached, by client
type Admin struct{}

// CaddyModule returns the Caddy module information.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.wechat", New: func() caddy.Module { return new(Admin) }}
}

// Routes implements caddy.AdminRouter.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/wechat/dead-events", Handler: caddy.AdminHandlerFunc(deadEvents)}}
}

// deadEvent is an authorisation event that was given up.
type deadEvent struct {
	Component string    `json:"component"`
	Client    string    `json:"client"`
	AppID     string    `json:"appid"` // of the account, or of the component itself
	InfoType  string    `json:"info_type"`
	Queued    time.Time `json:"queued"`
	Attempts  int       `json:"attempts"`
	Failure   string    `json:"failure"`
}

func deadEvents(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed, want GET")}
	}
	state := running()
	if state == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("the wechat app is not running")}
	}
	dead := []deadEvent{}
	for queue := range state.settings.Load().deliveries.Targets {
		letters, err := state.courier.DeadLetters(r.Context(), queue)
		if err != nil {
			return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err}
		}
		for _, letter := range letters {
			dead = append(dead, deadEventOf(letter))
		}
	}
	slices.SortFunc(dead, func(a, b deadEvent) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), a.Queued.Compare(b.Queued))
	})
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(dead)
}

func deadEventOf(e vault.Event) deadEvent {
	return deadEvent{
		Component: e.Component, Client: e.Client, AppID: e.AppID,
		InfoType: e.InfoType, Queued: e.Queued, Attempts: e.Attempts, Failure: e.Failure,
	}
}

// running returns the state in force. The admin API is built before the apps
// are, so it asks the pool at every call and holds nothing.
func running() (state *shared) {
	pool.Range(func(_, value any) bool {
		state = value.(*shared)
		return false
	})
	return state
}

var _ caddy.AdminRouter = (*Admin)(nil)
