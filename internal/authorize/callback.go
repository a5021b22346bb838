// SPDX-License-Identifier: Apache-2.0

package authorize

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Callback serves the request with which the browser comes back from WeChat. It
// exchanges the auth_code, waits for the exchange, and shows the result or
// redirects to the return URL. The code may have been exchanged already,
// because WeChat also pushes it; the result is the same. self and the error are
// as for Launch.
//
// The state and the cookie are checked first, and nothing else in the request
// is used before. A code that was exchanged already is shown as often as asked.
// Any other costs a share first: a visitor with a valid state can invent codes,
// and each costs a call to WeChat, from the quota that the exchange of real codes
// needs. Whoever shares one state with many addresses gains nothing, for the
// browser that the state names has a share too.
func (p *Pages) Callback(w http.ResponseWriter, r *http.Request, self string, from netip.Addr) error {
	query := r.URL.Query()
	state, platform := p.openState(query.Get("state"), time.Now())
	again := func(status int, shown page) error {
		shown.Kind, shown.Self = "problem", self+state.query()
		return show(w, r, status, shown)
	}
	if platform == nil || !fromBrowser(r, strings.HasPrefix(self, "https:"), state.Browser) {
		return again(http.StatusBadRequest, page{Problem: problemState})
	}
	code := secret.New(query.Get("auth_code"))
	if code == nil || len(code.Reveal()) > 512 {
		return again(http.StatusBadRequest, page{Problem: problemCode})
	}
	if r.Method == http.MethodHead {
		return nil
	}
	if !p.Tokens.Exchanged(platform.AppID, code) {
		shares := append(sharesOf(from), share{"browser " + state.Browser, addressShare})
		if wait := p.Limits.reserve("callback "+platform.AppID, time.Now(), shares...); wait > 0 {
			// The code may be good for minutes yet, so the page leads back to
			// this address.
			return show(w, r, http.StatusTooManyRequests, page{Kind: "problem", Problem: problemBusy, Wait: wait, Reload: true})
		}
	}
	appid, err := p.Tokens.Exchange(r.Context(), platform.AppID, code)
	if openapi.KindOf(err) == openapi.CodeSpent {
		return again(http.StatusBadRequest, page{Problem: problemCode}) // it says all; a slug would tell an admin nothing
	}
	if err != nil {
		return again(http.StatusBadGateway, page{Problem: problemWeChat, Detail: problem.Of(err).Slug, Wait: patience})
	}
	if state.ReturnURL == "" {
		return show(w, r, http.StatusOK, page{Kind: "done", Platform: platform.DisplayName, AppID: appid})
	}
	secureHeaders(w, "'none'")
	http.Redirect(w, r, withResult(state.ReturnURL, appid, state.State), http.StatusSeeOther)
	return nil
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
