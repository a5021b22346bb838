// SPDX-License-Identifier: Apache-2.0

// Package authorize serves the pages from which an account's admin authorises the
// platform, and the callback to which WeChat sends the browser back. They are
// public: whatever comes is somebody's guess until its signature says otherwise.
package authorize

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// CallbackSuffix is what the path of the callback has after that of the launch page.
const CallbackSuffix = "/callback"

// authTypes are the kinds of account the page may offer: official accounts,
// mini programs, both, and newer ones; there is no 7.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
var authTypes = regexp.MustCompile(`^[1-68]$`)

var categoryIDs = regexp.MustCompile(`^[0-9]{1,4}(\|[0-9]{1,4}){0,199}$`)

// robots are the programs that fetch every link they see. Each visit of the
// page would spend a pre_auth_code.
var robots = regexp.MustCompile(`(?i)bot\b|spider|crawl|preview|slurp|facebookexternalhit`)

// Pages serves the pages from which an account's admin authorises a platform. It
// is safe for concurrent use; its fields are not changed.
type Pages struct {
	Platforms map[string]*Platform // by component_appid
	Tokens    *tokens.Keeper
	Limits    *Limits
	URLs      []*url.URL // of WeChat's authorisation pages: for desktop browsers, and inside WeChat if that is another
	Log       *zap.Logger
}

// Platform is a component as its admins meet it. It is read only.
type Platform struct {
	AppID      string
	AppSecrets []secret.Secret // sign the state; the current one first
	ReturnURLs []ReturnURL     // where an admin may be sent after authorising
}

// Launch serves the page whose link leads to WeChat's authorisation page. It
// must be a link: WeChat checks the Referer, which a redirect does not send. Self
// is the address of this page as the browser sees it.
func (p *Pages) Launch(w http.ResponseWriter, r *http.Request, self string) error {
	query := r.URL.Query()
	platform, err := p.launchPlatform(query)
	if err != nil {
		return showProblem(w, r, http.StatusBadRequest, problemParameter, err.Error())
	}
	if r.Method == http.MethodHead || robots.MatchString(r.UserAgent()) {
		return showProblem(w, r, http.StatusForbidden, problemRobot, "")
	}
	if wait := p.Limits.reserve("launch "+platform.AppID, time.Now()); wait > 0 {
		return showBusy(w, r, wait)
	}
	code, err := p.Tokens.PreAuthCode(r.Context(), platform.AppID)
	if err != nil {
		p.Log.Error("creating pre_auth_code failed", zap.String("component", platform.AppID), zap.Error(err))
		return showProblem(w, r, http.StatusServiceUnavailable, problemWeChat, problem.Of(err).Slug)
	}
	state := launchState{
		Component: platform.AppID,
		ReturnURL: query.Get("return_url"),
		State:     query.Get("state"),
		Browser:   rememberBrowser(w, r, strings.HasPrefix(self, "https:"), code.Lifetime),
		Expires:   time.Now().Add(code.Lifetime).Unix(),
	}
	callback := self + CallbackSuffix + "?" + url.Values{"state": {platform.signState(state)}}.Encode()
	return show(w, r, http.StatusOK, page{
		Kind:   "launch",
		Link:   p.authorizeLink(r, platform.AppID, code, callback, query),
		Self:   strings.TrimSuffix(self+"?"+r.URL.RawQuery, "?"),
		Mobile: insideWeChat(r),
	})
}

// launchPlatform checks the query of the launch page and returns the
// component it is for: the one named, or the only one.
func (p *Pages) launchPlatform(query url.Values) (*Platform, error) {
	_, found, _ := subject.Named(p.Platforms, query.Get("component"))
	authType, bizAppID, categories := query.Get("auth_type"), query.Get("biz_appid"), query.Get("category_id_list")
	switch {
	case found == nil:
		return nil, errors.New("component")
	case authType != "" && !authTypes.MatchString(authType):
		return nil, errors.New("auth_type")
	case bizAppID != "" && !subject.ValidAppID(bizAppID):
		return nil, errors.New("biz_appid")
	case categories != "" && !categoryIDs.MatchString(categories):
		return nil, errors.New("category_id_list")
	case query.Get("return_url") != "" && !found.mayReturnTo(query.Get("return_url")):
		return nil, errors.New("return_url")
	case len(query.Get("state")) > 512:
		return nil, errors.New("state")
	}
	return found, nil
}

