// SPDX-License-Identifier: Apache-2.0

// Package wechat is a gateway for WeChat third-party platforms
// (微信开放平台第三方平台) inside Caddy. It alone holds the platform's credentials;
// applications call it as though it were api.weixin.qq.com.
//
// This package is Caddy's face alone: modules, their options, and what of them
// survives a reload. What the gateway decides, it decides in internal/, in packages
// that know no Caddy; ARCHITECTURE.md leads through them.
//
//	module.go      the app: its life, and how the engine is put together
//	tokens.go      where tokens are kept: in memory, sealed in Caddy's storage, at WeChat
//	handlers.go    the doors: WeChat's pushes, admins' browsers, applications' calls
//	caddyfile.go   how all of it is written in a Caddyfile
package wechat

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/authorize"
	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/gateway"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/push"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
)

func init() {
	caddy.RegisterModule(App{})
}

// App holds the credentials of WeChat third-party platforms, keeps their
// tokens alive, and knows the clients that may use them. The handlers
// wechat_events, wechat_messages, wechat_authorize and wechat_proxy are its
// doors to the outside.
//
// Secrets may be given as placeholders, {env.NAME} or {file./path}, which are
// resolved when the configuration is loaded and never stand in it resolved.
type App struct {
	// Components are the third-party platforms by component_appid. At least one.
	Components map[string]*Component `json:"components,omitempty"`

	// Clients are the applications that may call the gateway, by a name of
	// your choosing: lower-case letters, digits and hyphens. Default: none.
	Clients map[string]*Client `json:"clients,omitempty"`

	// API are the base URLs of WeChat's API. The second and further ones are
	// used when a connection to those before cannot be made. Over http, meant
	// for tests, credentials travel in clear.
	// Default: https://api.weixin.qq.com, https://api2.weixin.qq.com.
	API []string `json:"api,omitempty"`

	// Pages are the base URLs of WeChat's authorisation pages: for desktop
	// browsers, then for the browser inside WeChat.
	// Default: https://mp.weixin.qq.com, https://open.weixin.qq.com.
	Pages []string `json:"pages,omitempty"`

	// SealKeys seal what is stored: base64 of 32 bytes each. The first seals; a
	// second, which it has replaced, still opens. Default: derived from each
	// component's app secret.
	SealKeys []string `json:"seal_keys,omitempty"`

	// CacheSize is how many tokens are kept in memory, at most 10000000.
	// Default: 100000.
	CacheSize int `json:"cache_size,omitempty"`

	settings     *settings
	state        *state
	drain        *drain
	apiTransport *http.Transport
	components   map[string]*component
	applications *applications
	hosts        []*url.URL // of WeChat's API
	pageURLs     []*url.URL // of WeChat's authorisation pages
	pushes       *push.Receiver
	pages        *authorize.Pages
	log          *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wechat", New: func() caddy.Module { return new(App) }}
}

// Provision resolves secrets and builds what the handlers need. It neither
// calls WeChat nor touches storage, and takes hold of the shared state last:
// if it fails, there is nothing to give back.
func (a *App) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	a.defaults()
	err := a.Validate() // Caddy calls it after Provision, which relies on it
	if err != nil {
		return err
	}
	if a.hosts, err = a.baseURLs("api", a.API); err != nil {
		return err
	}
	if a.pageURLs, err = a.baseURLs("pages", a.Pages); err != nil {
		return err
	}
	resolve := resolver{caddy.NewReplacer()}
	a.components = make(map[string]*component)
	for _, appid := range slices.Sorted(maps.Keys(a.Components)) {
		if a.components[appid], err = a.Components[appid].provision(appid, resolve); err != nil {
			return fmt.Errorf("component %s: %w", appid, err)
		}
	}
	rings, err := a.keyrings(resolve)
	if err != nil {
		return err
	}
	if a.applications, err = newApplications(a.Clients, a.components, resolve); err != nil {
		return err
	}
	events, err := newEmitter(ctx)
	if err != nil {
		return err
	}
	if err := metrics.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	a.apiTransport = newAPITransport()
	a.settings = &settings{cacheSize: a.CacheSize, tokens: a.newTokenSettings(ctx.Storage(), rings, events.emit)}
	a.settings.deliveries = a.deliveries()
	a.drain = newDrain()
	if err := a.drain.subscribe(ctx); err != nil {
		return err
	}
	shared, _, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) { return newState(a.settings) })
	if err != nil {
		return err
	}
	a.state = shared.(*state)
	a.build()
	return nil
}

