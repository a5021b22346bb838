// SPDX-License-Identifier: Apache-2.0

package push

import (
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// claimedError is the error of a push that claims to be for a component, which is one of
// those here, but not verified.
type claimedError struct {
	error
	component string
}

// Unwrap returns the cause.
func (c *claimedError) Unwrap() error { return c.error }

// fact returns what operators are shown of a push that is verified, but for its outcome.
func (s *sealedPush) fact(url, appid, what string) pushlog.Push {
	return pushlog.Push{
		Time: s.began, At: url, Component: s.component, AppID: appid, What: what,
		Age: s.began.Sub(s.timestamp), Remote: s.remote, Genuine: true, Previous: s.message.Previous,
	}
}

// whatMessage is MsgType, and Event if it is one.
func whatMessage(msgType, event string) string {
	if event == "" {
		return pushlog.Word(msgType)
	}
	return pushlog.Word(msgType) + "/" + pushlog.Word(event)
}

// note remembers what came of a verified push; err is that for Reject.
func (rx *Receiver) note(p pushlog.Push, outcome string, err error) {
	if rx.Facts == nil {
		return
	}
	p.Outcome, p.Status, p.Took = outcome, http.StatusOK, time.Since(p.Time)
	switch {
	case errors.Is(err, ErrHungUp):
		p.Status = 0
	case err != nil:
		p.Outcome, p.Status, p.Reason = pushlog.Failed, http.StatusServiceUnavailable, reason(err)
	}
	rx.Facts.Add(p)
}

// noteRefused remembers a push that was refused. Nothing in it is verified.
func (rx *Receiver) noteRefused(r *http.Request, url string, status int, err error) {
	if rx.Facts == nil {
		return
	}
	p := pushlog.Push{
		Time: time.Now(), At: url, Outcome: pushlog.Refused, Reason: reason(err), Status: status, Remote: rx.remote(r),
	}
	if appid := path.Base(r.URL.Path); url == MessagesURL && subject.ValidAppID(appid) {
		p.AppID = strings.Clone(appid) // else the whole path stays in memory
	}
	if claimed := new(claimedError); errors.As(err, &claimed) {
		p.Component = claimed.component
	}
	rx.Facts.Add(p)
}

// remote returns the address from which a push comes, "" if it has none.
func (rx *Receiver) remote(r *http.Request) string {
	if from := rx.Address(r); from.IsValid() {
		return from.String()
	}
	return ""
}
