// SPDX-License-Identifier: Apache-2.0

// Package sdk_test calls the gateway with unmodified WeChat SDKs. What an SDK
// is told is a base URL and, as its AppSecret, the client's secret. Every SDK
// goes through the same steps, see TestMatrix, and meets every refusal of the
// gateway's own, see TestErrors.
package sdk_test

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// driver is one face of one SDK: how its user sets it up, and how its calls look.
type driver struct {
	name    string // as in the table of docs/sdks.md: "silenceper/wechat v2.1.10, official account"
	account string // the appid it acts for: gwtest.OfficialAccount or gwtest.MiniProgram
	start   func(t *testing.T, at target) session
}

// target is what the user of an SDK is told: where the gateway is, and what to use in place of WeChat's AppSecret.
type target struct {
	url     string          // base URL in place of https://api.weixin.qq.com
	secret  string          // the client's
	appid   string          // of the authorizer
	gateway *gwtest.Gateway // for what only platforms do: fetch an authorization_code from the sandbox
}

// session is one SDK, set up. What it can do, its other interfaces tell: an SDK
// goes through the steps for which it has functions. An error is what the SDK
// shows its user.
type session any

// caller is an SDK that calls for an account, with a token that it fetches.
type caller interface {
	token() (string, error)          // the access token that the SDK would use now
	get() (answer string, err error) // a harmless GET, such as the list of followers; answer: what the SDK returns, as text
	denied() error                   // a call to a path that is not among those of clients
	hold(token string) error         // put this token into the SDK's cache, as though it had fetched it a while ago and still thought it valid
}

// sender is an SDK that sends messages.
type sender interface {
	send(text string) error // a JSON POST: a message to openid "o-follower" with that text
}

// filer is an SDK that sends and fetches files.
type filer interface {
	upload(name string, content []byte) (id string, err error) // multipart: a temporary image
	download(id string) ([]byte, error)                        // the same media, binary
}

// loginer is an SDK that logs a user in: of a mini program with a js_code, of
// an official account's web page with an OAuth code, whereupon it asks with the
// user's own token who that is.
type loginer interface {
	login(code string) (openid string, err error)
}

// ownClock is a caller that never fetches another token because of an errcode,
// only when its own clock says that the one it has is old.
type ownClock interface {
	later(time.Duration) // lets that time pass for the SDK
}

// ticketer is a caller whose get asks for a ticket to sign with. WeChat sees at
// most the first one that asks.
type ticketer interface {
	asksForTicket()
}

// sdk is what most SDKs can do.
type sdk interface {
	caller
	sender
	filer
}

// A step is left out where a session cannot take it. These can take all of them:
// a function that is missing by mistake does not compile.
var (
	_ sdk = (*node)(nil)
	_ sdk = clockSession{}
)

var _ = []interface {
	sdk
	loginer
}{silenceperOfficial{}, silenceperMini{}, silenceperPlatform{}, fastOfficial{}, fastMini{}, wxopenOfficial{}, wxopenMini{}, loginSession{}}

// drivers are all faces of all SDKs.
func drivers() []driver { return append(goDrivers(), nodeDrivers()...) }

func goDrivers() []driver {
	return slices.Concat(silenceperDrivers(), fastwegoDrivers(), wxopenDrivers())
}
