// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const callbackSuffix = "/callback"

// authTypes are the kinds of account the page may offer: official accounts,
// mini programs, both, and newer ones; there is no 7.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
var authTypes = regexp.MustCompile(`^[1-68]$`)

var categoryIDs = regexp.MustCompile(`^[0-9]{1,4}(\|[0-9]{1,4}){0,199}$`)

// robots are the programs that fetch every link they see. Each visit of the
// page would spend a pre_auth_code.
var robots = regexp.MustCompile(`(?i)bot\b|spider|crawl|preview|slurp|facebookexternalhit`)

// launch serves the page whose link leads to WeChat's authorisation page. It
// must be a link: WeChat checks the Referer, which a redirect does not send.
func (a *Authorize) launch(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	component, err := a.app.launchComponent(query)
	if err != nil {
		return showProblem(w, r, http.StatusBadRequest, problemParameter, err.Error())
	}
	if r.Method == http.MethodHead || robots.MatchString(r.UserAgent()) {
		return showProblem(w, r, http.StatusForbidden, problemRobot, "")
	}
	if wait := a.app.state.rations.take("launch "+component.appid, time.Now()); wait > 0 {
		return showBusy(w, r, wait)
	}
	code, err := a.app.state.keeper.PreAuthCode(r.Context(), component.appid)
	if err != nil {
		a.app.log.Error("creating pre_auth_code failed", zap.String("component", component.appid), zap.Error(err))
		return showProblem(w, r, http.StatusServiceUnavailable, problemWeChat, problem.Of(err).Slug)
	}
	self := a.self(r)
	state := launchState{
		Component: component.appid,
		ReturnURL: query.Get("return_url"),
		State:     query.Get("state"),
		Browser:   rememberBrowser(w, r, strings.HasPrefix(self, "https:"), code.Lifetime),
		Expires:   time.Now().Add(code.Lifetime).Unix(),
	}
	callback := self + callbackSuffix + "?" + url.Values{"state": {component.signState(state)}}.Encode()
	return show(w, r, http.StatusOK, page{
		Kind:   "launch",
		Link:   a.app.authorizeLink(r, component.appid, code, callback, query),
		Self:   strings.TrimSuffix(self+"?"+r.URL.RawQuery, "?"),
		Mobile: insideWeChat(r),
	})
}

// launchComponent checks the query of the launch page and returns the
// component it is for: the one named, or the only one.
func (a *App) launchComponent(query url.Values) (*component, error) {
	found := a.components[query.Get("component")]
	if query.Get("component") == "" && len(a.components) == 1 {
		for _, only := range a.components {
			found = only
		}
	}
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
func (a *App) authorizeLink(r *http.Request, component string, code openapi.PreAuthCode, callback string, query url.Values) string {
	link := *a.pages[0]
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
		link = *a.pages[len(a.pages)-1]
		link.Path = "/wxaopen/safe/bindcomponent"
		link.Fragment = "wechat_redirect"
		values.Set("action", "bindcomponent")
		values.Set("no_scan", "1")
	}
	link.RawQuery = values.Encode()
	return link.String()
}

// callback takes the browser back from WeChat: it exchanges the code, stores
// what it brought, and shows the result or sends the admin on.
func (a *Authorize) callback(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	state, component := a.app.openState(query.Get("state"), time.Now())
	again := func(status int, problem, detail string) error {
		return show(w, r, status, page{Kind: "problem", Problem: problem, Detail: detail, Self: a.self(r) + state.query()})
	}
	if component == nil || !fromBrowser(r, strings.HasPrefix(a.self(r), "https:"), state.Browser) {
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
	if wait := a.app.state.rations.take("callback "+component.appid, time.Now()); wait > 0 {
		return showBusy(w, r, wait)
	}
	appid, err := a.app.state.keeper.Exchange(r.Context(), component.appid, code)
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

// self returns the address of the launch page as the browser sees it.
func (a *Authorize) self(r *http.Request) string {
	original := originalRequest(r)
	path := strings.TrimSuffix(strings.TrimSuffix(original.URL.Path, "/"), callbackSuffix)
	if a.PublicURL != "" {
		return strings.TrimSuffix(a.PublicURL, "/") + path
	}
	base := url.URL{Scheme: "http", Host: r.Host, Path: path}
	if r.TLS != nil {
		base.Scheme = "https"
	}
	return base.String()
}

// originalRequest returns the request before other handlers stripped its path.
func originalRequest(r *http.Request) *http.Request {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return &original
	}
	return r
}

func isCallback(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, callbackSuffix) }

func insideWeChat(r *http.Request) bool { return strings.Contains(r.UserAgent(), "MicroMessenger") }

// returnURL is one address, or all that begin with one.
type returnURL struct {
	scheme, host, path string
	prefix             bool
}

// parseReturnURL does not repeat the address in its error: its user name or
// query may be a secret.
func parseReturnURL(text string) (returnURL, error) {
	exact, prefix := strings.CutSuffix(text, "*")
	u, err := url.Parse(exact)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		(u.Scheme != "https" && u.Scheme != "http") || (prefix && !strings.HasSuffix(u.Path, "/")) {
		return returnURL{}, errors.New("want https://host/path, or https://host/path/* for all below it, without user name and query")
	}
	return returnURL{u.Scheme, u.Host, u.Path, prefix}, nil
}

// mayReturnTo reports whether an admin may be sent to the address. Hosts are
// compared after parsing: https://good@evil/ is evil's, and a backslash or a
// dot segment is a trick.
func (c *component) mayReturnTo(text string) bool {
	u, err := url.Parse(text)
	if err != nil || len(text) > 1024 || u.User != nil || u.Fragment != "" || strings.Contains(text, `\`) {
		return false
	}
	for _, segment := range strings.Split(u.Path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	for _, allowed := range c.returnURLs {
		if u.Scheme == allowed.scheme && u.Host == allowed.host &&
			(u.Path == allowed.path || allowed.prefix && strings.HasPrefix(u.Path, allowed.path)) {
			return true
		}
	}
	return false
}

// rations limits what the public pages can spend of WeChat's quota: 60
// pre_auth_codes and 60 exchanges a minute for each component.
type rations struct {
	mu sync.Mutex
	of map[string]*rate.Limiter
}

func newRations() *rations { return &rations{of: make(map[string]*rate.Limiter)} }

// take spends one, or returns how long to wait for the next.
func (r *rations) take(what string, now time.Time) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[what] == nil {
		r.of[what] = rate.NewLimiter(rate.Every(time.Second), 60)
	}
	reserved := r.of[what].ReserveN(now, 1)
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}
