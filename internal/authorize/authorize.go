// SPDX-License-Identifier: Apache-2.0

// Package authorize serves the launch page, from which the admin of an account
// goes to WeChat to authorise the platform, and the callback, to which WeChat
// sends the browser back. Both are public. So every visit that costs a call to
// WeChat is limited, and the callback accepts only what the launch page has
// signed for the same browser.
//
// It does not decide whether an account is authorised: WeChat does, and package
// tokens exchanges the code and stores the tokens. It stores nothing itself.
//
// Entry points: [Pages.Launch] and [Pages.Callback].
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

// CallbackSuffix is added to the path of the launch page to make the path of the
// callback.
const CallbackSuffix = "/callback"

// authTypes are the values of auth_type, the kinds of account that WeChat's
// page offers: 1 official accounts, 2 mini programs, 3 both, 4 to 6 and 8 newer
// kinds. There is no 7.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
var authTypes = regexp.MustCompile(`^[1-68]$`)

// categoryIDs are the values of category_id_list, numbers of permission sets
// separated by "|". The bounds keep the link short; the known numbers have up to
// three digits.
var categoryIDs = regexp.MustCompile(`^[0-9]{1,4}(\|[0-9]{1,4}){0,199}$`)

// robots matches the User-Agent of programs that fetch every link, such as those
// that make previews in chats. Each of their visits would spend a pre_auth_code.
var robots = regexp.MustCompile(`(?i)bot\b|spider|crawl|preview|slurp|facebookexternalhit`)

// Pages serves the launch page and the callback. There is one for each
// configuration. Its fields are set before the first request and never changed,
// so it is safe for concurrent use.
type Pages struct {
	// Platforms has the component for each component_appid.
	Platforms map[string]*Platform
	// Tokens fetches pre_auth_codes and exchanges authorization_codes.
	Tokens *tokens.Keeper
	// Limits survives a reload. Otherwise each reload would permit a new burst.
	Limits *Limits
	// URLs are scheme and host of WeChat's pages: the first for desktop
	// browsers, the last for the browser inside WeChat. One is enough if both
	// are the same.
	URLs []*url.URL
	// Log receives why a pre_auth_code could not be fetched.
	Log *zap.Logger
}

// Platform is what the pages need of a component. It is never changed.
type Platform struct {
	AppID string // component_appid
	// AppSecrets sign the state. The current one comes first and signs; a
	// previous one is still accepted, for admins who are at WeChat while it
	// changes.
	AppSecrets []secret.Secret
	// ReturnURLs are the addresses to which an admin may be sent after the
	// authorisation. If there are none, the callback always shows the result
	// itself.
	ReturnURLs []ReturnURL
}

// Launch serves the launch page, which has a link to WeChat's authorisation
// page. The admin must follow a link. WeChat compares the domain in the header
// Referer with the one in its console. After a typed address a browser sends no
// Referer, and a redirect adds none
// (developers.weixin.qq.com/community/develop/doc/000c04d52cc030ffe17abe1e852000).
// self is the URL of the launch page as the browser sees it, without a query.
//
// Launch waits for WeChat, which issues a pre_auth_code. All that costs nothing
// is checked before: the parameters, then HEAD and robots, then the limit. A
// refusal is a page and no error. An error says that the page could not be made
// or written.
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

// launchPlatform checks the query of the launch page and returns the component
// that it names, or without a name the only one. The error is the name of the
// first wrong parameter, which the page shows; it never shows the value. The
// state of the application is limited to 512 bytes, because it becomes part of
// a URL.
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

// authorizeLink returns the URL of WeChat's page: the one with a QR code for
// desktop browsers, or the one for the browser inside WeChat
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html).
// WeChat sends the browser back to callback with an auth_code added. It does
// not say which account was authorised: the exchange of the code does.
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

// Callback serves the request with which the browser comes back from WeChat. It
// exchanges the auth_code, waits for the exchange, and shows the result or
// redirects to the return URL. The code may have been exchanged already,
// because WeChat also pushes it; the result is the same. self and the error are
// as for Launch.
//
// The state and the cookie are checked first, and nothing else in the request
// is used before. The limit is checked before the exchange, because a visitor
// with a valid state can invent codes.
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
	// Each invented code costs a call to WeChat, from the quota that the
	// exchange of real codes needs.
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

// showBusy shows the page for a visitor who must wait. Retry-After is in whole
// seconds, rounded up.
func showBusy(w http.ResponseWriter, r *http.Request, wait time.Duration) error {
	seconds := strconv.Itoa(int(wait.Seconds()) + 1)
	w.Header().Set("Retry-After", seconds)
	return showProblem(w, r, http.StatusTooManyRequests, problemBusy, seconds)
}

// withResult adds appid and state to a return URL that was checked. It first
// removes parameters of these names: a visitor chooses the query of the return
// URL, and the application could read an appid from it that was not authorised.
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

// insideWeChat reports whether the browser is the one of the WeChat app.
func insideWeChat(r *http.Request) bool { return strings.Contains(r.UserAgent(), "MicroMessenger") }
