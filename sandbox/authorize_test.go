// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

func TestCodesAreGoodOnceForTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		component := w.componentToken()
		code, err := w.Authorize(t.Context(), official)
		w.must(err)
		info := w.component("api_query_auth", component, "authorization_code", code).in("authorization_info")
		if info.text("authorizer_appid") != official || info["expires_in"] != 7200.0 || info["func_info"] == nil {
			t.Errorf("authorization_info %v", info)
		}
		if info.text("authorizer_access_token") != w.ValidToken(sandbox.KindAuthorizer, official) ||
			info.text("authorizer_refresh_token") != w.ValidToken(sandbox.KindRefresh, official) {
			t.Error("the issued tokens are not the valid ones")
		}
		w.wantCode("the same code again", w.component("api_query_auth", component, "authorization_code", code), 61009)
		w.wantCode("an invented code", w.component("api_query_auth", component, "authorization_code", "x"), 61009)

		code, err = w.Authorize(t.Context(), mini)
		w.must(err)
		time.Sleep(10 * time.Minute)
		w.wantCode("a code of ten minutes", w.component("api_query_auth", component, "authorization_code", code), 61010)
	})
}

func TestRefreshTokensExistOnlyAfterQueryAuth(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	code, err := w.Authorize(t.Context(), official)
	w.must(err)
	refreshes := func() (info, list any) {
		list = w.post("/cgi-bin/component/api_get_authorizer_list?access_token="+component,
			`{"component_appid":"`+sandbox.DefaultComponent+`","offset":0,"count":500}`)["list"].([]any)[0].(map[string]any)["refresh_token"]
		return w.component("api_get_authorizer_info", component, "authorizer_appid", official).in("authorization_info")["authorizer_refresh_token"], list
	}
	if info, list := refreshes(); info != nil || list != nil {
		t.Errorf("before api_query_auth: info %v, list %v", info, list)
	}
	w.wantCode("refreshing with nothing", w.component("api_authorizer_token", component, "authorizer_appid", official), 61023)
	w.SetSwitches(sandbox.Switches{EmptyRefreshField: true})
	if info, list := refreshes(); info != "" || list != "" {
		t.Errorf("EmptyRefreshField: info %v, list %v", info, list)
	}
	refresh := w.component("api_query_auth", component, "authorization_code", code).in("authorization_info").text("authorizer_refresh_token")
	if info, list := refreshes(); info != refresh || list != refresh {
		t.Errorf("after api_query_auth: info %v, list %v, want %v", info, list, refresh)
	}
}

func TestRefreshing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		component := w.componentToken()
		first, refresh := w.authorizer(component, official)
		renew := func(appid, refresh string) answer {
			return w.component("api_authorizer_token", component, "authorizer_appid", appid, "authorizer_refresh_token", refresh)
		}
		renewed := renew(official, refresh)
		if renewed.text("authorizer_refresh_token") != refresh {
			t.Error("the refresh token changed")
		}
		time.Sleep(5 * time.Minute)
		w.wantCode("the replaced token after the overlap", w.get("/x?access_token="+first), 40001)
		w.wantCode("a foreign refresh token", renew(official, "refreshtoken@@@x"), 61023)
		w.wantCode("an account that never authorised", renew(mini, refresh), 61003)

		w.SetSwitches(sandbox.Switches{RotateRefreshTokens: true})
		rotated := renew(official, refresh).text("authorizer_refresh_token")
		if rotated == refresh {
			t.Error("RotateRefreshTokens: it did not change")
		}
		w.SetSwitches(sandbox.Switches{})
		w.wantCode("the old refresh token within its grace", renew(official, refresh), 0)
		time.Sleep(5 * time.Minute)
		w.wantCode("the old refresh token after its grace", renew(official, refresh), 61023)
		w.wantCode("the new refresh token", renew(official, rotated), 0)
	})
}

