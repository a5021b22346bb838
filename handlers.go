// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/authorize"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/gateway"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/push"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

func init() {
	caddy.RegisterModule(Events{})
	caddy.RegisterModule(Messages{})
	caddy.RegisterModule(Authorize{})
	caddy.RegisterModule(Proxy{})
}

// Events receives what WeChat pushes to the authorisation events URL
// (授权事件接收配置): the component_verify_ticket every ten minutes, and an
// event when an account authorises the platform, changes the permissions or
// withdraws. A valid push is stored and then answered with success. A push that
// is not valid is answered with 403 and no reason, and one that could not be
// stored with 503, so that WeChat pushes it again.
type Events struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (Events) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_events", New: func() caddy.Module { return new(Events) }}
}

// Provision finds the wechat app.
func (e *Events) Provision(ctx caddy.Context) (err error) {
	e.app, err = wechatApp(ctx)
	return err
}

// ServeHTTP handles one push. It answers within WeChat's five seconds, once the
// body has arrived. Its error is one of writing the answer.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	e.app.drain.closeIfStopping(w)
	if r.Method != http.MethodPost {
		return notAllowed(w, http.MethodPost)
	}
	event, err := e.app.pushes.OpenEvent(w, r)
	if err == nil {
		err = e.app.pushes.HandleEvent(r.Context(), event)
	}
	if err != nil {
		e.app.pushes.Reject(w, r, push.EventsURL, err)
		return nil
	}
	w.Header().Set("Content-Type", "text/plain")
	_, err = w.Write([]byte("success"))
	return err
}

// Messages receives what WeChat pushes to the messages URL (消息与事件接收配置)
// for the accounts of the component, delivers it to the clients, and answers
// with the passive reply of a client. The last segment of the path is the
// account's appid: the URL in WeChat's console ends in /messages/$APPID$. A
// push that is not valid is answered with 403 and no reason. If a message was not
// taken and cannot be stored, the answer is 503, so that WeChat pushes it again.
type Messages struct {
	app *App
}

// CaddyModule returns the Caddy module information.
func (Messages) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_messages", New: func() caddy.Module { return new(Messages) }}
}

// Provision finds the wechat app.
func (m *Messages) Provision(ctx caddy.Context) (err error) {
	m.app, err = wechatApp(ctx)
	return err
}

// ServeHTTP handles one message. It waits for the clients, as long as WeChat asks again.
// Its error is one of writing the answer.
func (m *Messages) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	m.app.drain.closeIfStopping(w)
	if r.Method != http.MethodPost {
		return notAllowed(w, http.MethodPost)
	}
	message, err := m.app.pushes.OpenMessage(w, r)
	var answer []byte
	if err == nil {
		answer, err = m.app.pushes.HandleMessage(r.Context(), message)
	}
	if errors.Is(err, push.ErrHungUp) {
		return nil
	}
	if err != nil {
		m.app.pushes.Reject(w, r, push.MessagesURL, err)
		return nil
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, err = w.Write(answer)
	return err
}

// Authorize serves the launch page, on which the admin of an account starts to
// authorise the component, and the callback page, to which WeChat sends the
// browser afterwards.
type Authorize struct {
	// PublicURL is the scheme and host that browsers use for this server, if a
	// proxy in front of it changes them. The host must be the 授权发起页域名 in
	// WeChat's console. Default: scheme and host of the request.
	PublicURL string `json:"public_url,omitempty"`

	app *App
}

// CaddyModule returns the Caddy module information.
func (Authorize) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_authorize", New: func() caddy.Module { return new(Authorize) }}
}

// Provision finds the wechat app.
func (a *Authorize) Provision(ctx caddy.Context) (err error) {
	a.app, err = wechatApp(ctx)
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

// ServeHTTP serves the callback page if the path ends in /callback. Otherwise it
// serves the launch page, and to POST, which its button sends, the way to WeChat.
// The callback and POST may wait for WeChat.
func (a *Authorize) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	a.app.drain.closeIfStopping(w)
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch callback := strings.HasSuffix(r.URL.Path, authorize.CallbackSuffix); {
	case callback && read:
		return a.app.pages.Callback(w, r, a.self(r), clientAddress(r))
	case callback:
		return notAllowed(w, http.MethodGet)
	case read:
		return a.app.pages.Launch(w, r, a.self(r))
	case r.Method == http.MethodPost:
		return a.app.pages.Begin(w, r, a.self(r), clientAddress(r))
	}
	return notAllowed(w, "GET, POST")
}

// self returns the URL of the launch page as the browser sees it. The
// redirect_uri for WeChat is made from it. Its host comes from the request if
// PublicURL is not set; WeChat rejects any host but the configured one. If a proxy says
// that the browser sees another URL, the doctor tells it.
func (a *Authorize) self(r *http.Request) string {
	original := originalRequest(r)
	path := strings.TrimSuffix(strings.TrimSuffix(original.URL.Path, "/"), authorize.CallbackSuffix)
	if a.PublicURL != "" {
		return strings.TrimSuffix(a.PublicURL, "/") + path
	}
	base := url.URL{Scheme: "http", Host: r.Host, Path: path}
	if r.TLS != nil {
		base.Scheme = "https"
	}
	a.app.settings.site.Note(base.String(), r.Header)
	return base.String()
}

