// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Queues shows operators what waits for the targets, and the dead letters, and acts
// on them. Each method takes the query of a request of the admin API; its errors are
// of type *Error.
type Queues struct {
	Courier  *delivery.Courier
	Settings delivery.Settings // of the current configuration
}

// List returns a page of what waits and of the dead letters after it, each in the
// order of client, target and arrival. The query has client, target, state, cursor
// and limit; those that are missing or empty do not count.
func (q Queues) List(ctx context.Context, query string) (Events, error) {
	values, err := parseQuery(query, "client", "target", "state", "cursor", "limit")
	if err != nil {
		return Events{}, err
	}
	states, err := parseStates(values.Get("state"))
	if err != nil {
		return Events{}, err
	}
	limit, err := paging{100, 1000}.parseLimit(values.Get("limit"))
	if err != nil {
		return Events{}, err
	}
	f := delivery.Filter{Client: values.Get("client"), Target: values.Get("target")}
	if err := q.mustKnow(ctx, f.Client, f.Target); err != nil {
		return Events{}, err
	}
	if cursor := values.Get("cursor"); cursor != "" {
		state, rest, _ := strings.Cut(cursor, ".")
		first := slices.Index(states, delivery.State(state))
		if first < 0 {
			return Events{}, failed(delivery.ErrBadCursor)
		}
		states, f.Cursor = states[first:], rest
	}
	return q.page(ctx, states, f, limit)
}

// page returns limit events in these states, from the place in the first of them at
// which the cursor of f is. A cursor of operators is the state and, after a point,
// the courier's cursor.
func (q Queues) page(ctx context.Context, states []delivery.State, f delivery.Filter, limit int) (Events, error) {
	page := Events{Items: []Event{}}
	for _, state := range states {
		free := limit - len(page.Items)
		f.Dead, f.Limit = state == delivery.StateDead, max(free, 1)
		part, err := q.Courier.Events(ctx, f)
		if err != nil {
			return Events{}, failed(err)
		}
		if free == 0 {
			if len(part.Items) > 0 {
				page.Next = string(state) + "."
			}
			return page, nil
		}
		for _, item := range part.Items {
			page.Items = append(page.Items, newEvent(state, item))
		}
		if part.Next != "" {
			page.Next = string(state) + "." + part.Next
			return page, nil
		}
		f.Cursor = ""
	}
	return page, nil
}

// newEvent returns what is shown of an item. News of the gateway's own are events.
func newEvent(state delivery.State, item delivery.Waiting) Event {
	if item.Kind == delivery.KindOwn {
		item.Kind = delivery.KindEvent
	}
	return Event{
		EventID: item.EventID, State: string(state), Client: item.Client, Target: item.Target,
		Component: item.Component, AppID: item.AppID, Kind: string(item.Kind), InfoType: item.InfoType,
		Queued: item.Queued.UTC(), Due: item.Due.UTC(), Attempts: item.Attempts, Failure: item.Failure,
	}
}

// Replay has what the query names delivered at once, see
// [delivery.Courier.Replay]: by client, target, event_id, since and state, or
// all=true.
func (q Queues) Replay(ctx context.Context, query string) (Count, error) {
	return q.act(ctx, query, "replayed", q.Courier.Replay)
}

// Discard deletes what the query names, as that of Replay.
func (q Queues) Discard(ctx context.Context, query string) (Count, error) {
	return q.act(ctx, query, "deleted", q.Courier.Discard)
}

func (q Queues) act(ctx context.Context, query, done string, do func(context.Context, delivery.Selection) (int, error)) (Count, error) {
	s, err := parseSelection(query)
	if err != nil {
		return Count{}, err
	}
	if err := q.mustKnow(ctx, s.Client, s.Target); err != nil {
		return Count{}, err
	}
	n, err := do(ctx, s)
	if err != nil {
		told := failed(err)
		told.Text = fmt.Sprintf("%s; %d were %s before that", told.Text, n, done)
		return Count{}, told
	}
	return Count{n}, nil
}

// Test sends a message that says it is a test to the target that the query names,
// or to all targets of the client, and waits for their answers. If one has not
// taken it, the error says which, and how many have.
func (q Queues) Test(ctx context.Context, query string) (Count, error) {
	values, err := parseAction(query, "client", "target")
	if err != nil {
		return Count{}, err
	}
	client, target := values.Get("client"), values.Get("target")
	if client == "" {
		return Count{}, invalid("name the client, and the target if it has several and one is meant", "no client is named")
	}
	n, err := q.Courier.Test(ctx, client, target)
	switch {
	case errors.Is(err, delivery.ErrNoTarget):
		return Count{}, unknown(client, target, q.configured())
	case err != nil:
		return Count{}, &Error{
			Status: http.StatusBadGateway,
			Text:   fmt.Sprintf("%s; targets that have taken the test: %d", strings.ReplaceAll(err.Error(), "\n", "; "), n),
			Remedy: "see whether the application runs, and whether it has the address, the token and the key of its deliver block",
		}
	}
	return Count{n}, nil
}

// mustKnow returns an error if there is no queue with these names, "" being any: no
// target is configured that has them, and nothing is stored for one.
func (q Queues) mustKnow(ctx context.Context, client, target string) error {
	names := q.configured()
	if client == "" && target == "" || has(names, client, target) {
		return nil
	}
	for _, dead := range []bool{false, true} {
		stored, err := q.Settings.Vault.Queues(ctx, dead)
		if err != nil {
			return failed(err)
		}
		names = append(names, stored...)
	}
	if has(names, client, target) {
		return nil
	}
	return unknown(client, target, names)
}

// configured returns the queues of the targets in the configuration.
func (q Queues) configured() []vault.Queue {
	return slices.Collect(maps.Keys(q.Settings.Targets))
}

// has reports whether one of the queues has these names, "" being any.
func has(names []vault.Queue, client, target string) bool {
	return slices.ContainsFunc(names, func(name vault.Queue) bool {
		return (client == "" || client == name.Client) && (target == "" || target == name.Target)
	})
}

// unknown returns the error for names that no queue has. The remedy lists the names
// that there are.
func unknown(client, target string, names []vault.Queue) *Error {
	known := make(map[string]bool)
	e := &Error{Status: http.StatusNotFound}
	switch {
	case client == "" || has(names, client, ""): // then it is the target
		for _, name := range names {
			if client == "" || client == name.Client {
				known[name.Target] = true
			}
		}
		e.Text = fmt.Sprintf("no target is called %q", target)
		if client != "" {
			e.Text = fmt.Sprintf("client %q has no target %q", client, target)
		}
	default:
		for _, name := range names {
			known[name.Client] = true
		}
		e.Text = fmt.Sprintf("no client with a target is called %q", client)
	}
	delete(known, "") // a queue of the release before
	e.Remedy = "known are: " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	if len(known) == 0 {
		e.Remedy = "give the client a deliver block in the configuration"
	}
	return e
}

// failed returns the error for one of the courier or the vault.
func failed(err error) *Error {
	if errors.Is(err, delivery.ErrBadCursor) {
		return invalid("begin without a cursor, then use the next of each page, with the same state", "the cursor is none that a page has ended with")
	}
	return storageFailed(err)
}

// storageFailed returns the error for one of the vault, whose text names the key.
func storageFailed(err error) *Error {
	return &Error{
		Status: http.StatusServiceUnavailable, Text: err.Error(),
		Remedy: "see whether Caddy's storage can be reached, and make the request again",
	}
}
