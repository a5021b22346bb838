// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/wire"
)

// attacher is the RoundTripper that alone writes real tokens into requests.
// It does so on a clone of its own, so that no log, placeholder or later
// handler can see one.
type attacher struct {
	tokens    *Tokens
	hosts     []*url.URL
	transport http.RoundTripper
	maxReplay int64
}

// RoundTrip makes the call in r's context at WeChat. When WeChat rejects the
// real token, it is renewed and the call made once more, provided that the
// body was kept; nothing else is ever sent twice, except to the next host
// when a connection could not even be made.
func (a *attacher) RoundTrip(r *http.Request) (*http.Response, error) {
	call := r.Context().Value(callKey{}).(*call)
	body, err := readBody(r, a.maxReplay)
	if err != nil {
		return nil, err
	}
	if call.subject == "" {
		return a.send(r, call, call.query, body)
	}
	token, err := a.tokens.Current(r.Context(), call.subject)
	if err != nil {
		return nil, err
	}
	response, err := a.sendWith(r, call, token, body)
	if err != nil {
		return nil, err
	}
	switch code := errcodeOf(response); {
	case code == 61003:
		a.tokens.Doubt(call.subject, token)
		return response, nil
	case !rejected(code):
		return response, nil
	}
	renewed, err := a.tokens.After(r.Context(), call.subject, token)
	if err == nil && !body.replayable {
		return response, nil // the client's own retry meets the new token
	}
	response.Body.Close()
	if err != nil {
		return nil, err
	}
	repeatedCalls.Inc()
	return a.sendWith(r, call, renewed, body)
}

// sendWith attaches token and removes it wherever the answer's headers, or the
// error in their place, repeat it.
func (a *attacher) sendWith(r *http.Request, call *call, token *Token, body *body) (*http.Response, error) {
	real := token.Value.Reveal()
	response, err := a.send(r, call, wire.Splice(call.query, call.route.Param, real, call.drop), body)
	if err != nil {
		return nil, withhold(err, real)
	}
	wire.ScrubHeader(response.Header, real, "REDACTED")
	if err := scrubPage(response, real); err != nil {
		return nil, withhold(err, real)
	}
	return response, nil
}

// maxPage is how much of an error page is passed on.
const maxPage = 64 << 10

// scrubPage takes the token out of an answer that is none of the API's, whose
// status is 200: a redirect or an error page of some server on the way may
// quote the address. One that is compressed is left out altogether.
func scrubPage(response *http.Response, token string) error {
	if response.StatusCode < 300 {
		return nil
	}
	var page []byte
	if response.Header.Get("Content-Encoding") == "" {
		var err error
		if page, err = io.ReadAll(io.LimitReader(response.Body, maxPage)); err != nil {
			response.Body.Close()
			return err
		}
	}
	response.Body.Close()
	for _, form := range []string{token, url.QueryEscape(token), html.EscapeString(token)} {
		page = bytes.ReplaceAll(page, []byte(form), []byte("REDACTED"))
	}
	response.Header.Del("Content-Encoding")
	response.Header.Del("Content-Length")
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(page)), int64(len(page))
	return nil
}

// withhold returns err without a text that quotes the token, as that of a
// "malformed HTTP response" does whose sender echoes what it gets.
func withhold(err error, token string) error {
	if text := err.Error(); strings.Contains(text, token) || strings.Contains(text, url.QueryEscape(token)) {
		return fmt.Errorf("%T whose text repeats the request", err)
	}
	return err
}

// send tries the hosts in turn as long as no connection can be made.
func (a *attacher) send(r *http.Request, call *call, query string, body *body) (*http.Response, error) {
	var err error
	for _, host := range a.hosts {
		out := *r
		out.URL = &url.URL{Scheme: host.Scheme, Host: host.Host, Path: call.path, RawQuery: query}
		out.Host = host.Host
		out.Body, out.ContentLength, out.GetBody = body.next(r.Method), body.length, nil
		var response *http.Response
		response, err = a.transport.RoundTrip(&out)
		if err == nil && response.Header.Get(openapi.GatewayHeader) != "" {
			response.Body.Close()
			return nil, ErrLoop
		}
		if err == nil {
			return final(response), nil
		}
		if !isDialError(err) {
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

// final returns the answer without what is for WeChat's own connections: the
// address of another server, and trailers, which arrive too late to scrub.
func final(response *http.Response) *http.Response {
	response.Header.Del("Alt-Svc")
	out := *response // the transport goes on filling the trailer of its own
	out.Trailer = nil
	return &out
}

// rejected reports whether WeChat rejects the real token.
func rejected(errcode int) bool {
	switch errcode {
	case 40001, 40014, 42001, 42006:
		return true
	}
	return false
}

// newReverseProxy streams between application and WeChat.
func newReverseProxy(transport http.RoundTripper, log *zap.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    &bufferPool{},
		ErrorLog:      zap.NewStdLog(log),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.Host = ""
			strip(p.Out.Header)
			p.Out.Header.Set(openapi.HopHeader, "1")
		},
		ModifyResponse: func(*http.Response) error {
			relayedCalls.Inc()
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				w.WriteHeader(statusClientGone)
				return
			}
			fault(w, r, log, err)
		},
	}
}

// statusClientGone stands in access logs for a caller that did not wait for
// the answer, as in those of Caddy's reverse_proxy.
const statusClientGone = 499

// finalOnly keeps back informational answers (1xx), whose headers nobody has
// scrubbed.
type finalOnly struct{ http.ResponseWriter }

func (w finalOnly) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Unwrap lets http.ResponseController flush.
func (w finalOnly) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// strip removes what WeChat need not know, what would turn the connection into
// a tunnel past the rules here (Upgrade: h2c), and what would make net/http
// send a request again by itself.
func strip(h http.Header) {
	for name := range h {
		switch {
		case strings.HasPrefix(name, "X-Forwarded-"):
			delete(h, name)
		case name == "Authorization", name == "Cookie", name == appidHeader, name == "X-Real-Ip", name == "Via",
			name == "Idempotency-Key", name == "X-Idempotency-Key", name == "Upgrade", name == "Connection":
			delete(h, name)
		}
	}
}

// bufferPool lends the copy buffers of the reverse proxy.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 32<<10)
}

func (b *bufferPool) Put(buffer []byte) { b.pool.Put(&buffer) }
