// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// userToken logs a user of the official account in, who must have authorised.
func userToken(w *world, component string) string {
	w.t.Helper()
	return w.get("/sns/oauth2/component/access_token?component_appid=" + sandbox.DefaultComponent + "&appid=" + official +
		"&grant_type=authorization_code&code=" + w.NewUserCode(official, "alice") + "&component_access_token=" + component).text("access_token")
}

func TestUserCodesAreGoodOnceForFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		component := w.componentToken()
		session := func(code string) answer {
			return w.get("/sns/component/jscode2session?appid=" + mini + "&js_code=" + code +
				"&grant_type=authorization_code&component_appid=" + sandbox.DefaultComponent + "&component_access_token=" + component)
		}
		code := w.NewUserCode(mini, "alice")
		w.wantCode("a code before the account has authorised", session(code), 61003)
		w.authorizer(component, mini)
		first := session(code)
		if first.text("openid") != w.OpenID(mini, "alice") || first.text("session_key") == "" {
			t.Errorf("session %v", first)
		}
		w.wantCode("the same code again", session(code), 40163)
		w.wantCode("an unknown code", session("0anything"), 40029)
		w.wantCode("another account's code", session(w.NewUserCode(official, "alice")), 40029)
		late := w.NewUserCode(mini, "alice")
		time.Sleep(5 * time.Minute)
		w.wantCode("a code of five minutes", session(late), 42003)
	})
}

func TestUserTokensAreTheUsers(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	w.authorizer(component, official)
	issued := w.get("/sns/oauth2/component/access_token?component_appid=" + sandbox.DefaultComponent + "&appid=" + official +
		"&code=" + w.NewUserCode(official, "alice") + "&component_access_token=" + component)
	token, openid := issued.text("access_token"), issued.text("openid")
	if got := w.get("/sns/userinfo?openid=" + openid + "&access_token=" + token); got.text("openid") != openid {
		t.Errorf("userinfo %v", got)
	}
	w.wantCode("auth", w.get("/sns/auth?openid="+openid+"&access_token="+token), 0)
	w.wantCode("somebody else's openid", w.get("/sns/auth?openid=o&access_token="+token), 40003)
	w.wantCode("the component's token", w.get("/sns/userinfo?openid="+openid+"&access_token="+component), 40001)

	renewed := w.get("/sns/oauth2/refresh_token?grant_type=refresh_token&appid=" + official + "&refresh_token=" + issued.text("refresh_token"))
	w.wantCode("the renewed token", w.get("/sns/auth?openid="+openid+"&access_token="+renewed.text("access_token")), 0)
	third := "&component_appid=" + sandbox.DefaultComponent + "&component_access_token=" + component
	w.wantCode("renewal through the component", w.get("/sns/oauth2/component/refresh_token?appid="+official+"&refresh_token="+issued.text("refresh_token")+third), 0)
	w.wantCode("an invented refresh token", w.get("/sns/oauth2/refresh_token?appid="+official+"&refresh_token=x"), 40030)
	w.wantCode("no component_appid", w.get("/sns/oauth2/component/refresh_token?appid="+official+"&component_access_token="+component), 41018)
}
