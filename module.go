// SPDX-License-Identifier: Apache-2.0

// Package wechat is a gateway for WeChat third-party platforms
// (微信开放平台第三方平台) inside Caddy. Only the gateway has the credentials
// of the platform. Applications call it in the place of api.weixin.qq.com, with
// credentials that are of no use at WeChat.
//
// This package connects the gateway with Caddy: it has the Caddy modules, their
// options, and what survives a reload. The rules of the gateway are in
// internal/, in packages that do not import Caddy. ARCHITECTURE.md describes
// them.
//
//	module.go      the app: Provision, Start, Stop, Cleanup; how its parts are connected
//	state.go       what survives a reload         drain.go   no request is lost at a reload
//	calls.go       what is shown of calls
//	tokens.go      the token engine's storage, seal keys and client for WeChat
//	handlers.go    the HTTP handlers for WeChat's pushes, admins' browsers, applications
//	config.go      components     clients.go   clients     deliver.go   deliveries
//	recipients.go  who gets what WeChat pushes
//	caddyfile.go   the syntax of all of it in a Caddyfile
//	admin.go       the admin API, and the command line
//	health.go      whether the gateway is alive, for a site
package wechat

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	"github.com/caddy-wechat/caddy-wechat/internal/authorize"
	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/gateway"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/publishtest"
	"github.com/caddy-wechat/caddy-wechat/internal/push"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

func init() {
	caddy.RegisterModule(App{})
}

// App has the credentials of WeChat third-party platforms, renews their tokens,
// and has the list of clients that may use them. Requests reach it through the
// handlers wechat_events, wechat_messages, wechat_authorize and wechat_proxy.
//
// Secrets may be given as placeholders, {env.NAME} or {file./path}. They are
// resolved when the configuration is loaded. The configuration that Caddy shows
// and saves has the placeholders and not the secrets.
type App struct {
	// Components are the third-party platforms by component_appid. At least one.
	Components map[string]*Component `json:"components,omitempty"`

	// Clients are the applications that may call the gateway, by a name that
	// you choose: lower-case letters, digits and hyphens. Default: none.
	Clients map[string]*Client `json:"clients,omitempty"`

	// API are the base URLs of WeChat's API. The second and further ones are
	// used if no connection to those before can be made. With http, which is
	// for tests, credentials are sent unencrypted. Default:
	// https://api.weixin.qq.com, https://api2.weixin.qq.com.
	API []string `json:"api,omitempty"`

	// Pages are the base URLs of WeChat's authorisation pages: for desktop
	// browsers, then for the browser inside WeChat.
	// Default: https://mp.weixin.qq.com, https://open.weixin.qq.com.
	Pages []string `json:"pages,omitempty"`

	// SealKeys encrypt what is stored: base64 of 32 bytes each. The first one
	// encrypts and decrypts. A second one, the previous key, only decrypts.
	// Default: keys that are derived from each component's app secrets.
	SealKeys []string `json:"seal_keys,omitempty"`

	// CacheSize is how many tokens, and of how many accounts the profiles, are kept in
	// memory, at most 10000000.
	// Default: 100000.
	CacheSize int `json:"cache_size,omitempty"`

	// PathKinds are kinds by path: whose token WeChat wants at a path that is newer
	// than this gateway. component, which needs component_api of the client;
	// authorizer; or either, where the caller's token decides. A path is complete,
	// without wildcards, and its case does not count. If the gateway knows the path
	// as another kind, PathKinds wins, with a warning at load. Token endpoints,
	// logins and what the gateway answers itself have no other kind. Default: none;
	// paths that nobody knows are of kind authorizer.
	PathKinds map[string]string `json:"path_kinds,omitempty"`
	// ReplayMemory is how many bytes the request bodies may take together that
	// are kept while they are sent, so that their calls can be repeated, of all
	// handlers wechat_proxy; see their max_replay_body. Of it one client gets a
	// quarter. A body that does not fit is sent all the same. Bodies up to 64 KiB
	// are always kept and do not count. 1048576 to 17179869184. Default: 67108864.
	ReplayMemory int64 `json:"replay_memory,omitempty"`
	// Audit is which calls the logger wechat.audit has lines of: off, of none;
	// refusals, of calls that the gateway or WeChat has refused, one a minute for
	// each client, account and reason, with their number; calls, of each call one.
	// What operators do stands there in every case. Default: refusals.
	Audit string `json:"audit,omitempty"`

	// The fields below are set by Provision and not changed afterwards, so all
	// goroutines may read them.

	settings     *settings // what the state takes from this App
	state        *state    // shared with other configurations; nil if Provision failed
	drain        *drain
	closeIdle    func() // connections to WeChat's component API; not the transport itself, which a dump of the App would read while it is used
	components   map[string]*component
	applications *applications
	pathKinds    policy.PathKinds
	hosts        []*url.URL // of WeChat's API
	pageURLs     []*url.URL // of WeChat's authorisation pages
	pushes       *push.Receiver
	pages        *authorize.Pages
	log          *zap.Logger    // for what is said once, such as at load
	tally        *logging.Tally // counts what sparing leaves out
	sparing      *zap.Logger    // for what others can cause: requests, pushes, failures of WeChat
	audits       *audit.Log
}

