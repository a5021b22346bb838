// SPDX-License-Identifier: Apache-2.0

package operate

import "time"

// Levels of a [Status] and of a [Diagnosis], which are the exit codes of their commands.
const (
	LevelWell     = 0
	LevelWarnings = 1
	LevelBroken   = 2
)

// Status is the answer to GET /wechat/status: whether the gateway is well.
type Status struct {
	Version    string            `json:"version"`
	Node       string            `json:"node"`  // the host name of the node that answers
	Level      int               `json:"level"` // 0 well, 1 warnings, 2 broken
	Components []ComponentStatus `json:"components"`
	Storage    StorageStatus     `json:"storage"`  // as this node sees it
	Unstored   int               `json:"unstored"` // records that this node has in memory only, because storage failed
	Warnings   []Warning         `json:"warnings"` // never nil; what is broken comes first
}

// ComponentStatus is how it is with one third-party platform.
type ComponentStatus struct {
	Component   string        `json:"component"`
	Received    time.Time     `json:"ticket_received,omitzero"` // of the last component_verify_ticket
	Expires     time.Time     `json:"token_expires,omitzero"`   // of the component token
	LastRenewal time.Time     `json:"last_renewal,omitzero"`
	LastFailure Failure       `json:"last_failure,omitzero"` // at this node, since its start
	Accounts    AccountCounts `json:"accounts"`
	Queues      QueueCounts   `json:"queues"`
}

// Failure is something that went wrong, with what to do about it. Text and remedy have
// nothing of WeChat's errmsg.
type Failure struct {
	Time   time.Time `json:"time"`
	Text   string    `json:"text"`
	Remedy string    `json:"remedy"`
}

// AccountCounts is how many accounts are in each state. Counted is false as long as a
// node that has just started has not counted the authorized ones; the others are right
// before.
type AccountCounts struct {
	Authorized         int  `json:"authorized"`
	Unauthorized       int  `json:"unauthorized"`
	NeedsAuthorization int  `json:"needs_authorization"`
	Failing            int  `json:"failing"`
	Counted            bool `json:"counted"`
}

// QueueCounts is what waits for the targets of a component, and its dead letters.
type QueueCounts struct {
	Waiting int       `json:"waiting"`
	Dead    int       `json:"dead"`
	Oldest  time.Time `json:"oldest,omitzero"` // when the oldest that waits was queued
}

// StorageStatus is how Caddy's storage answers this node.
type StorageStatus struct {
	OK          bool    `json:"ok"` // the last operation succeeded
	LastFailure Failure `json:"last_failure,omitzero"`
}

// Warning is what an operator should look at.
type Warning struct {
	Text   string `json:"text"`
	Remedy string `json:"remedy"`
	Broken bool   `json:"broken"` // calls or pushes fail because of it
}

// Live is the answer to GET /wechat/health/live and /wechat/health/ready: "ok".
type Live struct {
	Status string `json:"status"`
}

// Account is an account as a list shows it.
type Account struct {
	AppID       string       `json:"appid"`
	Name        string       `json:"name"`  // "" until WeChat has told it
	Kind        string       `json:"kind"`  // official_account, mini_program, shop or other; "" until WeChat has told it
	State       string       `json:"state"` // authorized, unauthorized, needs_authorization or failing
	Expires     time.Time    `json:"token_expires,omitzero"`
	Permissions []Permission `json:"permissions"` // never nil
	Clients     []string     `json:"clients"`     // that may act for it, by name; never nil
}

// Permission is a permission set that an account has granted.
type Permission struct {
	ID   int    `json:"id"`
	Name string `json:"name"` // "" if the gateway does not know the set
}

// Accounts is a page of GET /wechat/accounts.
type Accounts struct {
	Items []Account `json:"items"` // never nil
	Next  string    `json:"next"`  // cursor of the next page; "" after the last one
}

