// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/authorize"
	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Component is one WeChat third-party platform. If an option may have two
// values, the first is the current one and the second the previous one. The
// previous value still opens and verifies what was made with it.
type Component struct {
	// AppSecrets are the platform's AppSecret, which WeChat's console shows
	// only once. Required.
	AppSecrets []string `json:"app_secrets,omitempty"`

	// Tokens are the 消息校验Token: 3 to 32 letters and digits. Required.
	Tokens []string `json:"tokens,omitempty"`

	// EncodingAESKeys are the 消息加解密Key: 43 letters and digits. Required.
	EncodingAESKeys []string `json:"encoding_aes_keys,omitempty"`

	// ReturnURLs are the addresses to which the browser of an admin may be sent
	// after the authorisation: a URL, or the beginning of URLs followed by *.
	// Default: none.
	ReturnURLs []string `json:"return_urls,omitempty"`

	// DisplayName is the name of the platform or of its company, up to 64
	// characters. The pages for admins say that they authorise it. Default:
	// none; the pages then speak of the platform.
	DisplayName string `json:"display_name,omitempty"`

	// NoPublishTest means that messages of WeChat's full-network publish test
	// (全网发布检测) are delivered to the clients, as all messages are, and an
	// application must pass the test. Default: false; the gateway answers them
	// itself, for the ten accounts with which WeChat tests.
	NoPublishTest bool `json:"no_publish_test,omitempty"`
}

// component is a Component with its secrets resolved. It does not change after
// Provision.
type component struct {
	appid       string
	displayName string          // "" if there is none
	appSecrets  []secret.Secret // the current one first
	codec       *bizmsg.Codec   // opens its pushes
	returnURLs  []authorize.ReturnURL
}

// provision returns the component with its secrets resolved. A component
// without a block in JSON is nil; the error then says what is missing.
func (c *Component) provision(appid string, resolve resolver) (*component, error) {
	if c == nil {
		c = new(Component)
	}
	out := &component{appid: appid, displayName: c.DisplayName, codec: &bizmsg.Codec{ReceiveID: appid}}
	if c.DisplayName != "" {
		if err := check.DisplayName(c.DisplayName); err != nil {
			return nil, fmt.Errorf("display_name: %w", err)
		}
	}
	var err error
	if out.appSecrets, err = resolve.secrets("app_secret", c.AppSecrets, check.AppSecret); err != nil {
		return nil, err
	}
	if out.codec.Tokens, err = resolve.secrets("token", c.Tokens, check.PushToken); err != nil {
		return nil, err
	}
	aesKeys, err := resolve.secrets("encoding_aes_key", c.EncodingAESKeys, check.AESKey)
	if err != nil {
		return nil, err
	}
	for _, text := range aesKeys {
		key, err := bizmsg.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("encoding_aes_key: %w", err)
		}
		out.codec.Keys = append(out.codec.Keys, key)
	}
	for _, text := range c.ReturnURLs {
		pattern, err := authorize.ParseReturnURL(text)
		if err != nil {
			return nil, fmt.Errorf("return_url: %w", err)
		}
		out.returnURLs = append(out.returnURLs, pattern)
	}
	return out, nil
}

// resolvable is an option whose values may have placeholders, as secrets do.
type resolvable struct {
	name   string // with the blocks that it is in
	values []string
}

// resolvables returns all options of the configuration whose values may have
// placeholders, in the order of their blocks.
func (a *App) resolvables() []resolvable {
	options := []resolvable{{"seal_key", a.SealKeys}}
	add := func(block, name string, values ...string) {
		options = append(options, resolvable{block + ", " + name, values})
	}
	for _, appid := range slices.Sorted(maps.Keys(a.Components)) {
		if c := a.Components[appid]; c != nil {
			block := "component " + appid
			add(block, "app_secret", c.AppSecrets...)
			add(block, "token", c.Tokens...)
			add(block, "encoding_aes_key", c.EncodingAESKeys...)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.Clients)) {
		if c := a.Clients[id]; c != nil {
			add("client "+id, "secret", c.Secrets...)
			for _, d := range c.Deliver {
				d.addSecrets(func(name string, values ...string) { add("client "+id+", deliver "+d.name(), name, values...) })
			}
		}
	}
	return options
}

// addSecrets calls add with each option of the target whose values may have
// placeholders.
func (d *Deliver) addSecrets(add func(name string, values ...string)) {
	if d == nil {
		return
	}
	add("token", d.Tokens...)
	add("encoding_aes_key", d.EncodingAESKeys...)
	add("webhook_secret", d.WebhookSecrets...)
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		add("header "+name, d.Headers[name])
	}
}