func TestRevocationEndsEverythingAndReturningRenewsIt(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	token, refresh := w.authorizer(component, official)
	pending, err := w.UpdateAuthorized(t.Context(), official)
	w.must(err)
	w.must(w.Revoke(t.Context(), official))
	if w.Authorized(official) {
		t.Error("still authorised")
	}
	if got := w.receiver.last(); got.field("InfoType") != "unauthorized" || got.field("AuthorizerAppid") != official {
		t.Errorf("pushed %s", got.plain)
	}
	renew := func() answer {
		return w.component("api_authorizer_token", component, "authorizer_appid", official, "authorizer_refresh_token", refresh)
	}
	w.wantCode("its token", w.get("/x?access_token="+token), 61003)
	w.wantCode("its refresh token", renew(), 61003)
	w.wantCode("its info", w.component("api_get_authorizer_info", component, "authorizer_appid", official), 61003)
	w.wantCode("a code not yet exchanged", w.component("api_query_auth", component, "authorization_code", pending), 61009)
	w.SetSwitches(sandbox.Switches{RevokedErrCode: 61023})
	w.wantCode("RevokedErrCode", renew(), 61023)
	if w.ValidToken(sandbox.KindAuthorizer, official)+w.ValidToken(sandbox.KindRefresh, official) != "" {
		t.Error("something is said to be valid")
	}

	_, again := w.authorizer(component, official)
	if !w.Authorized(official) || len(w.Accounts()) != 2 {
		t.Errorf("not authorised again, or not two accounts: %v", w.Accounts())
	}
	if again == refresh || again == "" {
		t.Errorf("the refresh token after returning is %q", again)
	}
	w.wantCode("the token from before", w.get("/x?access_token="+token), 40001)
}

func TestAuthorisationEvents(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	types := func() (all []string) {
		for _, p := range w.receiver.all() {
			all = append(all, p.field("InfoType"))
		}
		return all
	}
	code, err := w.Authorize(t.Context(), official)
	w.must(err)
	event := w.receiver.last()
	if event.field("AuthorizationCode") != code || event.field("AuthorizerAppid") != official || event.field("PreAuthCode") == "" {
		t.Errorf("event %s", event.plain)
	}
	if _, err := strconv.ParseInt(event.field("AuthorizationCodeExpiredTime"), 10, 64); err != nil {
		t.Error(err)
	}
	_, err = w.Authorize(t.Context(), official) // nothing changes, so nothing is pushed
	w.must(err)
	w.must(w.AddAccount(sandbox.Account{AppID: official, FuncInfo: []int{1}}))
	_, err = w.Authorize(t.Context(), official)
	w.must(err)
	w.must(w.PushAuthorized(t.Context(), official))
	want := []string{"authorized", "updateauthorized", "updateauthorized"}
	if diff := cmp.Diff(want, types()); diff != "" {
		t.Error(diff)
	}
	w.SetSwitches(sandbox.Switches{NoAuthorizedPush: true, DifferentCodes: true})
	code, err = w.Authorize(t.Context(), mini)
	w.must(err)
	if len(types()) != len(want) {
		t.Error("NoAuthorizedPush: pushed")
	}
	w.must(w.PushAuthorized(t.Context(), mini))
	component := w.componentToken()
	pushes := w.receiver.all()
	inPush := pushes[len(want)].field("AuthorizationCode")
	if inPush == code {
		t.Error("DifferentCodes: the same code")
	}
	for _, each := range []string{code, inPush} {
		w.wantCode("DifferentCodes: each is good", w.component("api_query_auth", component, "authorization_code", each), 0)
	}
	if _, err := w.Authorize(t.Context(), "wxcccccccccccccccc"); err == nil {
		t.Error("a stranger authorised")
	}
}

func TestAccountWithoutPermissionSetsGetsNoTokens(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	w.must(w.AddAccount(sandbox.Account{AppID: official, FuncInfo: []int{}}))
	if token, refresh := w.authorizer(w.componentToken(), official); token+refresh != "" {
		t.Errorf("got %q and %q", token, refresh)
	}
}

