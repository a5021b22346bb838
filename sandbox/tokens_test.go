// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const ipPath = "/cgi-bin/getcallbackip?access_token="

func TestComponentTokenNeedsTheSecretAndALiveTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		w.must(w.PushTicket(t.Context()))
		ticket := w.receiver.last().field("ComponentVerifyTicket")
		if !strings.HasPrefix(ticket, "ticket@@@") {
			t.Errorf("ticket %q", ticket)
		}
		body := func(component, secret, ticket string) string {
			return fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":%q}`, component, secret, ticket)
		}
		c, secret := sandbox.DefaultComponent, sandbox.DefaultAppSecret
		for name, row := range map[string]struct {
			body string
			code int
		}{
			"another component":       {body("wx0000000000000000", secret, ticket), 40013},
			"no component":            {body("", secret, ticket), 41018},
			"a wrong secret":          {body(c, "wrong", ticket), 40125},
			"no secret":               {body(c, "", ticket), 41004},
			"an unknown ticket":       {body(c, secret, "ticket@@@x"), 61006},
			"a body that is not JSON": {"{", 47001},
			"an empty body":           {" ", 44002},
			"everything right":        {body(c, secret, ticket), 0},
		} {
			w.wantCode(name, w.post("/cgi-bin/component/api_component_token", row.body), row.code)
		}
		time.Sleep(12*time.Hour - time.Nanosecond)
		w.wantCode("a ticket in its last moment", w.tokenFor(ticket), 0)
		time.Sleep(time.Nanosecond)
		w.wantCode("a ticket of 12 hours", w.tokenFor(ticket), 61005)
		if got := w.ValidToken(sandbox.KindTicket, ""); got != "" {
			t.Errorf("an expired ticket is said to be valid: %s", got)
		}
	})
}

func TestTokenLifeAndOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		first := w.componentToken()
		if len(first) < 150 || !strings.Contains(first, "REALTOKEN") {
			t.Errorf("token %q is neither realistic nor recognisable", first)
		}
		time.Sleep(time.Minute)
		second := w.componentToken()
		w.wantCode("the old token at once", w.get(ipPath+first), 0)
		time.Sleep(5*time.Minute - time.Nanosecond)
		w.wantCode("the old token in the last moment of the overlap", w.get(ipPath+first), 0)
		time.Sleep(time.Nanosecond)
		late := w.get(ipPath + first)
		w.wantCode("the old token after the overlap", late, 40001)
		if !strings.Contains(late.text("errmsg"), "not latest") || !strings.Contains(late.text("errmsg"), " rid: ") {
			t.Errorf("errmsg %q", late.text("errmsg"))
		}
		if w.ValidToken(sandbox.KindComponent, "") != second {
			t.Error("ValidToken is not the newest token")
		}
		time.Sleep(7200*time.Second - 5*time.Minute - time.Nanosecond)
		w.wantCode("the token in its last moment", w.get(ipPath+second), 0)
		time.Sleep(time.Nanosecond)
		w.wantCode("the token after 7200 s", w.get(ipPath+second), 42001)
		if got := w.ValidToken(sandbox.KindComponent, ""); got != "" {
			t.Errorf("an expired token is said to be valid: %s", got)
		}
	})
}

func TestEachPathTakesItsOwnTokenKind(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	authorizer, _ := w.authorizer(component, official)
	user := userToken(w, component)
	for _, row := range []struct {
		what, path, token string
		code              int
	}{
		{"an account's API with its token", "/cgi-bin/some/thing?access_token=", authorizer, 0},
		{"an account's API with the component's", "/cgi-bin/some/thing?access_token=", component, 61015},
		{"an account's API ignores the component's parameter", "/cgi-bin/some/thing?component_access_token=", authorizer, 41001},
		{"an account's API with nothing", "/cgi-bin/some/thing?x=", "", 41001},
		{"an account's API with junk", "/cgi-bin/some/thing?access_token=", "junk", 40014},
		{"an account's API with a user's token", "/cgi-bin/some/thing?access_token=", user, 40001},
		{"a component API with its token", "/wxa/gettemplatelist?access_token=", component, 0},
		{"a component API by the old name", "/wxa/gettemplatelist?component_access_token=", component, 0},
		{"a component API with an account's", "/wxa/gettemplatelist?access_token=", authorizer, 61014},
		{"the table's prefix", "/componenttcb/anything?access_token=", authorizer, 61014},
		{"a neighbour of the table", "/wxa/gettemplatelists?access_token=", component, 61015},
		{"either with the component's", "/tcb/modifyenv?access_token=", component, 0},
		{"either with an account's", "/tcb/modifyenv?access_token=", authorizer, 0},
		{"privacy settings are the account's", "/cgi-bin/component/getprivacysetting?access_token=", authorizer, 0},
		{"an sns component call without token", "/sns/component/jscode2session?x=", "", 41021},
		{"a user's call with an account's token", "/sns/auth?openid=x&access_token=", authorizer, 40001},
	} {
		w.wantCode(row.what, w.get(row.path+row.token), row.code)
	}
	if got := w.get("/cgi-bin/component/api_query_auth?access_token=" + component); got.code() != 43002 {
		t.Errorf("GET where POST is due: %v", got)
	}
	if got := w.post("/cgi-bin/user/get?access_token="+authorizer, "{}"); got.code() != 43001 {
		t.Errorf("POST where GET is due: %v", got)
	}
}

func TestLeversEndTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		component := w.componentToken()
		token, refresh := w.authorizer(component, official)
		w.ExpireTokens(official)
		w.wantCode("an expired token", w.get("/x?access_token="+token), 42001)
		w.wantCode("another subject's token", w.get(ipPath+component), 0)

		token = w.component("api_authorizer_token", component, "authorizer_appid", official, "authorizer_refresh_token", refresh).text("authorizer_access_token")
		w.KillTokens("")
		w.wantCode("a killed token", w.get("/x?access_token="+token), 40001)
		w.wantCode("killing all means the component too", w.get(ipPath+component), 40001)

		component = w.componentToken()
		other, err := w.RotateToken(sandbox.DefaultComponent)
		w.must(err)
		w.wantCode("the token of the second process", w.get(ipPath+other), 0)
		time.Sleep(5 * time.Minute)
		w.wantCode("ours, 5 minutes after the second process", w.get(ipPath+component), 40001)

		w.AdvanceClock(2 * time.Hour)
		w.wantCode("a token two hours on", w.get(ipPath+other), 42001)
	})
}

func TestSpeedMakesLifetimesPassFaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{Speed: 3600})
		token := w.componentToken()
		time.Sleep(2*time.Second - time.Nanosecond)
		w.wantCode("just before two accelerated hours", w.get(ipPath+token), 0)
		time.Sleep(time.Nanosecond)
		w.wantCode("after two accelerated hours", w.get(ipPath+token), 42001)
	})
}

func TestSecretRotation(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	secret := w.RotateAppSecret("")
	if got := w.post("/cgi-bin/component/api_component_token", fmt.Sprintf(
		`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":"x"}`, sandbox.DefaultComponent, sandbox.DefaultAppSecret)); got.code() != 40125 {
		t.Errorf("the old secret: %v", got)
	}
	w.wantCode("the new secret "+secret, w.tokenFor(w.ValidToken(sandbox.KindTicket, "")), 0)
	w.wantCode("a token from before", w.get(ipPath+component), 0)
}

func TestOrdinaryTokenEndpointsRefuseAThirdParty(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	for target, code := range map[string]int{
		"/cgi-bin/token?grant_type=client_credential&appid=" + official + "&secret=s":                   40125,
		"/cgi-bin/token?grant_type=client_credential&appid=wx0000000000000000&secret=s":                 40013,
		"/cgi-bin/token?grant_type=client_credential&secret=s":                                          41002,
		"/cgi-bin/token?grant_type=client_credential&appid=" + official:                                 41004,
		"/sns/jscode2session?appid=" + mini + "&secret=s&js_code=c&grant_type=authorization_code":       40125,
		"/sns/oauth2/access_token?appid=" + official + "&secret=s&code=c&grant_type=authorization_code": 40125,
	} {
		w.wantCode(target, w.get(target), code)
	}
	stable := `{"grant_type":"client_credential","appid":"` + official + `","secret":"s"}`
	w.wantCode("stable_token", w.post("/cgi-bin/stable_token", stable), 40125)
}

func TestCredentialsListsWhatLeakTestsMustSearchFor(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	token, refresh := w.authorizer(component, official)
	user := userToken(w, component)
	rotated, err := w.RotateRefreshToken(official)
	w.must(err)
	w.must(w.RotatePushKeys("", ""))
	secret, push, key := w.Keys()
	listed := strings.Join(w.Credentials(), "\n")
	for _, credential := range []string{
		sandbox.DefaultAppSecret, sandbox.DefaultToken, sandbox.DefaultEncodingAESKey, secret, push, key,
		w.ValidToken(sandbox.KindTicket, ""), component, token, refresh, rotated,
	} {
		if credential == "" || !strings.Contains(listed, credential) {
			t.Errorf("%q is missing", credential)
		}
	}
	if user == "" || strings.Contains(listed, user) {
		t.Error("a web user's token belongs to the application and is no leak")
	}
}
