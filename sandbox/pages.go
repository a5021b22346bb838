// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// agreePath is where the links of the authorise page lead. What stands there at
// WeChat is nobody's business, so it lies among the levers.
const agreePath = controlPrefix + "agree"

// authTypes lists the auth_type values; true where official accounts, or mini
// programs, are offered.
var authTypes = map[string]struct{ officialAccounts, miniPrograms bool }{
	"":  {true, true}, // older callers leave it out
	"1": {true, false},
	"2": {false, true},
	"3": {true, true},
	"4": {false, false}, // 推客, Channels and 带货助手: the sandbox has no such accounts
	"5": {false, false},
	"6": {true, true},
	"8": {false, false},
}

// authorizePage is what an admin sees: a choice of accounts, each a plain link.
func (s *Sandbox) authorizePage(x *exchange) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.launchError(x.r, x.query); err != nil {
		return errorPage(err), nil
	}
	if err := s.requestError(x.query); err != nil {
		return errorPage(err), nil
	}
	if strings.HasSuffix(x.call.Path, "/bindcomponent") && x.query.Get("action") != "bindcomponent" {
		return errorPage(errors.New("参数错误：action")), nil
	}
	var out strings.Builder
	fmt.Fprintf(&out, "<!doctype html><html lang=\"zh\"><meta charset=\"utf-8\"><title>授权 (sandbox)</title>"+
		"<h1>选择要授权的账号</h1><p>This is the sandbox, not WeChat. Component %s.</p><ul>", s.cfg.Component)
	for _, appid := range s.order {
		a := s.accounts[appid]
		if !offered(a, x.query) {
			continue
		}
		x.query.Set("account", appid)
		fmt.Fprintf(&out, "<li><a data-appid=\"%s\" href=\"%s\">%s</a></li>",
			appid, html.EscapeString(agreePath+"?"+x.query.Encode()), html.EscapeString(a.NickName))
	}
	return page{http.StatusOK, out.String() + "</ul></html>"}, nil
}

// offered reports whether the page lists an account; biz_appid wins over auth_type.
// The accounts of the publish test are nobody's, so they are offered to nobody.
func offered(a *account, query url.Values) bool {
	if pinned := query.Get("biz_appid"); pinned != "" {
		return a.AppID == pinned
	}
	if publishAccount(a.AppID) {
		return false
	}
	kinds := authTypes[query.Get("auth_type")]
	return a.MiniProgram && kinds.miniPrograms || !a.MiniProgram && kinds.officialAccounts
}

// agree is the admin's yes: the event is pushed, the browser sent back. A push
// that fails is no reason for WeChat to keep the admin.
func (s *Sandbox) agree(x *exchange) (any, error) {
	appid, preAuthCode := x.query.Get("account"), x.query.Get("pre_auth_code")
	s.mu.Lock()
	err := s.requestError(x.query)
	if a := s.accounts[appid]; err == nil && (a == nil || !offered(a, x.query)) {
		err = errors.New("该账号不能授权")
	}
	if err == nil && !s.cfg.Switches.PreAuthCodeReusable {
		s.preAuth[preAuthCode].used = true
	}
	life := s.cfg.CodeLifetime
	s.mu.Unlock()
	if err != nil {
		return errorPage(err), nil
	}
	code, _ := s.authorize(x.r.Context(), appid, preAuthCode, permissionSets(x.query))
	separator, to := "?", x.query.Get("redirect_uri")
	if strings.Contains(to, "?") {
		separator = "&"
	}
	return redirect(fmt.Sprintf("%s%sauth_code=%s&expires_in=%d",
		to, separator, url.QueryEscape(code), int(life.Seconds()))), nil
}

// permissionSets reads category_id_list; nil means all.
func permissionSets(query url.Values) []int {
	if !query.Has("category_id_list") {
		return nil
	}
	sets := []int{}
	for id := range strings.SplitSeq(query.Get("category_id_list"), "|") {
		if set, err := strconv.Atoi(id); err == nil {
			sets = append(sets, set)
		}
	}
	return sets
}

// launchError checks where the admin came from. A typed URL, or a 302 from a page
// that sent no Referer, fails here, as at WeChat.
func (s *Sandbox) launchError(r *http.Request, query url.Values) error {
	if s.cfg.LaunchDomain == "" {
		return nil
	}
	from, _ := url.Parse(r.Referer())
	if from == nil || from.Host == "" {
		return errors.New("授权入口页所在域名：空，与授权后回调URL的域名或登记的授权发起页域名不一致")
	}
	if !s.launchHost(from) {
		return fmt.Errorf("请确认授权入口页所在域名，与授权后回调URL所在域名相同，并且，此二者都必须是登记的授权发起页域名。授权入口页所在域名：%s", from.Host)
	}
	return nil
}

// requestError checks the parameters of the page.
func (s *Sandbox) requestError(query url.Values) error {
	preAuth := s.preAuth[query.Get("pre_auth_code")]
	to, err := url.Parse(query.Get("redirect_uri"))
	_, known := authTypes[query.Get("auth_type")]
	switch {
	case query.Get("component_appid") != s.cfg.Component:
		return errors.New("参数错误：component_appid")
	case preAuth == nil || preAuth.used:
		return errors.New("pre_auth_code 无效")
	case !s.now().Before(preAuth.expires):
		return errors.New("pre_auth_code 已过期")
	case err != nil || to.Host == "" || !slices.Contains([]string{"http", "https"}, to.Scheme):
		return errors.New("参数错误：redirect_uri")
	case s.cfg.LaunchDomain != "" && !s.launchHost(to):
		return fmt.Errorf("授权后回调URL所在域名 %s 不是登记的授权发起页域名", to.Host)
	case !known:
		return errors.New("参数错误：auth_type")
	}
	return nil
}

// launchHost compares with the port only where the configured domain has one.
func (s *Sandbox) launchHost(u *url.URL) bool {
	return u.Host == s.cfg.LaunchDomain || u.Hostname() == s.cfg.LaunchDomain
}

func errorPage(err error) page {
	return page{http.StatusOK, "<!doctype html><html lang=\"zh\"><meta charset=\"utf-8\"><title>错误 (sandbox)</title>" +
		"<p class=\"error\">" + html.EscapeString(err.Error()) + "</p></html>"}
}