func TestAuthorizerInfoAndList(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	for i := range 7 {
		appid := fmt.Sprintf("wx%016x", i)
		w.must(w.AddAccount(sandbox.Account{AppID: appid}))
		_, err := w.Authorize(t.Context(), appid)
		w.must(err)
	}
	list := func(offset, count int) answer {
		return w.post("/cgi-bin/component/api_get_authorizer_list?access_token="+component,
			fmt.Sprintf(`{"component_appid":%q,"offset":%d,"count":%d}`, sandbox.DefaultComponent, offset, count))
	}
	got := list(2, 3)
	if got["total_count"] != 7.0 || len(got["list"].([]any)) != 3 {
		t.Errorf("list %v", got)
	}
	if first := got["list"].([]any)[0].(map[string]any); first["authorizer_appid"] != "wx0000000000000002" {
		t.Errorf("first of page %v", first)
	}
	w.wantCode("500 at a time", list(0, 500), 0)
	w.wantCode("501 at a time", list(0, 501), 40170)

	_, err := w.Authorize(t.Context(), mini)
	w.must(err)
	info := w.component("api_get_authorizer_info", component, "authorizer_appid", mini)
	if info.in("authorizer_info")["MiniProgramInfo"] == nil || info.in("authorization_info").text("authorizer_appid") != mini {
		t.Errorf("info %v", info)
	}
	w.SetSwitches(sandbox.Switches{OldAuthorizationAppID: true})
	info = w.component("api_get_authorizer_info", component, "authorizer_appid", "wx0000000000000001")
	if info.in("authorizer_info")["MiniProgramInfo"] != nil || info.in("authorization_info").text("authorization_appid") == "" {
		t.Errorf("info under the old name %v", info)
	}
}

func TestOptions(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	token, _ := w.authorizer(component, official)
	set := `{"option_name":"voice_recognize","option_value":"1"}`
	w.wantCode("setting", w.post("/cgi-bin/component/set_authorizer_option?access_token="+token, set), 0)
	if got := w.component("api_get_authorizer_option", component, "authorizer_appid", official, "option_name", "voice_recognize"); got.text("option_value") != "1" || got.text("authorizer_appid") != official {
		t.Errorf("by the old path %v", got)
	}
	w.wantCode("an unknown option", w.component("api_get_authorizer_option", component, "authorizer_appid", official, "option_name", "x"), 61012)
	w.wantCode("an unknown value", w.component("api_set_authorizer_option", component, "authorizer_appid", official, "option_name", "voice_recognize", "option_value", "7"), 61013)
	w.wantCode("the component's token on the new path", w.post("/cgi-bin/component/get_authorizer_option?access_token="+component, set), 61015)
	w.SetSwitches(sandbox.Switches{OptionTakesComponent: true})
	w.wantCode("OptionTakesComponent", w.post("/cgi-bin/component/get_authorizer_option?access_token="+token, set), 61014)
}

// launch makes a pre_auth_code and the URL of the authorise page.
func (w *world) launch(component, redirectURI, more string) string {
	w.t.Helper()
	code := w.component("api_create_preauthcode", component).text("pre_auth_code")
	return "/cgi-bin/componentloginpage?component_appid=" + sandbox.DefaultComponent + "&pre_auth_code=" + url.QueryEscape(code) +
		"&redirect_uri=" + url.QueryEscape(redirectURI) + more
}

var link = regexp.MustCompile(`href="([^"]+)"`)

// links are the choices of a page, by appid.
func links(page string) map[string]string {
	found := map[string]string{}
	for _, match := range link.FindAllStringSubmatch(page, -1) {
		target := strings.ReplaceAll(match[1], "&amp;", "&")
		parsed, _ := url.Parse(target)
		found[parsed.Query().Get("account")] = target
	}
	return found
}

func TestAuthorisePageLeadsBackWithACode(t *testing.T) {
	for redirectURI, want := range map[string]string{
		"https://open.example.com/back":         "https://open.example.com/back?auth_code=",
		"https://open.example.com/back?state=1": "https://open.example.com/back?state=1&auth_code=",
	} {
		w := newWorld(t, sandbox.Config{})
		component := w.componentToken()
		start := w.launch(component, redirectURI, "&auth_type=3")
		_, page := w.do("GET", start, "")
		choice := links(page)[mini]
		response, _ := w.do("GET", choice, "")
		location := response.Header.Get("Location")
		if response.StatusCode != http.StatusFound || !strings.HasPrefix(location, want) || !strings.HasSuffix(location, "&expires_in=600") {
			t.Fatalf("sent to %q (%d), page %s", location, response.StatusCode, page)
		}
		back, err := url.Parse(location)
		w.must(err)
		event := w.receiver.last()
		if event.field("AuthorizationCode") != back.Query().Get("auth_code") || !strings.Contains(choice, url.QueryEscape(event.field("PreAuthCode"))) {
			t.Errorf("push and redirect differ: %s", event.plain)
		}
		w.wantCode("the code", w.component("api_query_auth", component, "authorization_code", back.Query().Get("auth_code")), 0)
		if _, page = w.do("GET", choice, ""); !strings.Contains(page, "pre_auth_code") {
			t.Errorf("the pre_auth_code works twice: %s", page)
		}
		w.SetSwitches(sandbox.Switches{PreAuthCodeReusable: true})
		_, page = w.do("GET", w.launch(component, redirectURI, ""), "")
		for range 2 {
			if response, _ = w.do("GET", links(page)[mini], ""); response.StatusCode != http.StatusFound {
				t.Error("PreAuthCodeReusable: it is used up")
			}
		}
	}
}

