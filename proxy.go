// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// attacher alone writes real tokens into requests. It does so on a request of
// its own, so that no log, placeholder or other handler can see one.
type attacher struct {
	tokens *tokens.Keeper
	drop   func(string) bool // which values in a query may not travel on
	hosts  []*url.URL
	short  http.RoundTripper // for requests that are in memory and upstream.Short
	long   http.RoundTripper // for all others
	zipped []string          // the compression to ask for, nil for none
}

// call makes a call at WeChat. When WeChat rejects the real token, it is
// renewed and the call made once more, provided that the body was kept; nothing
// else is ever sent twice, except to the next host when a connection could not
// even be made.
func (a *attacher) call(r *http.Request, call *call) (*http.Response, error) {
	if call.subject == "" {
		return a.send(r, call, call.query)
	}
	token, err := a.tokens.Current(r.Context(), call.subject)
	if err != nil {
		return nil, err
	}
	response, err := a.sendWith(r, call, token)
	if err != nil {
		return nil, err
	}
	switch code := call.answer.errcodeOf(response); {
	case code == 61003:
		a.tokens.Doubt(call.subject, token)
		return response, nil
	case !openapi.RejectsToken(code):
		return response, nil
	}
	renewed, err := a.tokens.After(r.Context(), call.subject, token)
	if err == nil && !call.body.replayable {
		return response, nil // the client's own retry meets the new token
	}
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	metrics.RepeatedCalls.Inc()
	return a.sendWith(r, call, renewed)
}

// sendWith attaches token and removes it wherever the answer, or the error in
// its place, repeats it: WeChat never does, but a redirect or an error page of
// some server on the way may quote the address.
func (a *attacher) sendWith(r *http.Request, call *call, token *tokens.Token) (*http.Response, error) {
	real := rewrite.TokenOf(token.Value.Reveal())
	response, err := a.send(r, call, rewrite.Splice(call.query, call.route.Param, real, a.drop))
	if err != nil {
		return nil, withhold(err, real)
	}
	rewrite.ScrubHeader(response.Header, real, "REDACTED")
	if response.StatusCode >= 300 && response.Header.Get("Content-Encoding") != "" {
		// Compressed unasked: nobody can tell what is in it.
		response.Body.Close()
		response.Header.Del("Content-Encoding")
		response.Header.Del("Content-Length")
		response.Body, response.ContentLength = http.NoBody, 0
	}
	response.Body = rewrite.Scrub(response.Body, real)
	return response, nil
}

// withhold returns err without a text that quotes the token, as that of a
// "malformed HTTP response" does whose sender echoes what it gets.
func withhold(err error, token rewrite.Token) error {
	if token.In(err.Error()) {
		return fmt.Errorf("%T whose text repeats the request", err)
	}
	return err
}

// send tries the hosts in turn as long as no connection can be made.
func (a *attacher) send(r *http.Request, call *call, query string) (*http.Response, error) {
	header, transport := upward(r.Header), a.long
	if call.body.rest == nil && len(call.body.kept)+len(query) <= upstream.Short {
		transport = a.short
	}
	zipped := a.zipped != nil && r.Method != http.MethodHead && header["Range"] == nil
	if zipped {
		header["Accept-Encoding"] = a.zipped
	}
	var err error
	for _, host := range a.hosts {
		var out struct { // at once, for one allocation
			http.Request
			url url.URL
		}
		out.Request = *r
		out.url = url.URL{Scheme: host.Scheme, Host: host.Host, Path: call.path, RawQuery: query}
		out.URL, out.Host, out.RequestURI, out.Header = &out.url, host.Host, "", header
		out.Body, out.TransferEncoding = call.body.next(r.Method)
		out.ContentLength, out.GetBody, out.Trailer, out.Close = call.body.length, nil, nil, false
		var response *http.Response
		response, err = transport.RoundTrip(&out.Request)
		switch {
		case err == nil && response.Header.Get(openapi.GatewayHeader) != "":
			response.Body.Close()
			return nil, problem.ErrLoop
		case err == nil && response.StatusCode == http.StatusSwitchingProtocols:
			response.Body.Close()
			return nil, problem.ErrUnreachable.Because("it switches protocols unasked")
		case err == nil:
			if zipped {
				rewrite.Gunzip(response)
			}
			return response, nil
		case !isDialError(err):
			return nil, err
		}
	}
	return nil, err
}

// isDialError reports whether err says that no connection was made. Caddy's
// transport marks such errors, and its mark hides the *net.OpError within.
func isDialError(err error) bool {
	var dial reverseproxy.DialError
	return errors.As(err, &dial)
}
