// SPDX-License-Identifier: Apache-2.0

// Package wechat is a gateway for WeChat third-party platforms
// (微信开放平台第三方平台) inside Caddy. It alone holds the platform's credentials;
// applications call it as though it were api.weixin.qq.com.
//
// Three flows, one file each:
//
//	push.go       WeChat pushes a ticket or an authorisation event
//	authorize.go  an account's admin authorises the platform
//	proxy.go      an application calls WeChat through the gateway (clients.go: who calls)
//
// All of them ask tokens.go, the only place that decides about real tokens.
// What survives a reload is in state.go, what callers are told in errors.go.
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

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
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
	// used when a connection to those before cannot be made.
	// Default: https://api.weixin.qq.com, https://api2.weixin.qq.com.
	API []string `json:"api,omitempty"`

	// Pages are the base URLs of WeChat's authorisation pages: for desktop
	// browsers, then for the browser inside WeChat.
	// Default: https://mp.weixin.qq.com, https://open.weixin.qq.com.
	Pages []string `json:"pages,omitempty"`

	// SealKeys seal what is stored: base64 of 32 bytes each. The first seals,
	// all open. Default: derived from each component's app secret.
	SealKeys []string `json:"seal_keys,omitempty"`

	// CacheSize is how many authorizer tokens are kept in memory.
	// Default: 100000.
	CacheSize int `json:"cache_size,omitempty"`

	settings   *settings
	shared     *shared
	components map[string]*component
	clients    *clients
	hosts      []*url.URL
	pages      []*url.URL
	log        *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wechat", New: func() caddy.Module { return new(App) }}
}

// Provision resolves secrets and builds what the handlers need. It neither
// calls WeChat nor touches storage.
func (a *App) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	if len(a.Components) == 0 {
		return errors.New("wechat: no component is configured; add one with its component_appid")
	}
	a.defaults()
	var err error
	if a.hosts, err = a.baseURLs("api", a.API); err != nil {
		return err
	}
	if a.pages, err = a.baseURLs("pages", a.Pages); err != nil {
		return err
	}
	resolve := resolver{caddy.NewReplacer()}
	a.components = make(map[string]*component)
	for _, appid := range slices.Sorted(maps.Keys(a.Components)) {
		if a.components[appid], err = a.Components[appid].provision(appid, resolve); err != nil {
			return fmt.Errorf("wechat: component %s: %w", appid, err)
		}
	}
	rings, err := a.keyrings(resolve)
	if err != nil {
		return fmt.Errorf("wechat: seal_key: %w", err)
	}
	if a.clients, err = newClients(a.Clients, a.components, resolve); err != nil {
		return fmt.Errorf("wechat: %w", err)
	}
	storage := ctx.Storage()
	a.settings = &settings{
		components: make(map[string]secret.Secret),
		api:        newAPIClient(a.hosts),
		vault: vault.New(func() vault.Storage { return storage },
			func(appid string) *vault.Keyring { return rings[appid] }),
		log: a.log,
	}
	for appid, c := range a.components {
		a.settings.components[appid] = c.appSecrets[0]
	}
	state, _, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) {
		return newShared(a.settings, a.CacheSize)
	})
	if err != nil {
		return err
	}
	a.shared = state.(*shared)
	return nil
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
	if a.CacheSize < 1 {
		return fmt.Errorf("wechat: cache_size is %d, must be at least 1", a.CacheSize)
	}
	return nil
}

// Start puts this configuration in force.
func (a *App) Start() error {
	a.shared.start(a)
	return nil
}

// Stop takes this configuration out of force. Requests that began under it
// finish under the one that follows.
func (a *App) Stop() error {
	a.shared.stop(a)
	return nil
}

// Cleanup lets go of the shared state. Caddy calls it on a half-provisioned
// App as well.
func (a *App) Cleanup() error {
	if a.shared == nil {
		return nil
	}
	a.settings.api.Transport.(*http.Transport).CloseIdleConnections()
	_, err := pool.Delete(poolKey)
	return err
}

// keyrings returns the seal keys of each component: those configured, then
// those derived from its app secrets, so that configuring a seal key later
// makes nothing unreadable.
func (a *App) keyrings(resolve resolver) (map[string]*vault.Keyring, error) {
	var configured [][]byte
	for _, raw := range a.SealKeys {
		key, err := resolve.sealKey(raw)
		if err != nil {
			return nil, err
		}
		configured = append(configured, key)
	}
	rings := make(map[string]*vault.Keyring)
	for appid, c := range a.components {
		keys := slices.Clone(configured)
		for _, appSecret := range c.appSecrets {
			keys = append(keys, vault.DeriveKey(appSecret, appid))
		}
		ring, err := vault.NewKeyring(keys...)
		if err != nil {
			return nil, err
		}
		rings[appid] = ring
	}
	return rings, nil
}

// baseURLs checks a list of base URLs and returns their schemes and hosts.
func (a *App) baseURLs(option string, raw []string) ([]*url.URL, error) {
	var bases []*url.URL
	for _, text := range raw {
		u, err := parseBaseURL(text)
		if err != nil {
			return nil, fmt.Errorf("wechat: %s: %w", option, err)
		}
		if u.Scheme == "http" && !isLoopback(u.Hostname()) {
			a.log.Warn("credentials travel unencrypted", zap.String("option", option), zap.String("url", text))
		}
		bases = append(bases, &url.URL{Scheme: u.Scheme, Host: u.Host})
	}
	return bases, nil
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
