// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/caddy-wechat/caddy-wechat/internal/permission"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// maxLooked is how many accounts a page looks at, where those that it shows have to
	// be found. If it finds too few, the page is short and has a Next all the same.
	maxLooked = 1000
	// maxLooking is how long such a page begins to look at more of them: a storage may be
	// slow, and Caddy's admin API ends a request after ten seconds.
	maxLooking = 4 * time.Second
	// maxBatch is how many accounts are looked at before that is looked after.
	maxBatch = 100
	// maxLoads is how many records are read from the storage at a time.
	maxLoads = 8
)

// standings are the states of accounts, as a query names them.
var standings = [...]vault.Standing{vault.Stands, vault.Withdrawn, vault.NeedsAdmin, vault.Failing}

// selection is which accounts are wanted.
type selection struct {
	component string
	appid     string         // the only one, if it is not ""
	prefix    string         // of the name, folded; "" for any
	state     vault.Standing // "" for any
	client    *Client        // that may act for them; nil for any
	english   bool
	limit     int
	after     string // an appid, which was the last one of the page before
	cursor    string // its beginning, which tells cursors of other lists
}

// Accounts returns a page of the accounts of a component. The query has component, q (an
// appid, or the beginning of a name), state, client, lang, cursor and limit; those that
// are missing or empty do not count. A page costs at most two reads of the storage for
// each account that it looks at, however many there are: as many as it shows, or up to
// 1,000 where q, or a state that has no index, has to be looked for. Where the storage is
// slow, a page is short rather than late, and has a Next all the same.
func (o *Operator) Accounts(ctx context.Context, query string) (Accounts, error) {
	s, err := o.parseSelection(query)
	if err != nil {
		return Accounts{}, err
	}
	page, began := Accounts{Items: []Account{}}, time.Now()
	for looked, more := 0, true; ; {
		if !more {
			return page, nil
		}
		if len(page.Items) == s.limit || looked >= s.budget() || looked > 0 && time.Since(began) >= maxLooking {
			page.Next = s.cursorAt(s.after)
			return page, nil
		}
		var appids []string
		if appids, more, err = o.candidates(ctx, s, min(s.limit, s.budget()-looked, maxBatch)); err != nil {
			return Accounts{}, storageFailed(err)
		}
		rows, err := o.rows(ctx, s, appids)
		if err != nil {
			return Accounts{}, storageFailed(err)
		}
		looked += len(appids)
		for i, row := range rows {
			if len(page.Items) == s.limit {
				more = true
				break
			}
			s.after = appids[i]
			if row != nil {
				page.Items = append(page.Items, *row)
			}
		}
	}
}

// budget is how many accounts a page looks at.
func (s *selection) budget() int {
	if s.prefix != "" || s.state == vault.Stands || s.client != nil && s.state != "" {
		return max(s.limit, maxLooked)
	}
	return s.limit
}

// candidates returns up to n appids after the last one that was looked at.
func (o *Operator) candidates(ctx context.Context, s *selection, n int) (appids []string, more bool, err error) {
	switch {
	case s.appid != "":
		return []string{s.appid}, false, nil
	case s.client != nil && !s.client.All:
		at, found := slices.BinarySearchFunc(s.client.Accounts, s.after, compareAppIDs)
		if found {
			at++
		}
		left := s.client.Accounts[at:]
		return left[:min(n, len(left))], len(left) > n, nil
	case s.state != "" && s.state != vault.Stands:
		return o.Census.Noted(ctx, s.component, s.state, s.after, n)
	}
	return o.Census.Page(ctx, s.component, s.after, n)
}

// rows returns what is shown of these accounts, nil for one that is not wanted.
func (o *Operator) rows(ctx context.Context, s *selection, appids []string) ([]*Account, error) {
	rows := make([]*Account, len(appids))
	var group errgroup.Group
	group.SetLimit(maxLoads)
	for i, appid := range appids {
		group.Go(func() (err error) {
			rows[i], err = o.row(ctx, s, appid)
			return err
		})
	}
	return rows, group.Wait()
}

// row returns what is shown of an account, nil if it is not wanted.
func (o *Operator) row(ctx context.Context, s *selection, appid string) (*Account, error) {
	who := subject.Of(s.component, appid)
	if s.client != nil && !s.client.serves(who) {
		return nil, nil
	}
	profile, err := o.loadProfile(ctx, who)
	if err != nil || s.prefix != "" && !strings.HasPrefix(fold(profile.Name), s.prefix) {
		return nil, err
	}
	known, err := o.load(ctx, who)
	if err != nil {
		return nil, err
	}
	if listed, ok := s.listed(); ok && (known.missing || listed != vault.Stands && known.standing != listed && !known.unreadable) {
		o.Census.Wrong(s.component, appid, listed)
	}
	if known.missing || s.state != "" && known.standing != s.state {
		return nil, nil
	}
	row := o.newAccount(who, known, profile, s.english)
	return &row, nil
}

