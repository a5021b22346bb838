// SPDX-License-Identifier: Apache-2.0

// Package operate is what operators see and do: the core of the admin API, and
// the answers that the command line reads. A type of an answer has no field in
// which a secret or the body of a message could be.
//
// Entry points: [Operator], and [Queues] for what waits for applications.
package operate

import "time"

// Event is a message or an event that waits for delivery to a target, or a dead
// letter. It does not contain what is delivered. Of one that does not open, only
// event_id, client, target, component, appid and queued are known.
type Event struct {
	EventID   string    `json:"event_id"` // the same at every attempt, also in the query of the delivery
	State     string    `json:"state"`    // waiting or dead
	Client    string    `json:"client"`
	Target    string    `json:"target"` // "" if the release before has queued it
	Component string    `json:"component"`
	AppID     string    `json:"appid"`        // of the account, or else of the component
	Kind      string    `json:"kind"`         // message or event; "" if it does not open
	InfoType  string    `json:"info_type"`    // of an event
	Queued    time.Time `json:"queued"`       // retry_for counts from here
	Due       time.Time `json:"due,omitzero"` // when it is tried next; dead letters have none
	Attempts  int       `json:"attempts"`     // that failed
	Failure   string    `json:"failure"`      // of the last attempt, or why it does not open
}

// Events is a page of GET /wechat/events.
type Events struct {
	Items []Event `json:"items"` // never nil
	Next  string  `json:"next"`  // cursor of the next page; "" after the last one
}

// Count is the answer to an action: how many events are replayed or deleted, or
// how many targets have taken the test.
type Count struct {
	Count int `json:"count"`
}

// Progress tells how much of a task is done, if the task is done in pages: one
// request for each page, so that a request takes a short time only.
type Progress struct {
	Component string `json:"component"`
	Next      int    `json:"next"` // offset of the next page; equal to Total after the last page
	Total     int    `json:"total"`
}

// Resealed is the result of one page of POST /wechat/reseal.
type Resealed struct {
	Progress
	Resealed   int      `json:"resealed"`   // number of files that the current key seals now
	Unreadable []string `json:"unreadable"` // storage keys of files that no key opens; never nil
}

// Error is the answer if something could not be done.
type Error struct {
	Status int    `json:"-"`      // of HTTP
	Text   string `json:"error"`  // what is wrong
	Remedy string `json:"remedy"` // what to do about it
}

// Error returns both texts.
func (e *Error) Error() string { return e.Text + ": " + e.Remedy }