// CaddyModule returns the Caddy module information.
func (App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "wechat", New: func() caddy.Module { return new(App) }}
}

// Provision resolves secrets and builds what the handlers need. It does not
// call WeChat or the storage, and changes nothing that the current
// configuration uses. To take the reference to the shared state is the last
// step that can fail, so after an error there is no reference to release.
func (a *App) Provision(ctx caddy.Context) error {
	a.log, a.tally = ctx.Logger(), logging.NewTally()
	a.sparing = logging.Throttle(a.log, a.tally)
	a.defaults()
	err := a.Validate() // Caddy calls it too, but only after Provision
	if err != nil {
		return err
	}
	mode, _ := audit.ParseMode(a.Audit)
	a.audits = audit.New(a.log.Named("audit"), mode)
	rings, err := a.resolve(ctx)
	if err != nil {
		return err
	}
	emit, err := newEmitter(ctx)
	if err != nil {
		return err
	}
	if err := metrics.Register(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	transport := upstream.NewTransport()
	a.closeIdle = transport.CloseIdleConnections
	a.settings = &settings{
		cacheSize: a.CacheSize, replayMemory: a.ReplayMemory, rings: rings, storage: vault.NewConfigStorage(ctx, ctx.Storage()),
		tokens: a.newTokenSettings(upstream.Standard(transport), emit), deliveries: a.deliveries(),
		clients: slices.Collect(maps.Keys(a.Clients)), operable: a.operable(), audits: a.audits, site: new(operate.Site),
	}
	a.drain = newDrain(func() { a.state.retire(a.settings) })
	if err := a.drain.subscribe(ctx); err != nil {
		return err
	}
	shared, existed, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) { return newState(a.settings) })
	if err != nil {
		return err
	}
	a.state = shared.(*state)
	if existed {
		a.settings.keepIn(a.state.vault, a.state.profiles, a.state.census.Heard)
	}
	a.build()
	return nil
}

// resolve resolves the secrets and makes what the options say. It returns the seal keys
// by component_appid.
func (a *App) resolve(ctx caddy.Context) (rings map[string]*vault.Keyring, err error) {
	if a.hosts, err = a.baseURLs("api", a.API); err != nil {
		return nil, err
	}
	if a.pageURLs, err = a.baseURLs("pages", a.Pages); err != nil {
		return nil, err
	}
	resolve, err := newResolver(a.resolvables(), a.log)
	if err != nil {
		return nil, err
	}
	a.components = make(map[string]*component)
	for _, appid := range slices.Sorted(maps.Keys(a.Components)) {
		if a.components[appid], err = a.Components[appid].provision(appid, resolve.within("component", appid)); err != nil {
			return nil, fmt.Errorf("component %s: %w", appid, err)
		}
	}
	if rings, err = a.keyrings(resolve); err != nil {
		return nil, err
	}
	if a.applications, err = newApplications(ctx, a.Clients, a.components, resolve); err != nil {
		return nil, err
	}
	var overridden []string
	if a.pathKinds, overridden, err = policy.NewPathKinds(a.PathKinds); err != nil {
		return nil, fmt.Errorf("path_kinds: %w", err)
	}
	for _, path := range overridden {
		a.log.Warn("path_kind says otherwise than the gateway's own table, and wins", zap.String("path", path), zap.String("kind", a.PathKinds[path]),
			zap.String("remedy", "keep the line only if WeChat refuses the path without it, with 61014 or 61015"))
	}
	return rings, nil
}

