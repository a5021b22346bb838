// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

func init() {
	caddy.RegisterModule(Events{})
	caddy.RegisterModule(Messages{})
	caddy.RegisterModule(Authorize{})
	caddy.RegisterModule(Proxy{})
}

// Events receives what WeChat pushes to the authorisation events URL
// (授权事件接收URL): the component_verify_ticket every ten minutes, and every
// authorisation given, changed or taken back. What verifies is stored and then
// answered with success; what does not gets 403 without detail.
type Events struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (Events) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_events", New: func() caddy.Module { return new(Events) }}
}

// Provision finds the wechat app.
func (e *Events) Provision(ctx caddy.Context) (err error) {
	e.app, err = appOf(ctx)
	return err
}

// ServeHTTP takes one push.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	e.app.drain.answer(w)
	if r.Method != http.MethodPost {
		return notAllowed(w, http.MethodPost)
	}
	push, err := e.app.open(w, r)
	if err == nil {
		err = e.app.take(r.Context(), push)
	}
	if err != nil {
		return e.app.refusePush(w, r, err)
	}
	w.Header().Set("Content-Type", "text/plain")
	_, err = w.Write([]byte("success"))
	return err
}

// Messages receives what WeChat pushes to the messages URL (消息与事件接收URL)
// of the component's accounts, and answers with the passive reply of the client
// it was delivered to. The last segment of the path is the account's appid: the
// URL in WeChat's console ends in /messages/$APPID$. What does not verify gets
// 403 without detail; 503, so that WeChat pushes again, means that no client
// took the message.
type Messages struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (Messages) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_messages", New: func() caddy.Module { return new(Messages) }}
}

// Provision finds the wechat app.
func (m *Messages) Provision(ctx caddy.Context) (err error) {
	m.app, err = appOf(ctx)
	return err
}

// ServeHTTP takes one message.
func (m *Messages) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	m.app.drain.answer(w)
	if r.Method != http.MethodPost {
		return notAllowed(w, http.MethodPost)
	}
	message, err := m.app.openMessage(w, r)
	if err != nil {
		return m.app.refusePush(w, r, err)
	}
	answer, err := m.app.reply(message)
	if err != nil {
		return m.app.refusePush(w, r, err)
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, err = w.Write(answer)
	return err
}

// Authorize serves the page from which an account's admin authorises the
// component, and the callback to which WeChat sends the browser back.
type Authorize struct {
	// PublicURL is scheme and host under which browsers see this server, when
	// a proxy in front of it hides them. WeChat requires this host to be the
	// 授权发起页域名 in its console. Default: scheme and host of the request.
	PublicURL string `json:"public_url,omitempty"`

	app *App
}

// CaddyModule returns the Caddy module information.
func (Authorize) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_authorize", New: func() caddy.Module { return new(Authorize) }}
}

// Provision finds the wechat app.
func (a *Authorize) Provision(ctx caddy.Context) (err error) {
	a.app, err = appOf(ctx)
	return err
}

// Validate checks the public URL.
func (a *Authorize) Validate() error {
	if a.PublicURL == "" {
		return nil
	}
	if err := check.BaseURL(a.PublicURL); err != nil {
		return fmt.Errorf("public_url: %w", err)
	}
	return nil
}

// ServeHTTP serves the launch page, or the callback where the path ends in
// /callback.
func (a *Authorize) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	a.app.drain.answer(w)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return notAllowed(w, http.MethodGet)
	}
	if isCallback(r) {
		return a.callback(w, r)
	}
	return a.launch(w, r)
}

// Proxy lets applications call the WeChat API with gateway tokens or client
// secrets in the place of WeChat's own, which it attaches on the way up.
//
// It sets the placeholder {http.auth.user.id} to the client's name.
type Proxy struct {
	// Transport is Caddy's HTTP transport, as of reverse_proxy. Default: 512
	// idle connections per host, 30 s until the answer's header.
	Transport *reverseproxy.HTTPTransport `json:"transport,omitempty"`

	// MaxReplayBody is the size in bytes up to which a request body is kept,
	// so that the call can be made once more when WeChat has rejected the real
	// token. Default: 65536.
	MaxReplayBody int64 `json:"max_replay_body,omitempty"`

	app     *App
	log     *zap.Logger
	short   *upstream.Transport
	forward forwarder
}

// CaddyModule returns the Caddy module information.
func (Proxy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_proxy", New: func() caddy.Module { return new(Proxy) }}
}

// Provision finds the wechat app and builds the transport.
func (p *Proxy) Provision(ctx caddy.Context) (err error) {
	if p.app, err = appOf(ctx); err != nil {
		return err
	}
	p.log = logging.Throttle(ctx.Logger())
	if p.MaxReplayBody == 0 {
		p.MaxReplayBody = 64 << 10
	}
	direct, err := p.provisionTransport(ctx)
	if err != nil {
		return err
	}
	var hosts []*url.URL
	if direct {
		hosts = withoutProxy(p.app.hosts)
	}
	p.short = upstream.New(p.Transport, p.Transport.Transport, hosts)
	a := &attacher{tokens: p.app.state.keeper, drop: p.app.clients.isCredential, hosts: p.app.hosts, short: p.short, long: p.Transport}
	if p.Transport.Compression == nil || *p.Transport.Compression {
		a.zipped = zipped
	}
	p.forward = forwarder{a, p.MaxReplayBody, p.log}
	return nil
}

// ServeHTTP answers the token endpoints itself and forwards all other calls.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	p.app.drain.answer(w)
	if r.Header.Get(openapi.HopHeader) != "" {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true) // its address carries a real token
		problem.Write(w, r, p.log, problem.ErrLoop)
		return nil
	}
	path, ok := policy.Clean(r.URL.EscapedPath())
	if !ok {
		problem.Write(w, r, p.log, problem.ErrNotAllowed.Because("the path is not plain: want segments of letters, digits, _ - . after single slashes"))
		return nil
	}
	route := policy.Lookup(path)
	if route.Endpoint != policy.Relayed {
		p.local(w, r, path, route)
		return nil
	}
	call, err := p.app.identify(r, path, route)
	if err != nil {
		problem.Write(w, r, p.log, err)
		return nil
	}
	authenticated(r, call.client)
	p.forward.forward(w, r, call)
	return nil
}

// authenticated tells access logs and later handlers who calls.
func authenticated(r *http.Request, client *client) {
	if client != nil {
		r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.auth.user.id", client.name)
	}
}

// appOf returns the configured wechat app.
func appOf(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("wechat")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, fmt.Errorf("this handler needs the wechat app (apps.wechat in JSON, the global option wechat in a Caddyfile): %w", err)
	}
	if err != nil {
		return nil, err
	}
	app.(*App).drain.guard(ctx)
	return app.(*App), nil
}

func notAllowed(w http.ResponseWriter, method string) error {
	w.Header().Set("Allow", method)
	w.WriteHeader(http.StatusMethodNotAllowed)
	return nil
}

var (
	_ caddy.Provisioner           = (*Events)(nil)
	_ caddyhttp.MiddlewareHandler = (*Events)(nil)
	_ caddy.Provisioner           = (*Messages)(nil)
	_ caddyhttp.MiddlewareHandler = (*Messages)(nil)
	_ caddy.Provisioner           = (*Authorize)(nil)
	_ caddy.Validator             = (*Authorize)(nil)
	_ caddyhttp.MiddlewareHandler = (*Authorize)(nil)
	_ caddy.Provisioner           = (*Proxy)(nil)
	_ caddyhttp.MiddlewareHandler = (*Proxy)(nil)
)