// originalRequest returns the request as it was before other handlers, such as
// handle_path, have changed its path.
func originalRequest(r *http.Request) *http.Request {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return &original
	}
	return r
}

// Proxy receives the calls of applications to WeChat's API. An application
// sends a gateway token or its client secret; Proxy replaces it with the real
// token before it sends the call to WeChat.
//
// It sets the placeholder {http.auth.user.id} to the client's name. These are there for
// each call, and are complete when the answer is written:
//
//	{http.wechat.client}   the client's name, none for a call without a client
//	{http.wechat.appid}    the account that the call is about, else the component
//	{http.wechat.errcode}  the errcode that the client gets, 0 for none
//	{http.wechat.outcome}  relayed, repeated, answered, client_gone, cut, or the slug of a refusal
//
// The access log gets them as the object wechat, with rid, WeChat's id of the call, where
// WeChat has named one.
type Proxy struct {
	// Transport is Caddy's HTTP transport, with the options of reverse_proxy.
	// Default: 512 idle connections per host, 30 s until the answer's header.
	Transport *reverseproxy.HTTPTransport `json:"transport,omitempty"`

	// MaxReplayBody is the size in bytes up to which the body of a request is
	// kept in memory, so that the call can be repeated once if WeChat has
	// rejected the real token. What is longer than 64 KiB is kept while it is
	// sent, if it fits into the app's replay_memory. 1 to 67108864. Default:
	// 16777216.
	MaxReplayBody int64 `json:"max_replay_body,omitempty"`

	app     *App
	direct  *upstream.Transport // makes short calls, see package upstream
	gateway *gateway.Gateway
}

// CaddyModule returns the Caddy module information.
func (Proxy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.wechat_proxy", New: func() caddy.Module { return new(Proxy) }}
}

// Provision finds the wechat app and makes the transports and the gateway. It
// makes no connection.
func (p *Proxy) Provision(ctx caddy.Context) (err error) {
	if p.app, err = wechatApp(ctx); err != nil {
		return err
	}
	if p.MaxReplayBody == 0 {
		p.MaxReplayBody = 16 << 20
	}
	if share := p.app.ReplayMemory / relay.Shares; p.MaxReplayBody > share {
		ctx.Logger().Warn("max_replay_body is larger than what one client gets of replay_memory, a quarter: longer bodies are not kept",
			zap.Int64("max_replay_body", p.MaxReplayBody), zap.Int64("a_quarter", share))
	}
	direct, err := p.provisionTransport(ctx)
	if err != nil {
		return err
	}
	var hosts []*url.URL
	if direct {
		hosts = withoutProxy(p.app.hosts)
	}
	p.direct = upstream.New(p.Transport, p.Transport.Transport, hosts)
	p.gateway = p.app.newGateway(&relay.Relay{
		Direct:        markDialErrors{p.direct},
		Standard:      markDialErrors{upstream.Standard(p.Transport)},
		Gzip:          p.Transport.Compression == nil || *p.Transport.Compression,
		MaxReplayBody: p.MaxReplayBody,
		Log:           logging.Throttle(ctx.Logger(), p.app.tally),
	})
	return nil
}

// ServeHTTP handles one call of an application and returns when the answer is
// written. It writes all answers itself, also those of errors, and panics with
// http.ErrAbortHandler if an answer of WeChat ends too early. If the gateway
// has called itself, the request contains a real token, so it is not written to
// the access log.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	p.app.drain.closeIfStopping(w)
	if gateway.Looped(r) {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	p.gateway.ServeHTTP(w, r)
	return nil
}

// identified sets the placeholder with the client's name, for access logs and
// other handlers.
func identified(r *http.Request, client *gateway.Client) {
	r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).Set("http.auth.user.id", client.Boxed)
}

// clientAddress returns the address from which a request comes: that of the peer,
// or the one that the server's trusted_proxies yield, as in {client_ip}. It is the
// zero Addr if there is none, as with a Unix socket.
func clientAddress(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	address, _ := netip.ParseAddr(text) // the zero Addr if it cannot be parsed
	return address.Unmap().WithZone("")
}

// wechatApp returns the wechat app of the configuration, and makes its drain watch
// the server of the handler that is provisioned with ctx. Caddy provisions the
// app first if it has not done so.
func wechatApp(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("wechat")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, fmt.Errorf("this handler needs the wechat app (apps.wechat in JSON, the global option wechat in a Caddyfile): %w", err)
	}
	if err != nil {
		return nil, err
	}
	app.(*App).drain.watch(ctx)
	return app.(*App), nil
}

// notAllowed answers a request that has another method than those.
func notAllowed(w http.ResponseWriter, methods string) error {
	w.Header().Set("Allow", methods)
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