// resolver has the values of secrets in place of their placeholders.
type resolver struct {
	// values are by the text in the configuration. A text that is missing here has
	// braces that are no placeholder.
	values map[string]string
	log    *zap.Logger // for warnings, with the names of the blocks that an option is in
}

// newResolver resolves the values of options. It may read files, each once. If
// environment variables or files are missing or empty, the error names all of them, so
// that a missing variable cannot become an empty secret. The errors of the replacer are
// not returned: for a secret with braces that is not a placeholder they would show a
// part of the secret.
func newResolver(options []resolvable, log *zap.Logger) (resolver, error) {
	r := resolver{make(map[string]string), log}
	replacer, missing := caddy.NewReplacer(), check.Missing{}
	for _, option := range options {
		for _, text := range option.values {
			if _, known := r.values[text]; known {
				continue
			}
			value, err := replacer.ReplaceOrErr(text, true, true)
			if err == nil {
				r.values[text] = value
				continue
			}
			for _, found := range check.Placeholder.FindAllStringSubmatch(text, -1) {
				if _, err := replacer.ReplaceOrErr(found[0], true, true); err != nil {
					missing.Add(found[1], found[2], option.name)
				}
			}
		}
	}
	return r, missing.Err()
}

// within returns the resolver for the options of a block.
func (r resolver) within(block, name string) resolver {
	return resolver{r.values, r.log.With(zap.String(block, name))}
}

// secrets resolves the one or two values of an option, and checks each with
// valid afterwards. Its errors begin with the name of the option and contain no
// value. It warns of a value that stands in the configuration itself, where
// Caddy's admin API, its autosaved copy and backups show it. The digest of a
// secret is none.
func (r resolver) secrets(option string, raw []string, valid func(string) error) ([]secret.Secret, error) {
	if err := check.Pair(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	var out []secret.Secret
	for i, text := range raw {
		value, err := r.value(text)
		if err == nil {
			err = valid(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		if value == text && !strings.HasPrefix(text, check.HashedSecret) {
			r.warnOfText(option, i+1)
		}
		out = append(out, secret.New(value))
	}
	return out, nil
}

// warnOfText warns of a secret that stands in the configuration. value is its number
// among the values of the option, from 1.
func (r resolver) warnOfText(option string, value int) {
	r.log.Warn("a secret stands in the configuration as text", zap.String("option", option), zap.Int("value", value),
		zap.String("remedy", "write {env.NAME} or {file./path} in its place, not {$NAME}, and replace the secret: Caddy has shown and saved it"))
}

// value returns the value of a text in the configuration.
func (r resolver) value(text string) (string, error) {
	value, known := r.values[text]
	if !known {
		return "", errBraces
	}
	return value, nil
}

// errBraces is the error for a value with braces that is not a placeholder.
var errBraces = errors.New("braces are for placeholders, of which there are {env.NAME} and {file./path}")

// checkReturnURL checks a value of return_url.
func checkReturnURL(text string) error {
	_, err := authorize.ParseReturnURL(text)
	return err
}

// Limits of options, against mistakes in a configuration that would use up memory.
const (
	maxAuthorizers  = 100_000    // accounts named for one client; WeChat allows no component more
	maxTargets      = 64         // for one client; all get a message at once
	maxFrom         = 1000       // ranges of addresses for one client; all are looked through at a call
	maxPages        = 2          // for desktop browsers, and for the browser inside WeChat
	maxCacheSize    = 10_000_000 // tokens
	maxReplayBody   = 64 << 20   // bytes, of each call in progress
	minReplayMemory = 1 << 20    // bytes, of all calls in progress together
	maxReplayMemory = 16 << 30   // bytes
)

// defaults sets the options that are not configured.
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
	if a.ReplayMemory == 0 {
		a.ReplayMemory = 64 << 20
	}
	if a.Audit == "" {
		a.Audit = "refusals"
	}
}

// Validate checks the options that are no secrets. Secrets are checked by
// Provision, when they are resolved.
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
	if a.ReplayMemory < minReplayMemory || a.ReplayMemory > maxReplayMemory {
		return fmt.Errorf("replay_memory: %d is not between %d and %d bytes", a.ReplayMemory, minReplayMemory, int64(maxReplayMemory))
	}
	if err := checkAudit(a.Audit); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