// AccountDetail is all that is known of one account.
type AccountDetail struct {
	Account
	Component    string    `json:"component"`
	Principal    string    `json:"principal"`               // the company behind it
	Obtained     time.Time `json:"token_obtained,omitzero"` // when the token was got
	Learned      time.Time `json:"learned,omitzero"`        // when WeChat told name, kind and permissions
	Authorised   time.Time `json:"authorised,omitzero"`     // time of WeChat's last event about its authorisation
	CoolingUntil time.Time `json:"cooling_until,omitzero"`  // nothing is tried before, at this node
	LastFailure  Failure   `json:"last_failure,omitzero"`   // at this node, since its start
	Cause        Cause     `json:"cause,omitzero"`          // why it is not authorized
	Advice       Failure   `json:"advice,omitzero"`         // what WeChat refused last, at this node
	Unstored     bool      `json:"unstored"`                // its record is in this node's memory only
	Pending      bool      `json:"pending"`                 // its authorisation code is being exchanged
}

// Cause is why an account is not authorized, or fails.
type Cause struct {
	Since   time.Time `json:"since"`
	Slug    string    `json:"slug"`    // of what callers are told
	Errcode int       `json:"errcode"` // of WeChat; 0 if it has not refused
	RID     string    `json:"rid"`
	Text    string    `json:"text"`
	Remedy  string    `json:"remedy"`
}

// Push is what is known of a push of WeChat, without what is in it.
type Push struct {
	Time      time.Time `json:"time"`
	At        string    `json:"at"` // events or messages: the URL
	Component string    `json:"component"`
	AppID     string    `json:"appid"`   // of the account; "" for what is about the component
	What      string    `json:"what"`    // InfoType, or MsgType and Event
	Outcome   string    `json:"outcome"` // as in caddy_wechat_pushes_total
	Reason    string    `json:"reason"`  // why it was refused
	Status    int       `json:"status"`  // of the answer
	TookMS    float64   `json:"took_ms"`
	Remote    string    `json:"remote"`   // the address it came from
	Genuine   bool      `json:"genuine"`  // its signature was right
	Previous  bool      `json:"previous"` // verified by the previous token or EncodingAESKey
}

// Pushes is a page of GET /wechat/pushes, the newest first: the last ones of this node.
type Pushes struct {
	Node  string    `json:"node"`
	Since time.Time `json:"since"` // start of the process
	Items []Push    `json:"items"` // never nil
	Next  string    `json:"next"`  // always ""
}

// Calls is how often a client has called for an account.
type Calls struct {
	Client  string    `json:"client"`  // none for calls without one
	AppID   string    `json:"appid"`   // of the account, or else of the component
	Path    string    `json:"path"`    // its first three segments
	Errcode int       `json:"errcode"` // of the answer
	Own     bool      `json:"own"`     // the gateway answered, not WeChat
	Calls   uint64    `json:"calls"`
	Bytes   uint64    `json:"bytes"` // of the answers
	Since   time.Time `json:"since"` // counted from then on
}

// Usage is the answer to GET /wechat/usage: the busiest rows of this node.
type Usage struct {
	Node  string    `json:"node"`
	Since time.Time `json:"since"` // start of the process
	Lost  uint64    `json:"lost"`  // calls of rows that had to make room for others
	Items []Calls   `json:"items"` // never nil
	Next  string    `json:"next"`  // always ""
}

// Synced is the answer to one page of POST /wechat/sync.
type Synced struct {
	Progress
	New      int `json:"new"`      // accounts of which nothing was stored
	Restored int `json:"restored"` // accounts whose refresh token was missing or another
}

// Finding is the result of one check.
type Finding struct {
	Check     string `json:"check"`
	OK        bool   `json:"ok"`
	Found     string `json:"found"`
	Remedy    string `json:"remedy"`
	Component string `json:"component"` // "" if it is about all of them
}

// Diagnosis is the answer to POST /wechat/doctor.
type Diagnosis struct {
	Level int       `json:"level"` // 0 well, 1 warnings, 2 broken
	Node  string    `json:"node"`
	Items []Finding `json:"items"` // never nil
}