// build makes the receiver of pushes and the pages for admins. Each gets only
// what it needs: the receiver, for instance, has no app secret. What serves the
// applications is made for each wechat_proxy, see newGateway, because each has
// its own transport.
func (a *App) build() {
	s := a.state
	a.pushes = &push.Receiver{
		Codecs: make(map[string]*bizmsg.Codec), Recipients: delivery.Recipients(a.applications.receivers), PublishTest: a.publishTest, Account: s.profiles.Account,
		Tokens: s.keeper, Courier: s.courier, Deliveries: s.messages, Habits: s.habits, Seen: s.seen, Facts: s.pushed, Address: clientAddress, Log: a.sparing,
	}
	a.pages = &authorize.Pages{
		Platforms: make(map[string]*authorize.Platform), URLs: a.pageURLs,
		Tokens: s.keeper, Limits: s.limits, Log: a.sparing,
	}
	for appid, c := range a.components {
		a.pushes.Codecs[appid] = c.codec
		a.pages.Platforms[appid] = &authorize.Platform{AppID: appid, DisplayName: c.displayName, AppSecrets: c.appSecrets, ReturnURLs: c.returnURLs}
	}
}

// publishTest answers the messages of WeChat's publish test, unless that is turned off
// for the component, see push.Receiver.
func (a *App) publishTest(ctx context.Context, m delivery.Item) (reply []byte, ok bool, err error) {
	if a.Components[m.Component].NoPublishTest {
		return nil, false, nil
	}
	return a.state.tester.Answer(ctx, publishtest.Message{Component: m.Component, AppID: m.AppID, ID: m.ID, Plain: m.Body})
}

// newGateway returns the gateway of one wechat_proxy. calls must have its
// transports and its log; newGateway sets its other fields. The App must be
// provisioned.
func (a *App) newGateway(calls *relay.Relay) *gateway.Gateway {
	clients := a.applications.clients
	clients.Measure()
	calls.Tokens, calls.Memory, calls.Hosts = a.state.keeper, a.state.bodies, a.hosts
	calls.IsCredential, calls.HasCredential = clients.IsCredential, clients.Contains
	components := make(map[string]struct{})
	for appid := range a.components {
		components[appid] = struct{}{}
	}
	g := &gateway.Gateway{
		Clients: clients, Components: components, Kinds: a.pathKinds,
		Tokens: a.state.keeper, Relay: calls, Log: calls.Log, Identified: identified, Begun: begun, Ended: a.ended, Address: clientAddress,
		Strangers: metrics.NewMeter(metrics.NoClient, problem.Slugs()), Usage: a.state.usage, Advisor: a.state.advisor, Sets: a.state.profiles.Sets,
	}
	calls.Hint = g.Hint
	return g
}

// Start makes the settings of this App the current ones, also for requests that
// began under an older configuration. It does not wait. Work in the background
// starts here, so an App that is only validated never calls WeChat.
func (a *App) Start() error {
	logging.RedactStandardLog()
	a.state.start(a.settings)
	return nil
}

// Stop removes the settings of this App. The newest App that is still started
// provides the current settings then; requests that began under this one are
// finished with them. It waits up to three seconds until nothing uses the storage
// of this configuration any more, because Caddy closes the storage afterwards. At
// the end of the process it also waits, within the grace period, for the messages that
// are being delivered, queues what is not taken, and stores what is not stored yet, which may take
// fifteen seconds longer if the storage hangs. The counts of what the log has left
// out are written: the log may be closed before Cleanup.
func (a *App) Stop() error {
	a.state.stop(a.settings, a.drain.deadline())
	a.tally.Stop()
	a.audits.Stop()
	return nil
}

// Cleanup releases the reference to the shared state. With the last reference
// it waits until the state has ended, see state.Destruct. Caddy also calls it
// for an App whose Provision has failed, and for an App that was started and
// never stopped, if a configuration fails after all its apps have started.
func (a *App) Cleanup() error {
	if a.state == nil {
		return nil
	}
	a.state.stop(a.settings, time.Now())
	a.tally.Stop()
	a.audits.Stop()
	a.closeIdle()
	a.applications.cleanup()
	_, err := pool.Delete(poolKey)
	return err
}

// baseURLs checks the values of an option that are base URLs, and returns their
// schemes and hosts. It logs a warning for those without encryption.
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
