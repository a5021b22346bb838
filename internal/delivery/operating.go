// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"path"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// maxReading is how long a page goes on to read items: a storage may be slow, and
	// Caddy's admin API ends a request after ten seconds.
	maxReading = 4 * time.Second
)

var (
	// ErrNothingNamed means that a selection names nothing and does not ask for
	// all.
	ErrNothingNamed = errors.New("nothing is named: say which client, target, event_id or since, or all")
	// ErrBadCursor means that a cursor was not made by Events.
	ErrBadCursor = errors.New("the cursor is none that a page has ended with")
	// ErrNoTarget means that no target of the configuration has these names.
	ErrNoTarget = errors.New("no such target is configured")
)

// Filter says which items Events returns.
type Filter struct {
	Client, Target string // "": of all
	Dead           bool   // dead letters, and not what waits
	Cursor         string // Page.Next of the page before; "" for the first one
	Limit          int    // items on a page, at most 1000; 0 means 100
}

// Page is a part of a list.
type Page struct {
	Items []Waiting
	Next  string // the cursor of the next page, "" if there is none
}

// Waiting is what operators see of an item in a queue or of a dead letter: not its
// body. Of one that does not open, only what is in its storage key is known, and
// Failure says why.
type Waiting struct {
	EventID   string
	Client    string
	Target    string // "" in a queue of the release before
	Component string
	AppID     string
	Kind      Kind
	InfoType  string
	Queued    time.Time // the time until it is given up counts from here
	Due       time.Time // when it is tried next; zero for a dead letter
	Attempts  int
	Failure   string
}

// Events returns a page of what waits, or of the dead letters, in the order of
// client, target and arrival: also of clients and targets that are no longer
// configured. A page costs a listing of the queues on it and reading as many items
// as it has. Where the storage is slow, a page is short rather than late. The error is
// ErrBadCursor, or that of the storage.
func (c *Courier) Events(ctx context.Context, f Filter) (Page, error) {
	began := time.Now()
	after, err := parseCursor(f.Cursor)
	if err != nil {
		return Page{}, err
	}
	limit := min(cmp.Or(max(f.Limit, 0), defaultPage), maxPage)
	v := c.settings().Vault
	names, err := v.Queues(ctx, f.Dead)
	if err != nil {
		return Page{}, err
	}
	page := Page{Items: []Waiting{}}
	for _, name := range names {
		if name.Compare(after.queue) < 0 || !(Selection{Client: f.Client, Target: f.Target}).names(name) {
			continue
		}
		keys, err := v.Events(ctx, name, f.Dead)
		if err != nil {
			return Page{}, err
		}
		for _, key := range keys {
			if name == after.queue && key.Name() <= after.name {
				continue
			}
			if n := len(page.Items); n == limit || n > 0 && time.Since(began) >= maxReading {
				page.Next = after.String()
				return page, nil
			}
			item, err := c.look(ctx, key)
			if err != nil {
				return Page{}, err
			}
			if item != nil {
				page.Items = append(page.Items, *item)
				after = cursor{name, key.Name()}
			}
		}
	}
	return page, nil
}

// look returns what operators see of an item, nil if it is gone.
func (c *Courier) look(ctx context.Context, key vault.EventKey) (*Waiting, error) {
	seen := &Waiting{
		EventID: key.ID, Client: key.Client, Target: key.Target, Component: key.Component, AppID: key.AppID, Queued: key.Time(),
	}
	e, err := c.settings().Vault.LoadEvent(ctx, key)
	var unreadable *vault.Unreadable
	switch {
	case errors.Is(err, vault.ErrNotFound):
		return nil, nil
	case errors.As(err, &unreadable) || errors.Is(err, vault.ErrNoKeys):
		seen.Failure = err.Error()
		return seen, nil
	case err != nil:
		return nil, err
	}
	seen.Kind, seen.InfoType, seen.Queued, seen.Attempts, seen.Failure = kindOf(e), e.InfoType, e.Queued, e.Attempts, e.Failure
	if !key.Dead {
		seen.Due = e.Due
	}
	return seen, nil
}

// cursor is a place in the order of Events: after the file with this name in this
// queue.
type cursor struct {
	queue vault.Queue
	name  string
}

// String returns the text of a cursor, which is safe in a query.
func (c cursor) String() string {
	text := path.Join(c.queue.Client, c.queue.Component, c.name)
	if c.queue.Target != "" {
		text = path.Join(c.queue.Client, c.queue.Component, c.queue.Target, c.name)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return c, nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	part := strings.Split(string(decoded), "/")
	switch {
	case err == nil && len(part) == 3:
		c = cursor{vault.Queue{Client: part[0], Component: part[1]}, part[2]}
	case err == nil && len(part) == 4:
		c = cursor{vault.Queue{Client: part[0], Component: part[1], Target: part[2]}, part[3]}
	}
	if !c.queue.HasFile(c.name) {
		return cursor{}, ErrBadCursor
	}
	return c, nil
}
