// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/grant"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	// maxTokenRequest bounds the body of a call to a token endpoint.
	maxTokenRequest = 16 << 10
	// standingLimit is how long a token endpoint waits to learn whether the
	// authorizer stands at all.
	standingLimit = 4 * time.Second
)

// local answers the calls that the gateway does not relay.
func (p *Proxy) local(w http.ResponseWriter, r *http.Request, endpoint grant.Endpoint) {
	switch endpoint {
	case grant.Token, grant.StableToken:
		token, err := p.app.issueToken(w, r)
		if err != nil {
			fault(w, r, p.log, err)
			return
		}
		body, _ := json.Marshal(map[string]any{"access_token": token, "expires_in": int(gatewayTokenLifetime.Seconds())})
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body)
	default:
		// Relayed as they are, these would let WeChat's own secrets out, or
		// need them in.
		fault(w, r, p.log, ErrNotAllowed.because("the gateway does not relay %s", r.URL.Path))
	}
}

// issueToken answers /cgi-bin/token and /cgi-bin/stable_token: appid and the
// client's secret give a gateway token. No storage is touched for a token that
// is in memory; an authorizer that has withdrawn is refused here already.
func (a *App) issueToken(w http.ResponseWriter, r *http.Request) (string, error) {
	form, err := tokenRequest(w, r)
	if err != nil {
		return "", err
	}
	appid := form.Get("appid")
	if appid == "" {
		return "", ErrAppIDMissing
	}
	client, digest := a.clients.withSecret(form.Get("secret"))
	if client == nil {
		return "", ErrClientSecret
	}
	if !subject.ValidAppID(appid) || !client.rights.Authorizer(appid) {
		return "", ErrUnauthorized
	}
	who := subject.Of(client.component, appid)
	if err := a.standing(r.Context(), who); err != nil {
		return "", err
	}
	return client.issue(digest, who, time.Now()), nil
}

// standing returns an error if it is certain that there is no real token to
// be had for who. A WeChat or a storage that is out of reach says nothing.
func (a *App) standing(ctx context.Context, who subject.Subject) error {
	ctx, cancel := context.WithTimeout(ctx, standingLimit)
	defer cancel()
	_, err := a.shared.tokens.Current(ctx, who)
	if errors.Is(err, ErrUnauthorized) || errors.Is(err, ErrNeedsAdmin) || errors.Is(err, ErrRationed) {
		return err
	}
	return nil
}

// tokenRequest reads the parameters of a token endpoint from the query and
// from a body in JSON or as a form; SDKs use all three.
func tokenRequest(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, ErrBadRequest.because("the query is malformed")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTokenRequest))
	switch {
	case err != nil:
		return nil, brokenOff(err)
	case len(body) == 0:
		return form, nil
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" && body[0] != '{' {
		posted, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, ErrBadRequest.because("the form is malformed")
		}
		for name, values := range posted {
			form[name] = append(values, form[name]...)
		}
		return form, nil
	}
	var posted struct {
		AppID  string `json:"appid"`
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(body, &posted); err != nil {
		return nil, ErrBadRequest.because("the body is neither JSON nor a form")
	}
	if posted.AppID != "" {
		form.Set("appid", posted.AppID)
	}
	if posted.Secret != "" {
		form.Set("secret", posted.Secret)
	}
	return form, nil
}
