// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Whose token a path takes is WeChat's to say, in some places by the action alone.
func TestTokensByPathAndAction(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	authorizer, _ := w.authorizer(component, official)
	for target, want := range map[string][2]int{ // the component's, the account's
		"/cgi-bin/callback/check?":                                    {0, 0},
		"/wxa/servicemarket/get_paid_order_list?":                     {0, 0},
		"/product/register/check_audit_status?":                       {0, 0},
		"/wxa/setdefaultamsinfo?action=set_share_ratio&":              {0, 61014},
		"/wxa/getdefaultamsinfo?action=get_share_ratio&":              {0, 61014},
		"/wxa/getdefaultamsinfo?action=get_agency_settled_revenue&":   {0, 61014},
		"/wxa/getdefaultamsinfo?action=get_agency_ads_stat&":          {61015, 0},
		"/wxa/getdefaultamsinfo?action=get_agency_ads_detail&":        {61015, 0},
		"/wxa/getdefaultamsinfo?action=unheard_of&":                   {0, 0},
		"/wxa/getdefaultamsinfo?":                                     {0, 0},
		"/wxa/component/fastnormalizebetaweapp?":                      {61015, 0},
		"/product/register/submit_basicinfo?action=get_share_ratio&x": {41001, 41001}, // no parameter of that name
	} {
		w.wantCode(target+" the component's", w.post(target+"access_token="+component, "{}"), want[0])
		w.wantCode(target+" the account's", w.post(target+"access_token="+authorizer, "{}"), want[1])
	}
	for _, path := range []string{"/product/service/check_auth", "/product/register/register_shop"} {
		w.wantCode(path+" by the old name", w.post(path+"?component_access_token="+component, "{}"), 0)
		w.wantCode(path+" by the new name", w.post(path+"?access_token="+component, "{}"), 41021)
		w.wantCode(path+" an account's", w.post(path+"?component_access_token="+authorizer, "{}"), 61014)
	}
}

// A login by POST is a login, in each of its three forms, unless WeChat is strict.
func TestLoginsByPOST(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	w.authorizer(component, mini)
	const form = "application/x-www-form-urlencoded"
	path := "/sns/component/jscode2session?component_access_token=" + component
	parameters := func() url.Values {
		return url.Values{"appid": {mini}, "js_code": {w.NewUserCode(mini, "alice")}, "component_appid": {sandbox.DefaultComponent}}
	}
	asJSON := func() string {
		return `{"appid":"` + mini + `","js_code":"` + w.NewUserCode(mini, "alice") + `","component_appid":"` + sandbox.DefaultComponent + `"}`
	}
	for name, answer := range map[string]func() (string, string, string){
		"query": func() (string, string, string) { return path + "&" + parameters().Encode(), "", "" },
		"form":  func() (string, string, string) { return path, parameters().Encode(), form },
		"JSON":  func() (string, string, string) { return path, asJSON(), "application/json" },
	} {
		target, body, contentType := answer()
		if _, got := w.do("POST", target, body, "Content-Type", contentType); !strings.Contains(got, `"openid":"`+w.OpenID(mini, "alice")) {
			t.Errorf("%s: %s", name, got)
		}
	}
	w.wantCode("no JSON", w.post(path, "appid="+mini), 47001)
	w.wantCode("an account's own", w.post("/sns/jscode2session", `{"appid":"`+mini+`","secret":"s","js_code":"c"}`), 40125)
	w.wantCode("nothing", w.post("/sns/jscode2session", ""), 41002)
	w.wantCode("another method", w.json("PUT", path, asJSON()), 43001)
	w.SetSwitches(sandbox.Switches{LoginByGET: true})
	w.wantCode("LoginByGET", w.post(path, asJSON()), 43001)
}

// A frozen AppSecret gets no token of its own, and stops no call of the platform.
func TestFrozenAppSecret(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	w.must(w.FreezeAppSecret(official, true))
	own := "/cgi-bin/token?grant_type=client_credential&secret=s&appid="
	w.wantCode("its own token", w.get(own+official), 40243)
	w.wantCode("its own stable token", w.post("/cgi-bin/stable_token", `{"appid":"`+official+`","secret":"s"}`), 40243)
	w.wantCode("another account's", w.get(own+mini), 40125)
	authorizer, _ := w.authorizer(component, official)
	w.wantCode("a call of the platform", w.get(ipPath+authorizer), 0)
	w.must(w.FreezeAppSecret(official, false))
	w.wantCode("after it is unfrozen", w.get(own+official), 40125)
	if w.FreezeAppSecret("wx0000000000000000", true) == nil || w.FreezeAppSecret(sandbox.DefaultComponent, true) == nil {
		t.Error("a stranger's or the platform's secret was frozen")
	}
}

// The counter of one path has a budget of its own, fifty times a month.
func TestQuotaOfOnePathIsCleared(t *testing.T) {
	const path, other, clear = "/cgi-bin/user/get", "/cgi-bin/menu/get", `{"cgi_path":"/cgi-bin/user/get"}`
	w := newWorld(t, sandbox.Config{Quota: map[string]int{path: 1, other: 0}})
	component := w.componentToken()
	authorizer, _ := w.authorizer(component, official)
	for range 50 {
		w.wantCode("within the quota", w.get(path+"?access_token="+authorizer), 0)
		w.wantCode("beyond it", w.get(path+"?access_token="+authorizer), 45009)
		w.wantCode("clearing", w.post("/cgi-bin/openapi/quota/clear?access_token="+authorizer, clear), 0)
	}
	w.wantCode("another path", w.get(other+"?access_token="+authorizer), 45009)
	w.wantCode("beyond the budget", w.post("/cgi-bin/openapi/quota/clear?access_token="+authorizer, clear), 48006)
	w.wantCode("the component's", w.post("/cgi-bin/openapi/quota/clear?access_token="+component, clear), 0)
	w.wantCode("the other budget", w.post("/cgi-bin/clear_quota?access_token="+authorizer, `{"appid":"`+official+`"}`), 0)
	w.wantCode("no path", w.post("/cgi-bin/openapi/quota/clear?access_token="+authorizer, `{"cgi_path":"user"}`), 76003)
}
