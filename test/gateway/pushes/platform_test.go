// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A platform's SDK, which knows nothing but its ticket, goes its whole way: message and
// reply, ticket, event, code, tokens, and a call for the account.
func TestAPlatformSDKGoesItsWholeWay(t *testing.T) {
	w := startPlatforms(t)
	for _, receiveID := range []string{sandbox.DefaultComponent, gwtest.OfficialAccount} {
		reply := *w.shop.codec
		reply.ReceiveID = receiveID
		w.shop.AnswerWith(func(query url.Values, body string) (int, string) {
			plain, err := w.shop.open(query, body)
			switch {
			case err != nil:
				return http.StatusForbidden, ""
			case !strings.Contains(plain, "hello"):
				return http.StatusOK, "success"
			}
			return http.StatusOK, string(reply.Seal([]byte(passive("for "+receiveID)), time.Now(), query.Get("nonce")).XML())
		})
		if got, err := w.WeChat.Push(t.Context(), w.WeChat.Text(gwtest.OfficialAccount, "follower", "hello")); err != nil || got.Reply != passive("for "+receiveID) {
			t.Errorf("%q, %v", got.Reply, err)
		}
	}
	w.Authorize()
	code := w.shop.codes(gwtest.OfficialAccount)[0]
	tickets := w.shop.events("component_verify_ticket")
	if len(tickets) == 0 || !strings.HasPrefix(tickets[0].ComponentVerifyTicket.Reveal(), "gwk1.") {
		t.Fatalf("%d tickets", len(tickets))
	}
	if n := len(w.alien.Deliveries()); n != 0 {
		t.Errorf("a platform of another component got %d deliveries", n)
	}
	queries := w.WeChat.Count(queryAuth)
	for range 3 { // as often as asked
		got := w.shop.exchange(w.Gateway, sandbox.DefaultComponent, tickets[0].ComponentVerifyTicket.Reveal(), code)
		info := got.Info
		if got.ErrCode != 0 || info.AppID != gwtest.OfficialAccount || !strings.HasPrefix(info.Token, "gw1.") || info.Expires != 7200 ||
			!strings.HasPrefix(info.Refresh, "gwr1.") || len(info.Functions) == 0 {
			t.Fatalf("%+v", got)
		}
		if answer := w.AskGet(gwtest.AuthorizerPath + "?access_token=" + info.Token); answer.ErrCode != 0 {
			t.Errorf("a call with the token: %s", answer.Body)
		}
	}
	if again := w.WeChat.Count(queryAuth); again != queries {
		t.Errorf("WeChat was asked %d times for a gateway code", again-queries)
	}
}

