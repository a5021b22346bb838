// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Until when an account that has come back is excused, after the first token
// that WeChat gave a gateway for it: the others ask every 15 s for news, and one
// of their turns may fall into an outage.
const newsTravel = 35 * time.Second

// mustBeBack is when an account has to have a token again after its
// authorisation was acknowledged. The gateway that took it may have been killed
// before it exchanged the code: then another one finds it within a minute.
const mustBeBack = 80 * time.Second

// withdraw lets an account withdraw and authorise again a few seconds later.
func (c *chaos) withdraw() func() string {
	appid, pause := c.anyAccounts(1)[0], time.Second+time.Duration(c.rng.Int64N(int64(9*time.Second)))
	return func() string {
		if !c.weChat.Authorized(appid) || c.record.held(condition{kind: away, appid: appid}, time.Now(), time.Now()) {
			return "" // it is about to come back
		}
		end := c.record.begin(condition{kind: away, appid: appid})
		if c.weChat.Revoke(c.ending, appid) != nil {
			c.insist(func(ctx context.Context) error {
				return c.weChat.PushEvent(ctx, "unauthorized", "<AuthorizerAppid>"+appid+"</AuthorizerAppid>")
			})
		}
		c.wait(pause)
		began := time.Now()
		if _, err := c.weChat.Authorize(c.ending, appid); err != nil {
			c.insist(func(ctx context.Context) error { return c.weChat.PushAuthorized(ctx, appid) })
		}
		for limit := time.Now().Add(mustBeBack); !c.record.givenSince(appid, began) && time.Now().Before(limit); {
			c.wait(50 * time.Millisecond)
		}
		end(newsTravel)
		return "account withdrawn and authorized again"
	}
}

// update lets the admin of an account change what is granted: a code comes, and
// with its exchange another token.
func (c *chaos) update() func() string {
	appid := c.anyAccounts(1)[0]
	return func() string {
		if !c.weChat.Authorized(appid) {
			return ""
		}
		if _, err := c.weChat.UpdateAuthorized(c.ending, appid); err != nil {
			c.insist(func(ctx context.Context) error { return c.weChat.PushAuthorized(ctx, appid) })
		}
		return "authorization of an account changed"
	}
}

// insist pushes until some gateway has acknowledged. WeChat gives up after a
// few attempts, but then the admin's browser brings the same code, or any call
// the same news; without either nobody could know.
func (c *chaos) insist(push func(context.Context) error) {
	for c.ending.Err() == nil && push(c.ending) != nil {
		c.wait(200 * time.Millisecond)
	}
}

// faults are what WeChat does wrong, for a while. A lost answer is worst where
// WeChat has acted on a question that can be asked only once.
var faults = []struct {
	name  string
	fault sandbox.Fault
}{
	{"slow (0.5 to 3 s)", sandbox.Fault{}}, // see breakWeChat
	{"resets connections", sandbox.Fault{Reset: true}},
	{"says -1", sandbox.Fault{ErrCode: -1}},
	{"answers 502", sandbox.Fault{Status: 502}},
	{"answers nothing", sandbox.Fault{Empty: true}},
	{"answers HTML", sandbox.Fault{HTML: true}},
	{"cuts answers in half", sandbox.Fault{CutHalf: true}},
	{"acts and loses the answer", sandbox.Fault{DropAfter: true}},
	{"acts and loses the answer", sandbox.Fault{DropAfter: true}},
}

// places are where it does: everywhere, at the calls of applications, at those
// of the gateways or at one of them.
var places = []string{
	"", "/cgi-bin/user/", "/cgi-bin/message/", componentAPI, componentAPI, componentAPI + "api_authorizer_token",
	componentAPI + "api_component_token", componentAPI + "api_query_auth", componentAPI + "api_get_authorizer_info",
}

func (c *chaos) breakWeChat() func() string {
	chosen, place := faults[c.rng.IntN(len(faults))], places[c.rng.IntN(len(places))]
	lasts := time.Second + time.Duration(c.rng.Int64N(int64(3*time.Second)))
	fault := chosen.fault
	fault.Path = place
	if fault == (sandbox.Fault{Path: place}) {
		fault.Latency = 500*time.Millisecond + time.Duration(c.rng.Int64N(int64(2500*time.Millisecond)))
	}
	return func() string {
		if !c.weather.TryLock() {
			return ""
		}
		defer c.weather.Unlock()
		c.weChat.Inject(fault)
		c.wait(lasts)
		c.weChat.ClearFaults()
		return "WeChat " + chosen.name
	}
}
