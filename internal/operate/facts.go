// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/usage"
)

const (
	maxPushes = 1000   // in an answer
	maxCalls  = 10_000 // rows in an answer
	allRows   = 1 << 30
)

// outcomes are those of pushes.
var outcomes = [...]string{pushlog.Acknowledged, pushlog.Repeated, pushlog.Refused, pushlog.Failed, pushlog.HungUp, pushlog.Misdirected}

// Recent returns the last pushes to this node, the newest first. The query has component,
// appid, outcome and limit; those that are missing or empty do not count.
func (o *Operator) Recent(_ context.Context, query string) (Pushes, error) {
	values, err := parseQuery(query, "component", "appid", "outcome", "limit")
	if err != nil {
		return Pushes{}, err
	}
	limit, err := paging{100, maxPushes}.parseLimit(values.Get("limit"))
	if err != nil {
		return Pushes{}, err
	}
	appid, err := parseAppID("appid", values.Get("appid"))
	if err != nil {
		return Pushes{}, err
	}
	component := values.Get("component")
	if component != "" {
		if _, err := o.component(values); err != nil {
			return Pushes{}, err
		}
	}
	outcome := values.Get("outcome")
	if outcome != "" && !slices.Contains(outcomes[:], outcome) {
		return Pushes{}, invalid("write one of "+strings.Join(outcomes[:], ", ")+", or leave it out for all", "outcome %q is none", outcome)
	}
	page := Pushes{Node: o.Node, Since: o.Began.UTC(), Items: []Push{}}
	for _, p := range o.Pushes.Last(allRows) {
		if component != "" && p.Component != component || appid != "" && p.AppID != appid || outcome != "" && p.Outcome != outcome {
			continue
		}
		if page.Items = append(page.Items, newPush(p)); len(page.Items) == limit {
			break
		}
	}
	return page, nil
}

func newPush(p pushlog.Push) Push {
	return Push{
		Time: p.Time.UTC(), At: p.At, Component: p.Component, AppID: p.AppID, What: p.What, Outcome: p.Outcome, Reason: p.Reason, Status: p.Status,
		TookMS: float64(p.Took.Round(10*time.Microsecond)) / float64(time.Millisecond), Remote: p.Remote, Genuine: p.Genuine, Previous: p.Previous,
	}
}

// Calls returns who has called what on this node, the busiest first. The query has
// client, appid and limit; those that are missing or empty do not count.
func (o *Operator) Calls(_ context.Context, query string) (Usage, error) {
	values, err := parseQuery(query, "client", "appid", "limit")
	if err != nil {
		return Usage{}, err
	}
	limit, err := paging{100, maxCalls}.parseLimit(values.Get("limit"))
	if err != nil {
		return Usage{}, err
	}
	appid, err := parseAppID("appid", values.Get("appid"))
	if err != nil {
		return Usage{}, err
	}
	rows, lost, since := o.Usage.Top(values.Get("client"), allRows)
	if err := o.mustHaveCalled(values, len(rows)); err != nil {
		return Usage{}, err
	}
	page := Usage{Node: o.Node, Since: since.UTC(), Lost: lost, Items: []Calls{}}
	for _, r := range rows {
		if appid != "" && r.AppID != appid {
			continue
		}
		page.Items = append(page.Items, Calls{
			Client: r.Client, AppID: r.AppID, Path: r.Class, Errcode: r.Errcode, Own: r.Own, Calls: r.Calls, Bytes: r.Bytes, Since: r.Since.UTC(),
		})
		if len(page.Items) == limit {
			break
		}
	}
	return page, nil
}

// mustHaveCalled returns an error if a client is named that is not configured and has
// called nothing: one that was taken out of the configuration is still shown.
func (o *Operator) mustHaveCalled(values url.Values, rows int) error {
	name := values.Get("client")
	if name == "" || name == usage.None || rows > 0 {
		return nil
	}
	_, err := o.client(name)
	return err
}
