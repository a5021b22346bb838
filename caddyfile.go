// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-wechat/caddy-wechat/internal/authorize"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/policy"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("wechat", parseApp)
	httpcaddyfile.RegisterDirective("wechat_platform", parsePlatform)
	httpcaddyfile.RegisterHandlerDirective("wechat_proxy", parseProxy)
	// Both answer every request that they get, so their place is among the
	// handlers that write answers.
	httpcaddyfile.RegisterDirectiveOrder("wechat_platform", httpcaddyfile.Before, "respond")
	httpcaddyfile.RegisterDirectiveOrder("wechat_proxy", httpcaddyfile.Before, "respond")
}

// parseApp parses the global option wechat. A second one is an error, because
// it would replace the first.
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		d.Next()
		return nil, d.Err("wechat is already specified: put all components and clients into one block")
	}
	app := new(App)
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "wechat", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile sets the options of the app from the global option:
//
//	wechat {
//		component <component_appid> {            # repeatable
//			app_secret       <secret> [<previous>]
//			token            <token>  [<previous>]
//			encoding_aes_key <key>    [<previous>]
//			return_url       <url>[*]              # repeatable
//			display_name     <name>
//			publish_test     off
//		}
//		client <name> {                          # repeatable
//			secret        <secret> [<second>]
//			component     <component_appid>
//			authorizers   <appid>... | *
//			allow         [<method>] <path>...     # repeatable
//			component_api
//			from          <address or CIDR range>...
//			deliver       <url> {                  # repeatable, see Deliver.unmarshal
//				...
//			}
//		}
//		api        <url>...
//		pages      <desktop url> [<url inside WeChat>]
//		seal_key   <key> [<previous>]
//		cache_size <n>
//		path_kind  component|authorizer|either <path>...   # repeatable
//		replay_memory <size>
//		audit      off|refusals|calls
//	}
//
// Secrets may be placeholders, {env.NAME} or {file./path}. Other values are
// checked here, so that errors name the file and the line.
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Err("wechat takes no value, only a block { ... } with components and clients")
	}
	return parseBlock(d, map[string]option{
		"component*":    blockOption(&a.Components, check.AppID, (*Component).unmarshal),
		"client*":       blockOption(&a.Clients, check.ClientID, (*Client).unmarshal),
		"api":           listOption(&a.API, 8, check.BaseURL),
		"pages":         listOption(&a.Pages, maxPages, check.BaseURL),
		"seal_key":      secretOption(&a.SealKeys, check.SealKey),
		"cache_size":    intOption(&a.CacheSize),
		"path_kind*":    pathKindOption(&a.PathKinds),
		"replay_memory": sizeOption(&a.ReplayMemory, minReplayMemory, maxReplayMemory, "1MiB and 16GiB, such as 64MiB"),
		"audit":         stringOption(&a.Audit, checkAudit),
	})
}

// unmarshal parses the block of one component.
func (c *Component) unmarshal(d *caddyfile.Dispenser) error {
	return parseBlock(d, map[string]option{
		"app_secret":       secretOption(&c.AppSecrets, check.AppSecret),
		"token":            secretOption(&c.Tokens, check.PushToken),
		"encoding_aes_key": secretOption(&c.EncodingAESKeys, check.AESKey),
		"return_url*":      listOption(&c.ReturnURLs, 64, checkReturnURL),
		"display_name":     stringOption(&c.DisplayName, check.DisplayName),
		"publish_test":     offOption(&c.NoPublishTest, "the gateway answers WeChat's publish test"),
	})
}

// unmarshal parses the block of one client.
func (c *Client) unmarshal(d *caddyfile.Dispenser) error {
	return parseBlock(d, map[string]option{
		"secret":        secretOption(&c.Secrets, check.ClientSecret),
		"component":     stringOption(&c.Component, check.AppID),
		"authorizers":   listOption(&c.Authorizers, maxAuthorizers, check.Authorizer),
		"component_api": boolOption(&c.ComponentAPI),
		"from":          listOption(&c.From, maxFrom, check.From),
		"deliver*": func(d *caddyfile.Dispenser) error {
			next := new(Deliver)
			if err := next.unmarshal(d); err != nil {
				return err
			}
			c.Deliver = append(c.Deliver, next)
			return c.Deliver[:len(c.Deliver)-1].free(next.name())
		},
		"allow*": func(d *caddyfile.Dispenser) error {
			rules, err := policy.ParseRules(d.RemainingArgs()...)
			c.Allow = append(c.Allow, rules...)
			return err
		},
	})
}

// parsePlatform replaces the directive
//
//	wechat_platform [<prefix>] {
//		public_url <url>
//	}
//
// with three routes, for WeChat and for admins:
//
//	POST <prefix>/events                 wechat_events
//	POST <prefix>/messages/<appid>       wechat_messages
//	GET  <prefix>/authorize[/callback]   wechat_authorize; POST without /callback
//
// The default prefix is /wechat.
func parsePlatform(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next()
	if err := wantApp(h); err != nil {
		return nil, err
	}
	prefix := "/wechat"
	if h.NextArg() {
		prefix = strings.TrimSuffix(h.Val(), "/")
		if _, ok := policy.Clean(prefix); !ok && h.Val() != "/" {
			return nil, h.Errf("wechat_platform: the prefix %s must be a plain path such as /wechat, without wildcards, placeholders or matchers", check.Quote(h.Val()))
		}
	}
	if h.NextArg() {
		return nil, h.Err("wechat_platform takes one value, the prefix of its paths")
	}
	pages := new(Authorize)
	err := parseBlock(h.Dispenser, map[string]option{"public_url": stringOption(&pages.PublicURL, check.BaseURL)})
	if err != nil {
		return nil, err
	}
	route := func(handler caddyhttp.MiddlewareHandler, paths ...string) []httpcaddyfile.ConfigValue {
		match := caddyhttp.MatchPath{}
		for _, path := range paths {
			match = append(match, prefix+path)
		}
		return h.NewRoute(caddy.ModuleMap{"path": h.JSON(match)}, handler)
	}
	return slices.Concat(
		route(new(Events), "/events"),
		route(new(Messages), "/messages/*"),
		route(pages, "/authorize", "/authorize"+authorize.CallbackSuffix),
	), nil
}

// parseProxy parses the directive wechat_proxy.
func parseProxy(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := new(Proxy)
	if err := p.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return p, wantApp(h)
}

// wantApp returns an error if there is no global option wechat: the handlers
// would have no credentials and no clients.
func wantApp(h httpcaddyfile.Helper) error {
	if h.Option("wechat") == nil {
		return h.Err("the global option wechat is missing: name component and clients in { wechat { ... } } at the top of the Caddyfile")
	}
	return nil
}

// UnmarshalCaddyfile sets the options of the handler:
//
//	wechat_proxy [<matcher>] {
//		transport http {
//			...                # as in reverse_proxy
//		}
//		max_replay_body <size>
//	}
func (p *Proxy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Err("wechat_proxy takes no value but a matcher; where WeChat is, api in the global option wechat tells")
	}
	return parseBlock(d, map[string]option{
		"max_replay_body": sizeOption(&p.MaxReplayBody, 1, maxReplayBody, "1 byte and 64MiB, such as 16MiB"),
		"transport":       transportOption(&p.Transport, "WeChat is reached over HTTP alone"),
	})
}

var (
	_ caddyfile.Unmarshaler = (*App)(nil)
	_ caddyfile.Unmarshaler = (*Proxy)(nil)
)