// What the code of an event is worth, and to whom.
func TestWhatAGatewayCodeOpens(t *testing.T) {
	w := startPlatforms(t)
	w.Authorize()
	const component = sandbox.DefaultComponent
	code, foreign := w.shop.codes(gwtest.OfficialAccount)[0], w.beta.codes(gwtest.MiniProgram)[0]
	if code == w.desk.codes(gwtest.OfficialAccount)[0] {
		t.Error("two clients have the same code")
	}
	signed := func(client *platformSDK, clientSecret, appID string, expires time.Time) string {
		t.Helper()
		appSecret, _, _ := w.WeChat.Keys()
		if client == w.alien {
			appSecret = otherAppSecret
		}
		key, err := gwtoken.NewKey(secret.New(appSecret), sha256.Sum256([]byte(clientSecret)))
		if err != nil {
			t.Fatal(err)
		}
		under := component
		if client == w.alien {
			under = otherComponent
		}
		return key.IssueCode(gwtoken.Claims{Client: client.name, Subject: subject.Of(under, appID), Expires: expires})
	}
	soon := time.Now().Add(time.Hour)
	for name, row := range map[string]struct {
		by   *platformSDK
		code string
		want int
	}{
		"its own":                             {w.shop, code, 0},
		"another client with the account":     {w.desk, code, 0},
		"another account of a client with *":  {w.desk, foreign, 0},
		"a client without the account":        {w.beta, code, 61003},
		"the account of another":              {w.shop, foreign, 61003},
		"a client of another component":       {w.alien, code, 61009},
		"a code of another component":         {w.shop, signed(w.alien, w.alien.secret, gwtest.OfficialAccount, soon), 61009},
		"the last second":                     {w.shop, signed(w.shop, w.shop.secret, gwtest.OfficialAccount, time.Now().Add(30*time.Second)), 0},
		"after its hour":                      {w.shop, signed(w.shop, w.shop.secret, gwtest.OfficialAccount, time.Now()), 61010},
		"long after":                          {w.shop, signed(w.shop, w.shop.secret, gwtest.OfficialAccount, time.Unix(1, 0)), 61010},
		"signed by who knows no secret":       {w.shop, signed(w.shop, "a secret that somebody has guessed", gwtest.OfficialAccount, soon), 61009},
		"signed by the client of another":     {w.shop, signed(w.beta, w.shop.secret, gwtest.OfficialAccount, soon), 61009},
		"an account that nobody has":          {w.desk, signed(w.desk, w.desk.secret, "wxdddddddddddddddd", soon), 61003},
		"cut":                                 {w.shop, code[:len(code)-1], 61009},
		"flipped":                             {w.shop, strings.Replace(code, gwtest.OfficialAccount, gwtest.MiniProgram, 1), 61009},
		"within another text":                 {w.desk, "queryauthcode@@@" + code, 61009},
		"a token":                             {w.desk, w.shop.exchange(w.Gateway, component, "any", code).Info.Token, 61009},
		"a ticket":                            {w.desk, gwtoken.NewTicket(), 61009},
		"WeChat's own, without component_api": {w.shop, "queryauthcode@@@made-up", 48001},
	} {
		w.WeChat.ResetCounts()
		if got := row.by.exchange(w.Gateway, row.by.component(), "any", row.code); got.ErrCode != row.want || (row.want == 0) != (got.Info.AppID != "") {
			t.Errorf("%s: %+v, want %d", name, got, row.want)
		}
		if n := w.WeChat.Count(queryAuth); n != 0 {
			t.Errorf("%s: WeChat was asked %d times", name, n)
		}
	}
}

// A code is stored nowhere, and needs nothing that is stored: it works after a restart,
// and at a node with another storage that has never heard of the account.
func TestAGatewayCodeOutlivesARestart(t *testing.T) {
	w := startPlatforms(t)
	w.Authorize()
	code := w.shop.codes(gwtest.OfficialAccount)[0]
	want := func(when string) {
		t.Helper()
		for _, by := range []*platformSDK{w.shop, w.desk} {
			if got := by.exchange(w.Gateway, sandbox.DefaultComponent, "any", code); got.ErrCode != 0 || got.Info.AppID != gwtest.OfficialAccount || got.Info.Refresh == "" || len(got.Info.Functions) == 0 {
				t.Errorf("%s, %s: %+v", when, by.name, got)
			}
		}
	}
	w.Restart(t, func() {})
	want("after a restart")
	w.Restart(t, func() {
		stored, err := filepath.Glob(filepath.Join(w.Storage, "*"))
		if err != nil || len(stored) == 0 {
			t.Errorf("%v, %v", stored, err)
		}
		for _, folder := range stored {
			if err := os.RemoveAll(folder); err != nil {
				t.Error(err)
			}
		}
	})
	if err := w.WeChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("at a node that knows nothing")
	if n := w.WeChat.Count(queryAuth); n != 0 {
		t.Errorf("WeChat was asked %d times for a code", n)
	}
	w.Change(func(o *gwtest.Options) {
		o.Clients = w.desk.client(sandbox.DefaultComponent, "authorizers *\ncomponent_api") + w.alien.client(otherComponent, "authorizers *")
	})
	if got := w.desk.exchange(w.Gateway, sandbox.DefaultComponent, "any", code); got.ErrCode != 61009 {
		t.Errorf("the code of a client that was removed: %+v", got)
	}
}

