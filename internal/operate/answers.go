// SPDX-License-Identifier: Apache-2.0

// Package operate holds what operators are answered, by the admin API and on the
// command line alike. None of its types can hold a secret.
package operate

import "time"

// DeadEvent is an authorisation event that was given up.
type DeadEvent struct {
	Component string    `json:"component"`
	Client    string    `json:"client"`
	AppID     string    `json:"appid"` // of the account, or of the component itself
	InfoType  string    `json:"info_type"`
	Queued    time.Time `json:"queued"`
	Attempts  int       `json:"attempts"`
	Failure   string    `json:"failure"`
}

// Progress is how far something has come that is done page by page.
type Progress struct {
	Component string `json:"component"`
	Next      int    `json:"next"` // offset of the next page; the total after the last
	Total     int    `json:"total"`
}

// Resealed is what has been sealed anew on one page.
type Resealed struct {
	Progress
	Resealed   int      `json:"resealed"`
	Unreadable []string `json:"unreadable,omitempty"` // storage keys
}
