// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Event is a push to the authorisation events URL, without the credentials in
// it. Mostly it is about one account, or about the component. Some InfoTypes name
// accounts in a list instead (order_path_apply_result_notify): of these each
// client is told of its accounts alone.
type Event struct {
	item    Item   // AppID is that of the account, or else of the component; Body is not set
	account string // the appid of the account that the event is about, "" for none
	text    redacted
}

// Share is what some targets get of an event.
type Share struct {
	Item    Item
	Targets []*Target
}

// EventID identifies an event by its decrypted text and the component that it came
// for: many events have no other mark, and several come within one second. The
// credentials in the text cannot be computed from it.
func EventID(component string, plain []byte) string {
	digest := sha256.Sum256(append([]byte(component+"\n"), plain...))
	return hex.EncodeToString(digest[:16])
}

// NewEvent returns the Event for a verified push that arrived at some time. plain
// is its decrypted text, and e what bizmsg.ParseEvent has read from it. It fails if
// the credentials cannot be taken out of the text: if it is neither XML nor a JSON
// object. The error does not quote the text, which may contain a code.
func NewEvent(component string, e bizmsg.Event, plain []byte, arrived time.Time) (*Event, error) {
	text, err := redact(plain)
	if err != nil {
		return nil, err
	}
	event := &Event{text: text, item: Item{
		Kind: KindEvent, Component: component, AppID: component,
		ID: EventID(component, plain), InfoType: e.InfoType, CodeIn: codeIn(e), Arrived: arrived,
	}}
	for _, name := range accountNames {
		if appID := text.top[name]; event.account == "" && appID != component && subject.ValidAppID(appID) {
			event.account, event.item.AppID = appID, appID
		}
	}
	return event, nil
}

// Wanting returns those of targets that want an item.
func Wanting(item Item, targets []*Target) (wanting []*Target) {
	for _, target := range targets {
		if target.Wants(item) {
			wanting = append(wanting, target)
		}
	}
	return wanting
}

// Shares returns what of the event is delivered to whom. recipients returns the
// targets of the clients that may act for an account; given "*", of those that may act
// for every one; without an appid, of those with component_api. The event goes to those who may act for the account that it is
// about. If it is about none, it goes to those with component_api, and to whoever may
// act for one of the accounts in its list.
//
// Of a list each client gets the entries about accounts for which it may act: it must
// not learn of others, nor of an entry of which nobody can tell whose it is. Who may
// act for every account, or has component_api, gets the whole list.
//
// The ID is the same for all. The Item's AppID is the account of the event, else the
// first in the list for which the client may act, else the component.
func (e *Event) Shares(recipients func(component, appid string) []*Target) []Share {
	takers, mayActFor := recipients(e.item.Component, ""), make(map[string][]*Target)
	all := slices.Concat(takers, recipients(e.item.Component, "*"))
	if e.account != "" {
		takers = recipients(e.item.Component, e.account)
	}
	for _, appID := range e.text.listed() {
		mayActFor[appID] = recipients(e.item.Component, appID)
		if e.account == "" {
			takers = slices.Concat(takers, mayActFor[appID])
		}
	}
	var shares []Share
	index := make(map[string]int) // AppID and body → position in shares
	seen := make(map[*Target]bool)
	for _, target := range takers {
		if seen[target] {
			continue
		}
		seen[target] = true
		may := func(appID string) bool { return slices.Contains(mayActFor[appID], target) }
		item := e.item
		if slices.Contains(all, target) {
			item.Body = e.text.without(nil)
		} else {
			item.Body = e.text.without(func(accounts []string) bool {
				return len(accounts) == 0 || slices.ContainsFunc(accounts, func(appID string) bool { return !may(appID) })
			})
		}
		item.AppID = e.appIDFor(may)
		if !target.Wants(item) {
			continue
		}
		key := item.AppID + string(item.Body)
		at, known := index[key]
		if !known {
			at = len(shares)
			index[key] = at
			shares = append(shares, Share{Item: item})
		}
		shares[at].Targets = append(shares[at].Targets, target)
	}
	return shares
}

// appIDFor returns the appid under which a client that may act for some accounts gets
// the event.
func (e *Event) appIDFor(may func(appID string) bool) string {
	if e.account != "" {
		return e.account
	}
	for _, appID := range e.text.listed() {
		if appID != e.item.Component && subject.ValidAppID(appID) && may(appID) {
			return appID
		}
	}
	return e.item.Component
}

// accountNames are the elements that contain the appid of the account. Which
// one it is depends on the InfoType.
var accountNames = []string{"AuthorizerAppid", "authorizer_appid", "appid", "verify_appid"}

// credentials are parts of the names of elements that contain a credential, in
// lower case and without underscores. They are parts and not whole names,
// because events with an unknown InfoType are delivered as well, and may
// contain credentials with new names.
var credentials = []string{"ticket", "token", "secret", "authcode", "authorizationcode", "sessionkey"}

// isCredential reports whether an element with this name may contain a
// credential.
func isCredential(name string) bool {
	name = plainName(name)
	return slices.ContainsFunc(credentials, func(part string) bool { return strings.Contains(name, part) })
}

// isList reports whether an element below the root with this name is a list, or an
// entry of one.
func isList(name string) bool { return plainName(name) == "list" }

// isListedAccount reports whether an element with this name, in a list, contains the
// appid of an account.
func isListedAccount(name string) bool { return strings.HasSuffix(plainName(name), "appid") }

// plainName is a name as it is compared: WeChat writes one in several ways.
func plainName(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "") }