// An application that was down gets the event with a code that is new then.
func TestAPlatformThatWasDownGetsAFreshCode(t *testing.T) {
	w := startPlatforms(t)
	w.shop.AnswerWith(func(url.Values, string) (int, string) { return http.StatusBadGateway, "" })
	w.Authorize()
	eventually(t, "it is tried again", func() bool { return len(w.shop.events("authorized")) >= 2 })
	w.shop.AnswerWith(gwtest.Success)
	codes := w.shop.codes(gwtest.OfficialAccount)
	seen := make(map[string]bool)
	for _, code := range codes {
		if seen[code] {
			t.Errorf("the same code twice")
		}
		seen[code] = true
		if got := w.shop.exchange(w.Gateway, sandbox.DefaultComponent, "any", code); got.ErrCode != 0 {
			t.Errorf("%+v", got)
		}
	}
}

// An application that is at the exchange before the gateway has exchanged WeChat's own code
// waits for that, and is told what the account has granted just now. Nobody else waits.
func TestAPlatformExchangesWhileWeChatIsSlow(t *testing.T) {
	const component, account = sandbox.DefaultComponent, gwtest.OfficialAccount
	for name, withdrawn := range map[string]bool{"a new authorisation": true, "other permission sets": false} {
		t.Run(name, func(t *testing.T) {
			crm := newPlatformSDK(t, "crm")
			g, wechat := startHolding(t, gwtest.Options{
				Clients: gwtest.ShopClient + crm.client(component, "authorizers *"), Watch: true, Secrets: []string{crm.secret},
			}, queryAuth)
			other, codes := crm.codes(gwtest.MiniProgram)[0], crm.codes(account)
			if withdrawn {
				if err := g.WeChat.Revoke(t.Context(), account); err != nil {
					t.Fatal(err)
				}
			}
			granted := []int{1, 2, 99}
			if err := g.WeChat.AddAccount(sandbox.Account{AppID: account, FuncInfo: granted}); err != nil {
				t.Fatal(err)
			}
			release := wechat.hold(t)
			if _, err := g.WeChat.Authorize(t.Context(), account); err != nil {
				t.Fatal(err)
			}
			before := len(codes)
			eventually(t, "the event comes", func() bool { codes = crm.codes(account); return len(codes) > before })
			answered := make(chan exchanged, 1)
			go func() {
				defer close(answered)
				answered <- crm.exchange(g, component, "any", codes[before])
			}()
			for range 10 {
				if got := crm.exchange(g, component, "any", other); got.ErrCode != 0 || got.Info.AppID != gwtest.MiniProgram {
					t.Errorf("of another account: %+v", got)
				}
			}
			select {
			case got := <-answered:
				t.Errorf("answered before the exchange: %+v", got)
			default:
			}
			release()
			if got := <-answered; got.ErrCode != 0 || got.Info.Token == "" || !slices.Equal(got.functions(), granted) {
				t.Errorf("%+v", got)
			}
			if n := g.WeChat.Count(queryAuth); n != 1 {
				t.Errorf("%d exchanges, want one", n)
			}
		})
	}
}

// A withdrawal ends the code, too.
func TestAGatewayCodeEndsWithTheAuthorisation(t *testing.T) {
	w := startPlatforms(t)
	w.Authorize()
	code := w.shop.codes(gwtest.OfficialAccount)[0]
	if err := w.WeChat.Revoke(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	if got := w.shop.exchange(w.Gateway, sandbox.DefaultComponent, "any", code); got.ErrCode != 61003 {
		t.Errorf("%+v", got)
	}
}

// WeChat's ticket comes every ten minutes, to one node; a ticket of the gateway follows,
// which is another one each time.
func TestTicketsFollowWeChats(t *testing.T) {
	w := startPlatforms(t)
	for range 3 {
		if err := w.WeChat.PushTicket(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []*platformSDK{w.shop, w.desk, w.beta} {
		tickets := make(map[string]bool)
		eventually(t, p.name+" has three tickets", func() bool {
			for _, e := range p.events("component_verify_ticket") {
				tickets[e.ComponentVerifyTicket.Reveal()] = true
			}
			return len(tickets) >= 3
		})
	}
	if n := len(w.alien.Deliveries()); n != 0 {
		t.Errorf("%d tickets for another component", n)
	}
}
