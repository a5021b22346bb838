// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	"github.com/caddy-wechat/caddy-wechat/internal/census"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/usage"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Operator is what an operator can see and do under one configuration. It is made for
// one request. Its methods take the query of a request of the admin API, and the appid
// that stands in its path; their errors are of type *Error. Those that change something
// say so in the audit.
type Operator struct {
	By      string // who it is, for the audit: "admin" where the face knows nobody
	Version string // of the gateway
	Node    string // the host name
	Began   time.Time

	Components []string // component_appids, in the order of their names
	Clients    []Client // in the order of their names
	Vault      *vault.Vault
	Engine     Engine
	Census     Census
	Queues     Queues
	Pushes     *pushlog.Log
	Usage      *usage.Table
	Advisor    *advice.Advisor
	Audit      *audit.Log
	Storage    func() metrics.StorageHealth // waits for nothing
	Hosts      Hosts
	Doctor     *Doctor
	Site       *Site
}

// Engine is what operators see and do of tokens. It is a tokens.Keeper.
type Engine interface {
	Health(who subject.Subject) (last tokens.Failure, coolingUntil time.Time)
	Renew(ctx context.Context, who subject.Subject) (expires time.Time, err error)
	Reread(ctx context.Context, who subject.Subject) error
	Forget(ctx context.Context, who subject.Subject) error
	Unsaved() int
	IsUnsaved(who subject.Subject) bool
	SyncPage(ctx context.Context, component string, offset int) (tokens.Synced, error)
	RequestTicket(ctx context.Context, component string) error
	TryComponent(ctx context.Context, component string) error
}

// Census knows the accounts of each component in the order of their last two digits,
// then of the appids. It is a census.Census.
type Census interface {
	Counts(component string) (counts census.Counts, counted bool)
	Page(ctx context.Context, component, after string, limit int) (appids []string, more bool, err error)
	Noted(ctx context.Context, component string, st vault.Standing, after string, limit int) (appids []string, more bool, err error)
	Wrong(component, appid string, listed vault.Standing)
}

// Client is an application, and the accounts for which it may act.
type Client struct {
	Name, Component string
	All             bool     // all accounts of the component
	Accounts        []string // else these appids, in the order of [Sort]
}

// Sort brings appids into the order of lists: that of the folders in the storage.
func Sort(appids []string) { slices.SortFunc(appids, compareAppIDs) }

func compareAppIDs(a, b string) int {
	if a == "" || b == "" || len(a) != len(b) {
		return strings.Compare(a, b)
	}
	if c := strings.Compare(a[len(a)-2:], b[len(b)-2:]); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}

// serves reports whether the client may act for the account.
func (c Client) serves(who subject.Subject) bool {
	if c.Component != who.Component() {
		return false
	}
	_, named := slices.BinarySearchFunc(c.Accounts, who.Authorizer(), compareAppIDs)
	return c.All || named
}

// component returns the component that a query names, or the only one.
func (o *Operator) component(values url.Values) (string, error) {
	named := values.Get("component")
	switch {
	case slices.Contains(o.Components, named):
		return named, nil
	case named == "" && len(o.Components) == 1:
		return o.Components[0], nil
	case named == "":
		return "", invalid("name one of: "+strings.Join(o.Components, ", "), "there are several components, and none is named")
	}
	return "", invalid("known are: "+strings.Join(o.Components, ", "), "component %q is not configured", named)
}

// client returns the client with a name.
func (o *Operator) client(name string) (Client, error) {
	for _, c := range o.Clients {
		if c.Name == name {
			return c, nil
		}
	}
	return Client{}, o.unknownClient(name)
}

// unknownClient returns the error for a client that is not configured.
func (o *Operator) unknownClient(name string) *Error {
	var known []string
	for _, c := range o.Clients {
		known = append(known, c.Name)
	}
	e := &Error{Status: http.StatusNotFound, Text: fmt.Sprintf("no client is called %q", name), Remedy: "known are: " + strings.Join(known, ", ")}
	if len(known) == 0 {
		e.Remedy = "give the configuration a client block"
	}
	return e
}

// did says in the audit what has been done to an object. A request that could not be
// meant has done nothing, and is not said.
func (o *Operator) did(action, object, before, after string, err error) {
	var told *Error
	if errors.As(err, &told) {
		if told.Status == http.StatusBadRequest || told.Status == http.StatusNotFound {
			return
		}
		after = "failed: " + told.Text
	}
	o.Audit.Action(audit.Action{Operator: o.By, Action: action, Object: object, Before: before, After: after})
}

// The requests of /wechat/events, see [Queues].

// Events is [Queues.List].
func (o *Operator) Events(ctx context.Context, query string) (Events, error) {
	return o.Queues.List(ctx, query)
}

// Replay is [Queues.Replay].
func (o *Operator) Replay(ctx context.Context, query string) (Count, error) {
	return o.count("replay", query)(o.Queues.Replay(ctx, query))
}

// Discard is [Queues.Discard].
func (o *Operator) Discard(ctx context.Context, query string) (Count, error) {
	return o.count("discard", query)(o.Queues.Discard(ctx, query))
}

// Test is [Queues.Test].
func (o *Operator) Test(ctx context.Context, query string) (Count, error) {
	return o.count("test", query)(o.Queues.Test(ctx, query))
}

// count returns a function that says in the audit what an action on the queues has done.
func (o *Operator) count(action, query string) func(Count, error) (Count, error) {
	return func(n Count, err error) (Count, error) {
		o.did(action, "events?"+query, "", fmt.Sprintf("count=%d", n.Count), err)
		return n, err
	}
}
