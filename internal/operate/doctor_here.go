// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
)

const (
	// slightlyOff and far are how much a clock may differ before an operator should look
	// at it, and before pushes are refused.
	slightlyOff = time.Minute
	far         = 10 * time.Minute
	// slow is the time of one operation from which on a storage is too slow for pushes.
	slow = time.Second
)

const (
	storageRemedy = "check Caddy's storage: whether it can be reached, has room, and lets this process write"
	clockRemedy   = "let this machine take its time from a time server (NTP)"
)

// checkStorage tries the storage out.
func (o *Operator) checkStorage(ctx context.Context) result {
	const check = "storage"
	p, err := o.Vault.Probe(ctx)
	switch {
	case err != nil:
		return wrong(check, "", err.Error(), storageRemedy).breaks()
	case p.Took > slow:
		return wrong(check, "", fmt.Sprintf("it is slow: %s has taken %v", p.Slowest, p.Took.Round(time.Millisecond)), "WeChat waits five seconds for the answer to a push: use a storage that is nearer, or has less to do")
	}
	return well(check, "", "it can lock, store, load and delete; the slowest was %s, in %v", p.Slowest, p.Took.Round(100*time.Microsecond))
}

// checkClock compares the clock with that of WeChat's hosts, or, if none has told its
// time, with that of the last pushes.
func (o *Operator) checkClock(hosts []openapi.Probed) result {
	for _, host := range hosts {
		if host.Err == nil && host.Is == openapi.WeChat && host.Dated {
			return clockOff(host.Ahead)
		}
	}
	var latest pushlog.Push
	for _, component := range o.Components {
		genuine, refused := o.Pushes.Latest(component)
		for _, r := range refused {
			if r.Reason == pushlog.Stale {
				return wrong("clock", "", "a push was refused "+ago(r.Time)+" because it was signed more than 10 minutes earlier or later by this clock", clockRemedy).breaks()
			}
		}
		if genuine.Time.After(latest.Time) {
			latest = genuine
		}
	}
	if latest.Time.IsZero() {
		return wrong("clock", "", "cannot tell: no host of WeChat has told its time, and no push has come", "see dns; then run caddy wechat doctor again")
	}
	return clockOff(-latest.Age)
}

// clockOff is the result where WeChat's clock is so far ahead of this one.
func clockOff(ahead time.Duration) result {
	off := ahead.Abs().Round(time.Second)
	found := fmt.Sprintf("%v behind WeChat's", off)
	switch {
	case off <= time.Second:
		found = "less than two seconds off WeChat's"
	case ahead < 0:
		found = fmt.Sprintf("%v ahead of WeChat's", off)
	}
	switch {
	case off > far:
		return wrong("clock", "", found+": pushes are refused", clockRemedy).breaks()
	case off > slightlyOff:
		return wrong("clock", "", found, clockRemedy)
	}
	return well("clock", "", "%s", found)
}

// checkHosts looks who has answered under the names of WeChat's hosts.
func checkHosts(hosts []openapi.Probed) (all []result) {
	var answered []string
	for _, host := range hosts {
		if host.Err == nil && host.Is == openapi.WeChat {
			answered = append(answered, host.Host)
		}
	}
	for _, host := range hosts {
		switch {
		case host.MisledTLS():
			all = append(all, wrong("dns", "", fmt.Sprintf("%s shows the certificate of somebody else: %v", host.Host, host.Err),
				"if this machine's DNS leads the name back to the gateway, name another host of WeChat's in the option api, such as https://api2.weixin.qq.com; else see whether a proxy is in between").breaks())
		case host.Err != nil:
			r := wrong("dns", "", fmt.Sprintf("%s cannot be reached: %v", host.Host, host.Err), "see whether this machine can resolve the name and reach its address: DNS, firewall, route")
			r.broken = len(answered) == 0 // else calls go to the next one
			all = append(all, r)
		case host.Is == openapi.Gateway:
			all = append(all, wrong("dns", "", host.Host+" is answered by a gateway: the name leads back here, or to another one",
				"name another host of WeChat's in the option api, such as https://api2.weixin.qq.com, or let this machine's DNS lead to WeChat: the name may be overridden for applications alone").breaks())
		case host.Is == openapi.Foreign:
			all = append(all, wrong("dns", "", host.Host+" does not answer as WeChat does", "see to which address this machine resolves the name, and whether a proxy is in between").breaks())
		}
	}
	if len(all) == 0 {
		verb := "answer"
		if len(answered) == 1 {
			verb = "answers"
		}
		all = append(all, well("dns", "", "%s %s as WeChat does", strings.Join(answered, " and "), verb))
	}
	return all
}