// listed is the index from which the census takes the candidates, Stands if it takes all
// accounts; ok is false if they are not the census' candidates.
func (s *selection) listed() (st vault.Standing, ok bool) {
	if s.appid != "" || s.client != nil && !s.client.All {
		return "", false
	}
	return cmp.Or(s.state, vault.Stands), true
}

// stored is what the storage has of an account.
type stored struct {
	vault.Record
	standing   vault.Standing
	missing    bool // it has no record
	unreadable bool // its record does not open
}

// load returns what is stored of an account. An account whose record does not open
// cannot be served, so it counts as failing. The error is that of the storage.
func (o *Operator) load(ctx context.Context, who subject.Subject) (stored, error) {
	record, err := o.Vault.Load(ctx, who)
	unreadable := new(vault.Unreadable)
	switch {
	case err == nil:
		return stored{Record: record, standing: record.Standing()}, nil
	case errors.Is(err, vault.ErrNotFound):
		return stored{missing: true}, nil
	case errors.As(err, &unreadable):
		return stored{standing: vault.Failing, unreadable: true}, nil
	}
	return stored{}, err
}

// loadProfile returns the profile of an account, an empty one if there is none that
// opens. The error is that of the storage.
func (o *Operator) loadProfile(ctx context.Context, who subject.Subject) (vault.Profile, error) {
	profile, err := o.Vault.LoadProfile(ctx, who)
	if errors.Is(err, vault.ErrUnavailable) {
		return vault.Profile{}, err
	}
	return profile, nil
}

func (o *Operator) newAccount(who subject.Subject, known stored, profile vault.Profile, english bool) Account {
	a := Account{
		AppID: who.Authorizer(), Name: profile.Name, Kind: profile.Kind, State: string(known.standing),
		Permissions: []Permission{}, Clients: []string{},
	}
	if known.Token != nil {
		a.Expires = known.Expires.UTC()
	}
	granted := known.Functions
	if profile.Learned.After(known.EventTime) && len(profile.Functions) > 0 {
		granted = profile.Functions
	}
	for _, id := range granted {
		a.Permissions = append(a.Permissions, Permission{ID: id, Name: permission.Name(id, english)})
	}
	for _, client := range o.Clients {
		if client.serves(who) {
			a.Clients = append(a.Clients, client.Name)
		}
	}
	return a
}

// parseSelection returns which accounts an operator wants to see.
func (o *Operator) parseSelection(query string) (*selection, error) {
	values, err := parseQuery(query, "component", "q", "state", "client", "lang", "cursor", "limit")
	if err != nil {
		return nil, err
	}
	s := &selection{state: vault.Standing(values.Get("state"))}
	if s.limit, err = (paging{50, 1000}).parseLimit(values.Get("limit")); err != nil {
		return nil, err
	}
	if s.english, err = parseEnglish(values.Get("lang")); err != nil {
		return nil, err
	}
	if s.state != "" && !slices.Contains(standings[:], s.state) {
		return nil, invalid("write authorized, unauthorized, needs_authorization or failing, or leave it out for all", "state %q is none", s.state)
	}
	if err := o.parseClient(s, values); err != nil {
		return nil, err
	}
	if s.component, err = o.component(values); err != nil {
		return nil, err
	}
	if q := values.Get("q"); subject.ValidAppID(q) {
		s.appid = q
	} else if !utf8.ValidString(q) {
		return nil, invalid("write an appid or the beginning of a name in UTF-8", "q is no text")
	} else {
		s.prefix = fold(q)
	}
	return s, s.parseCursor(values)
}

// parseClient looks for the client that a query names. Its component is that of the
// query, unless another one is named.
func (o *Operator) parseClient(s *selection, values url.Values) error {
	name := values.Get("client")
	if name == "" {
		return nil
	}
	client, err := o.client(name)
	if err != nil {
		return err
	}
	if named := values.Get("component"); named != "" && named != client.Component {
		return invalid("leave the component out, or name a client of it", "client %q is one of component %s", name, client.Component)
	}
	values.Set("component", client.Component)
	s.client = &client
	return nil
}

// parseCursor reads the cursor of a query. One of another list, or of other parameters,
// would silently leave accounts out.
func (s *selection) parseCursor(values url.Values) error {
	of := fnv.New64a()
	fmt.Fprintf(of, "%s\x00%s\x00%s", s.state, values.Get("q"), values.Get("client"))
	s.cursor = fmt.Sprintf("accounts\x00%s\x00%x\x00", s.component, of.Sum64())
	cursor := values.Get("cursor")
	if cursor == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	after, ours := strings.CutPrefix(string(text), s.cursor)
	if err != nil || !ours || !subject.ValidAppID(after) {
		return invalid("begin without a cursor, then use the next of each page, with the same parameters", "the cursor is none that a page of this list has ended with")
	}
	s.after = after
	return nil
}

func (s *selection) cursorAt(appid string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(s.cursor + appid))
}

// fold returns a text in which upper and lower case are the same.
func fold(text string) string { return strings.ToLower(text) }