func TestAuthorisePageOffersWhatWasAskedFor(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	for more, want := range map[string][]string{
		"&auth_type=1":                   {official},
		"&auth_type=2":                   {mini},
		"&auth_type=3":                   {official, mini},
		"&auth_type=6":                   {official, mini},
		"&auth_type=5":                   nil,
		"&auth_type=1&biz_appid=" + mini: {mini},
		"&biz_appid=wxcccccccccccccccc":  nil,
	} {
		_, page := w.do("GET", w.launch(component, "https://a.example/", more), "")
		found := links(page)
		if len(found) != len(want) {
			t.Errorf("%s: offers %v, want %v", more, found, want)
		}
		for _, appid := range want {
			if found[appid] == "" {
				t.Errorf("%s: does not offer %s", more, appid)
			}
		}
	}
	_, page := w.do("GET", w.launch(component, "https://a.example/", "&category_id_list=1|15|99"), "")
	w.do("GET", links(page)[official], "")
	info := w.component("api_get_authorizer_info", component, "authorizer_appid", official).in("authorization_info")
	if sets := info["func_info"].([]any); len(sets) != 2 {
		t.Errorf("category_id_list granted %v", sets)
	}
}

func TestAuthorisePageRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const domain = "open.example.com"
		w := newWorld(t, sandbox.Config{LaunchDomain: domain})
		component := w.componentToken()
		good := "https://" + domain + "/back"
		old := w.launch(component, good, "")
		time.Sleep(1800 * time.Second)
		for name, row := range map[string]struct{ target, referer, complaint string }{
			"a typed URL":                {w.launch(component, good, ""), "", "授权入口页所在域名：空"},
			"another site's link":        {w.launch(component, good, ""), "https://evil.example/", "evil.example"},
			"another site's callback":    {w.launch(component, "https://evil.example/back", ""), good, "evil.example"},
			"a look-alike site":          {w.launch(component, good, ""), "https://" + domain + ".evil.example/", "evil.example"},
			"a script for a callback":    {w.launch(component, "javascript:alert(1)", ""), good, "redirect_uri"},
			"no auth_type 7":             {w.launch(component, good, "&auth_type=7"), good, "auth_type"},
			"a code of half an hour":     {old, good, "已过期"},
			"an invented code":           {strings.Replace(old, "preauthcode", "x", 1), good, "无效"},
			"another component":          {strings.Replace(old, sandbox.DefaultComponent, "wx0000000000000000", 1), good, "component_appid"},
			"the mobile page, no action": {strings.Replace(w.launch(component, good, ""), "/cgi-bin/componentloginpage", "/wxaopen/safe/bindcomponent", 1), good, "action"},
		} {
			response, page := w.do("GET", row.target, "", "Referer", row.referer)
			if response.StatusCode != http.StatusOK || !strings.Contains(page, row.complaint) || len(links(page)) > 0 {
				t.Errorf("%s: %d %s", name, response.StatusCode, page)
			}
		}
		for _, path := range []string{"/wxaopen/safe/bindcomponent", "/safe/bindcomponent"} {
			target := strings.Replace(w.launch(component, good, "&action=bindcomponent&no_scan=1"), "/cgi-bin/componentloginpage", path, 1)
			if _, page := w.do("GET", target, "", "Referer", good); links(page)[official] == "" {
				t.Errorf("%s refuses: %s", path, page)
			}
		}
		w.SetLaunchDomain("")
		if _, page := w.do("GET", w.launch(component, "https://any.example/", ""), ""); links(page)[official] == "" {
			t.Errorf("without a launch domain: %s", page)
		}
	})
}

func TestAFailedPushDoesNotKeepTheAdmin(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	w.receiver.answer = "fail"
	_, page := w.do("GET", w.launch(component, "https://a.example/", ""), "")
	if response, _ := w.do("GET", links(page)[official], ""); response.StatusCode != http.StatusFound {
		t.Errorf("status %d", response.StatusCode)
	}
}
