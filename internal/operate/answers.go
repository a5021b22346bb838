// SPDX-License-Identifier: Apache-2.0

// Package operate has the answers of the admin API for operators that the
// command line reads as well. None of its types has a field for a secret.
package operate

import "time"

// DeadEvent is an authorisation event that could not be delivered to a client
// and was given up. It does not contain the event itself.
type DeadEvent struct {
	Component string    `json:"component"`
	Client    string    `json:"client"`
	AppID     string    `json:"appid"` // of the account, or else of the component
	InfoType  string    `json:"info_type"`
	Queued    time.Time `json:"queued"`
	Attempts  int       `json:"attempts"` // that failed
	Failure   string    `json:"failure"`  // of the last attempt
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
	Resealed   int      `json:"resealed"`             // number of files that the current key seals now
	Unreadable []string `json:"unreadable,omitempty"` // storage keys of files that no key opens
}