// authorizeLink returns WeChat's page: the one that shows a QR code to
// desktop browsers, or the one for the browser inside WeChat.
func (p *Pages) authorizeLink(r *http.Request, component string, code openapi.PreAuthCode, callback string, query url.Values) string {
	link := *p.URLs[0]
	values := url.Values{
		"component_appid": {component},
		"pre_auth_code":   {code.Value.Reveal()},
		"redirect_uri":    {callback},
		"auth_type":       {"3"},
	}
	for _, name := range []string{"auth_type", "biz_appid", "category_id_list"} {
		if value := query.Get(name); value != "" {
			values.Set(name, value)
		}
	}
	link.Path = "/cgi-bin/componentloginpage"
	if insideWeChat(r) {
		link = *p.URLs[len(p.URLs)-1]
		link.Path = "/wxaopen/safe/bindcomponent"
		link.Fragment = "wechat_redirect"
		values.Set("action", "bindcomponent")
		values.Set("no_scan", "1")
	}
	link.RawQuery = values.Encode()
	return link.String()
}

// Callback takes the browser back from WeChat: it exchanges the code, stores
// what it brought, and shows the result or sends the admin on. Self is the address
// of the launch page as the browser sees it.
func (p *Pages) Callback(w http.ResponseWriter, r *http.Request, self string) error {
	query := r.URL.Query()
	state, platform := p.openState(query.Get("state"), time.Now())
	again := func(status int, problem, detail string) error {
		return show(w, r, status, page{Kind: "problem", Problem: problem, Detail: detail, Self: self + state.query()})
	}
	if platform == nil || !fromBrowser(r, strings.HasPrefix(self, "https:"), state.Browser) {
		return again(http.StatusBadRequest, problemState, "")
	}
	code := secret.New(query.Get("auth_code"))
	if code == nil || len(code.Reveal()) > 512 {
		return again(http.StatusBadRequest, problemCode, "")
	}
	if r.Method == http.MethodHead {
		return nil
	}
	// Anybody can come here with a made-up code, and each costs a question.
	if wait := p.Limits.reserve("callback "+platform.AppID, time.Now()); wait > 0 {
		return showBusy(w, r, wait)
	}
	appid, err := p.Tokens.Exchange(r.Context(), platform.AppID, code)
	if err != nil {
		kind, status := problemWeChat, http.StatusBadGateway
		if openapi.KindOf(err) == openapi.CodeSpent {
			kind, status = problemCode, http.StatusBadRequest
		}
		return again(status, kind, problem.Of(err).Slug)
	}
	if state.ReturnURL == "" {
		return show(w, r, http.StatusOK, page{Kind: "done", AppID: appid})
	}
	secureHeaders(w)
	http.Redirect(w, r, withResult(state.ReturnURL, appid, state.State), http.StatusSeeOther)
	return nil
}

func showBusy(w http.ResponseWriter, r *http.Request, wait time.Duration) error {
	seconds := strconv.Itoa(int(wait.Seconds()) + 1)
	w.Header().Set("Retry-After", seconds)
	return showProblem(w, r, http.StatusTooManyRequests, problemBusy, seconds)
}

// withResult appends appid and state to an address that was checked, and takes
// out what it may have of them: the application must read ours.
func withResult(returnURL, appid, state string) string {
	target, err := url.Parse(returnURL)
	if err != nil {
		return "/"
	}
	values := url.Values{"appid": {appid}}
	if state != "" {
		values.Set("state", state)
	}
	kept := rewrite.Without(target.RawQuery, nil, "appid", "state")
	target.RawQuery = strings.TrimPrefix(kept+"&"+values.Encode(), "&")
	return target.String()
}

func insideWeChat(r *http.Request) bool { return strings.Contains(r.UserAgent(), "MicroMessenger") }