// build puts the sides together that face WeChat and the admins. Each gets what it
// needs and no more: no push comes near an app secret. The side of the applications
// is put together for each wechat_proxy, see newGateway, because each has a
// transport of its own.
func (a *App) build() {
	s := a.state
	a.pushes = &push.Receiver{
		Codecs: make(map[string]*bizmsg.Codec), Recipients: a.applications.recipients(),
		Tokens: s.keeper, Courier: s.courier, Transport: s.deliverer, Replays: s.replays, Log: a.log,
	}
	a.pages = &authorize.Pages{
		Platforms: make(map[string]*authorize.Platform), URLs: a.pageURLs,
		Tokens: s.keeper, Limits: s.limits, Log: a.log,
	}
	for appid, c := range a.components {
		a.pushes.Codecs[appid] = c.codec
		a.pages.Platforms[appid] = &authorize.Platform{AppID: appid, AppSecrets: c.appSecrets, ReturnURLs: c.returnURLs}
	}
}

// newGateway returns what serves the applications of one wechat_proxy. Calls has
// its transports, and is given the rest here.
func (a *App) newGateway(calls *relay.Relay) *gateway.Gateway {
	calls.Tokens, calls.Hosts, calls.IsCredential = a.state.keeper, a.hosts, a.applications.clients.IsCredential
	components := make(map[string]struct{})
	for appid := range a.components {
		components[appid] = struct{}{}
	}
	return &gateway.Gateway{
		Clients: a.applications.clients, Components: components,
		Tokens: a.state.keeper, Relay: calls, Log: calls.Log, Identified: identified,
	}
}

func (a *App) defaults() {
	if len(a.API) == 0 {
		a.API = []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com"}
	}
	if len(a.Pages) == 0 {
		a.Pages = []string{"https://mp.weixin.qq.com", "https://open.weixin.qq.com"}
	}
	if a.CacheSize == 0 {
		a.CacheSize = 100_000
	}
}

// Validate checks what needs no secrets.
func (a *App) Validate() error {
	if len(a.Components) == 0 {
		return errors.New("no component is configured; add component <component_appid> { ... }")
	}
	for appid := range a.Components {
		if err := check.AppID(appid); err != nil {
			return fmt.Errorf("component: %w", err)
		}
	}
	if len(a.Pages) > maxPages {
		return fmt.Errorf("pages: %d values, at most %d are possible", len(a.Pages), maxPages)
	}
	if a.CacheSize < 1 || a.CacheSize > maxCacheSize {
		return fmt.Errorf("cache_size: %d is not between 1 and %d", a.CacheSize, maxCacheSize)
	}
	return nil
}

// Start puts this configuration in force.
func (a *App) Start() error {
	logging.RedactStandardLog()
	a.state.start(a.settings)
	return nil
}

// Stop takes this configuration out of force. Requests that began under it
// finish under the one that follows.
func (a *App) Stop() error {
	a.state.stop(a.settings)
	return nil
}

// Cleanup lets go of the shared state. Caddy calls it on a half-provisioned
// App as well, and on one that has started but was never stopped, when a
// configuration fails after all of its apps have started.
func (a *App) Cleanup() error {
	if a.state == nil {
		return nil
	}
	a.state.stop(a.settings)
	a.apiTransport.CloseIdleConnections()
	_, err := pool.Delete(poolKey)
	return err
}

// baseURLs checks a list of base URLs and returns their schemes and hosts.
func (a *App) baseURLs(option string, raw []string) ([]*url.URL, error) {
	var bases []*url.URL
	for i, text := range raw {
		u, err := check.ParseBaseURL(text)
		if err != nil {
			return nil, fmt.Errorf("%s: value %d is %w", option, i+1, err)
		}
		base := &url.URL{Scheme: u.Scheme, Host: u.Host}
		if u.Scheme == "http" && !check.IsLoopback(u.Hostname()) {
			a.log.Warn("credentials travel unencrypted, use https", zap.String("option", option), zap.Stringer("url", base))
		}
		bases = append(bases, base)
	}
	return bases, nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
