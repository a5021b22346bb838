// SPDX-License-Identifier: Apache-2.0

// Package authorize serves the launch page, from which the admin of an account
// goes to WeChat to authorise the platform, and the callback, to which WeChat
// sends the browser back. Both are public. So to view the launch page costs no
// call to WeChat, what costs one is limited, in all and for each address, and the
// callback accepts only what the launch page has signed for the same browser.
//
// It does not decide whether an account is authorised: WeChat does, and package
// tokens exchanges the code and stores the tokens. It stores nothing itself.
//
// Entry points: [Pages.Launch], [Pages.Begin] and [Pages.Callback].
package authorize

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
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
	AppID       string // component_appid
	DisplayName string // to whom the pages say that one grants; "" shows none
	// AppSecrets sign the state. The current one comes first and signs; a
	// previous one is still accepted, for admins who are at WeChat while it
	// changes.
	AppSecrets []secret.Secret
	// ReturnURLs are the addresses to which an admin may be sent after the
	// authorisation. If there are none, the callback always shows the result
	// itself.
	ReturnURLs []ReturnURL
}

// Launch serves the launch page: its button sends the form to [Pages.Begin], and
// its QR code leads a phone to the same page. It makes no call and sets no
// cookie, so that anybody may view it as often as he likes. self is the URL of the
// launch page as the browser sees it, without a query.
//
// A refusal, of a wrong parameter or a robot, is a page and no error. An error
// says that the page could not be made or written.
func (p *Pages) Launch(w http.ResponseWriter, r *http.Request, self string) error {
	platform, status, refusal := p.checkVisit(r)
	if platform == nil {
		return show(w, r, status, refusal)
	}
	return showLaunch(w, r, platform, self)
}

// Begin serves the press of the button, a form with an empty body. It checks the
// query as Launch does, fetches a pre_auth_code, and answers with a page that
// goes on to WeChat by script and has the link as well.
//
// It does not redirect. WeChat compares the domain in the header Referer with the
// one in its console: after a typed address a browser sends no Referer, and a
// redirect adds none
// (developers.weixin.qq.com/community/develop/doc/000c04d52cc030ffe17abe1e852000).
// And browsers apply form-action of the Content-Security-Policy to the redirects
// that follow a form.
//
// Begin waits for WeChat. All that costs nothing is checked before. A form of
// another site gets the launch page, so that no stranger can spend the codes of
// an address by the browsers behind it. from is the address of the visitor, see
// sharesOf. self and the error are as for Launch.
func (p *Pages) Begin(w http.ResponseWriter, r *http.Request, self string, from netip.Addr) error {
	platform, status, refusal := p.checkVisit(r)
	if platform == nil {
		return show(w, r, status, refusal)
	}
	if !fromOurPage(r, self) {
		return showLaunch(w, r, platform, self)
	}
	again := launchAddress(r, self)
	if wait := p.Limits.reserve("launch "+platform.AppID, time.Now(), sharesOf(from)...); wait > 0 {
		return show(w, r, http.StatusTooManyRequests, page{Kind: "problem", Problem: problemBusy, Wait: wait, Self: again})
	}
	code, err := p.Tokens.PreAuthCode(r.Context(), platform.AppID)
	if err != nil {
		p.Log.Error("creating pre_auth_code failed", zap.String("component", platform.AppID), zap.Error(err))
		return show(w, r, http.StatusServiceUnavailable, page{Kind: "problem", Problem: problemWeChat, Detail: problem.Of(err).Slug, Wait: patience, Self: again})
	}
	query := r.URL.Query()
	state := launchState{
		Component: platform.AppID,
		ReturnURL: query.Get("return_url"),
		State:     query.Get("state"),
		Browser:   rememberBrowser(w, r, strings.HasPrefix(self, "https:"), code.Lifetime),
		Expires:   time.Now().Add(code.Lifetime).Unix(),
	}
	callback := self + CallbackSuffix + "?" + url.Values{"state": {platform.signState(state)}}.Encode()
	return show(w, r, http.StatusOK, page{
		Kind: "leave", Platform: platform.DisplayName,
		Link: p.authorizeLink(r, platform.AppID, code, callback, query),
	})
}

// checkVisit returns the component that the query of the launch page names, or nil,
// and the page that refuses the visit.
func (p *Pages) checkVisit(r *http.Request) (platform *Platform, status int, refusal page) {
	platform, err := p.launchPlatform(r.URL.Query())
	switch {
	case err != nil:
		return nil, http.StatusBadRequest, page{Kind: "problem", Problem: problemParameter, Detail: err.Error()}
	case isRobot(r):
		return nil, http.StatusForbidden, page{Kind: "problem", Problem: problemRobot}
	}
	return platform, 0, page{}
}

// showLaunch shows the launch page of a platform.
func showLaunch(w http.ResponseWriter, r *http.Request, platform *Platform, self string) error {
	return show(w, r, http.StatusOK, page{
		Kind: "launch", Platform: platform.DisplayName, Self: launchAddress(r, self), Device: deviceOf(r),
	})
}

// launchAddress returns the address of the launch page with the query of the
// request.
func launchAddress(r *http.Request, self string) string {
	return strings.TrimSuffix(self+"?"+r.URL.RawQuery, "?")
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
	if deviceOf(r) == insideWeChat {
		link = *p.URLs[len(p.URLs)-1]
		link.Path = "/wxaopen/safe/bindcomponent"
		link.Fragment = "wechat_redirect"
		values.Set("action", "bindcomponent")
		values.Set("no_scan", "1")
	}
	link.RawQuery = values.Encode()
	return link.String()
}
