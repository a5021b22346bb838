// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	sendPath     = "/cgi-bin/message/custom/send"
	messagePaths = "/cgi-bin/message/" // where all messages go
	renewalPath  = "/cgi-bin/component/api_authorizer_token"

	// lifetime is that of a gateway token. Some SDKs count in whole seconds.
	lifetime = 2*time.Hour + time.Second

	// text has what encodings get wrong: Chinese, a character of four bytes,
	// and what is special in HTML.
	text = "您的订单已发货 🎉 <b>&amp;</b>"
)

// run is one SDK on its way through the steps.
type run struct {
	*world
	driver  driver
	session session

	// The same session, as far as it can do these; otherwise nil.
	caller  caller
	sender  sender
	filer   filer
	loginer loginer
}

// steps are what the matrix asks of every SDK that can do it.
var steps = []struct {
	name string
	can  func(session) bool
	take func(*testing.T, *run)
}{
	{"fetches a gateway token", can[caller], fetchesGatewayToken},
	{"makes a GET", can[caller], makesGet},
	{"sends Chinese and emoji as JSON", can[sender], sendsText},
	{"uploads", can[filer], uploads},
	{"downloads what it has uploaded", can[filer], downloads},
	{"does not notice that WeChat kills the token", can[caller], doesNotNoticeKilledToken},
	{"does not notice that WeChat kills the token of an upload", can[filer], uploadsWithKilledToken},
	{"outlives its gateway token", can[caller], outlivesGatewayToken},
	{"shows a denial and lets it be", can[caller], showsDenial},
	{"logs a user in", can[loginer], logsUserIn},
	{"logs a user in though WeChat kills the component's token", can[loginer], logsInWithKilledToken},
}

// can reports whether a session has the functions of T.
func can[T any](s session) bool {
	_, is := s.(T)
	return is
}

// Each SDK has a gateway and accounts of its own: how often the token of one
// account is renewed because WeChat has rejected it is bounded.
func TestMatrix(t *testing.T) {
	for _, d := range drivers() {
		t.Run(d.name, func(t *testing.T) {
			r := &run{world: startWorld(t), driver: d}
			r.session = d.start(t, target{url: r.url, secret: gwtest.ClientSecret, appid: d.account, gateway: r.Gateway})
			r.caller, _ = r.session.(caller)
			r.sender, _ = r.session.(sender)
			r.filer, _ = r.session.(filer)
			r.loginer, _ = r.session.(loginer)
			for _, step := range steps {
				if !step.can(r.session) {
					continue
				}
				t.Run(step.name, func(t *testing.T) {
					r.reset()
					step.take(t, r)
					r.wantIntact(t)
				})
			}
		})
	}
}

// ok ends the test if an SDK has returned an error.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("the SDK says: %v", err)
	}
}

// wantRealToken fails the test unless all calls of this step carried tokens of
// the account, and the last, which succeeded, the one that is valid now.
func (r *run) wantRealToken(t *testing.T) {
	t.Helper()
	calls := r.calls()
	if can[ticketer](r.session) && len(calls) == 0 {
		return // the gateway has the ticket
	}
	if len(calls) == 0 {
		t.Fatal("WeChat saw no call")
	}
	for _, call := range calls {
		if call.TokenKind != sandbox.KindAuthorizer || call.TokenAppID != r.driver.account {
			t.Errorf("WeChat saw %s with a token of %s %s", call.Path, call.TokenKind, call.TokenAppID)
		}
	}
	last := calls[len(calls)-1]
	if last.ErrCode != 0 {
		t.Errorf("WeChat answered %d to %s", last.ErrCode, last.Path)
	}
	if valid := r.WeChat.ValidToken(sandbox.KindAuthorizer, r.driver.account); valid == "" || !strings.Contains(last.RawQuery, "access_token="+valid) {
		t.Errorf("WeChat saw %s without the token that is valid now", last.Path)
	}
}

func fetchesGatewayToken(t *testing.T, r *run) {
	token, err := r.caller.token()
	ok(t, err)
	if !strings.HasPrefix(token, "gw1.") {
		t.Errorf("the SDK holds %.8s…, want a gateway token", token)
	}
	for _, path := range []string{"/cgi-bin/token", "/cgi-bin/stable_token"} {
		if n := r.WeChat.Count(path); n != 0 {
			t.Errorf("WeChat saw %d calls to %s, want none", n, path)
		}
	}
}

func makesGet(t *testing.T, r *run) {
	answer, err := r.caller.get()
	ok(t, err)
	if answer == "" {
		t.Error("the SDK returns nothing")
	}
	r.wantRealToken(t)
	for _, call := range r.calls() {
		if call.Method != "GET" {
			t.Errorf("WeChat saw a %s", call.Method)
		}
	}
}

func sendsText(t *testing.T, r *run) {
	ok(t, r.sender.send(text))
	r.wantRealToken(t)
	r.wantOneMessage(t)
}

// wantOneMessage fails the test unless WeChat took the text, once.
func (r *run) wantOneMessage(t *testing.T) {
	t.Helper()
	var taken []sandbox.Call
	for _, call := range r.calls() {
		if strings.HasPrefix(call.Path, messagePaths) && call.ErrCode == 0 {
			taken = append(taken, call)
		}
	}
	if len(taken) != 1 || taken[0].TokenAppID != r.driver.account {
		t.Fatalf("WeChat took %d messages: %+v", len(taken), taken)
	}
	var message map[string]any
	body := r.tap.arrived.lastBody(taken[0].Path)
	if err := json.Unmarshal(body, &message); err != nil || message["touser"] != "o-follower" || !holds(message, text) {
		t.Errorf("WeChat took %s (%v), want the text %q", body, err, text)
	}
}

// holds reports whether a text is among the values of a message, in one of
// those within it too: kinds of messages have it at different places.
func holds(message map[string]any, text string) bool {
	for _, value := range message {
		if within, is := value.(map[string]any); value == text || is && holds(within, text) {
			return true
		}
	}
	return false
}

// picture is larger than any buffer on the way.
func picture() []byte {
	bytes := make([]byte, 3<<20+1)
	for i := range bytes {
		bytes[i] = byte(i * 7)
	}
	return bytes
}

func uploads(t *testing.T, r *run) {
	id, err := r.filer.upload("图片.jpg", picture())
	ok(t, err)
	if id == "" {
		t.Error("the SDK returns no media_id")
	}
	r.wantRealToken(t)
}

func downloads(t *testing.T, r *run) {
	id, err := r.filer.upload("图片.jpg", picture())
	ok(t, err)
	r.WeChat.ResetCounts()
	r.wantPicture(t, id)
	r.wantRealToken(t)
}

// wantPicture fails the test unless WeChat has the whole picture under this media_id.
func (r *run) wantPicture(t *testing.T, id string) {
	t.Helper()
	got, err := r.filer.download(id)
	ok(t, err)
	if !bytes.Equal(got, picture()) {
		t.Errorf("downloaded %d bytes (%.80q…), want the %d bytes uploaded", len(got), got, len(picture()))
	}
}

// A gateway token that has expired, though the SDK thinks otherwise, is
// answered with 42001, whereupon the SDK fetches another one and repeats the
// call. An SDK that heeds its own clock alone shows the errcode, and fetches
// another one when it has had a token for as long as the gateway said.
func outlivesGatewayToken(t *testing.T, r *run) {
	expired := issue(t, r.Gateway, r.driver.account, time.Now().Add(-time.Minute))
	ok(t, r.caller.hold(expired))
	before := r.refused("token_expired")
	_, err := r.caller.get()
	if n := r.refused("token_expired") - before; n != 1 {
		t.Errorf("the gateway saw %d calls with the expired token, want 1", n)
	}
	clock, own := r.session.(ownClock)
	if !own {
		ok(t, err)
		r.wantRealToken(t)
		return
	}
	if err == nil || !strings.Contains(err.Error(), "42001") {
		t.Errorf("the SDK says: %v, want the errcode", err)
	}
	clock.later(lifetime)
	fetched, err := r.caller.token()
	ok(t, err)
	clock.later(lifetime)
	_, err = r.caller.get()
	ok(t, err)
	r.wantRealToken(t)
	if now, err := r.caller.token(); err != nil || now == fetched || fetched == expired {
		t.Errorf("the SDK goes on with a token that is too old (%v)", err)
	}
}

func showsDenial(t *testing.T, r *run) {
	before := r.refused("not_allowed")
	if err := r.caller.denied(); err == nil {
		t.Error("the SDK shows no error")
	}
	if n := r.refused("not_allowed") - before; n < 1 || n > 2 {
		t.Errorf("the gateway saw %d calls, want 1 or 2", n)
	}
	if calls := r.calls(); len(calls) != 0 {
		t.Errorf("WeChat saw %s", calls[0].Path)
	}
}

// A third-party platform has no AppSecret of the account: the exchange of the
// code becomes the component's form, with the component's token. The token that
// a web user gets is the application's own and passes untouched.
func logsUserIn(t *testing.T, r *run) {
	openid, err := r.loginer.login(r.WeChat.NewUserCode(r.driver.account, "alice"))
	ok(t, err)
	if openid != r.WeChat.OpenID(r.driver.account, "alice") {
		t.Errorf("logged %q in", openid)
	}
	want := []string{"/sns/component/jscode2session component"}
	if r.driver.account == gwtest.OfficialAccount {
		want = []string{"/sns/oauth2/component/access_token component", "/sns/userinfo user"}
	}
	var got []string
	calls := r.calls()
	for _, call := range calls {
		got = append(got, call.Path+" "+call.TokenKind)
		if call.ErrCode != 0 {
			t.Errorf("WeChat answered %d to %s", call.ErrCode, call.Path)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("WeChat saw %q, want %q", got, want)
	}
	if !strings.Contains(calls[0].RawQuery, "appid="+r.driver.account) {
		t.Errorf("the login is not for %s: %s", r.driver.account, calls[0].RawQuery)
	}
}
