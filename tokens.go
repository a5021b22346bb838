// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// newTokenSettings returns what the keeper of tokens takes from this
// configuration: the current app secrets, the client for WeChat's API, the log,
// and the functions that emit events and that queue news for applications. The vault is that of the state, see
// settings.keepIn. Only the first app secret of a component is used at WeChat; a
// previous one only opens what it has sealed, and verifies what it has signed.
func (a *App) newTokenSettings(transport http.RoundTripper, emit func(string, map[string]any)) *tokens.Settings {
	current := make(map[string]secret.Secret)
	for appid, c := range a.components {
		current[appid] = c.appSecrets[0]
	}
	return &tokens.Settings{Components: current, API: newAPIClient(transport, a.hosts), Log: a.sparing, Emit: emit, News: a.news()}
}

// newVault returns the vault of the process over storage, and that storage with its
// failures counted. Its seal keys and its log are those of the current settings.
func newVault(storage vault.Storage, current func() *settings) (*vault.Vault, metrics.Storage) {
	log := func() *zap.Logger { return current().tokens.Log }
	metered := metrics.NewStorage(storage, log)
	records := vault.New(func() vault.Storage { return metered }, func(appid string) *vault.Keyring { return current().rings[appid] })
	records.Broken = func(lock string) {
		log().Warn("storage lock does not come free and is taken; its owner was killed, or hangs", zap.String("lock", lock))
	}
	return records, metered
}

// keyrings returns the seal keys of each component. The configured keys come
// first, then those derived from its app secrets. So if a seal key is
// configured later, the records that were sealed with a derived key still open.
func (a *App) keyrings(resolve resolver) (map[string]*vault.Keyring, error) {
	configured, err := a.sealKeys(resolve)
	if err != nil {
		return nil, err
	}
	rings := make(map[string]*vault.Keyring)
	for appid, c := range a.components {
		keys := slices.Clone(configured)
		for _, appSecret := range c.appSecrets {
			keys = append(keys, vault.DeriveKey(appSecret, appid))
		}
		if rings[appid], err = vault.NewKeyring(keys...); err != nil {
			return nil, fmt.Errorf("component %s: %w", appid, err)
		}
	}
	return rings, nil
}

// sealKeys returns the seal keys that are configured, none if there are none.
func (a *App) sealKeys(resolve resolver) ([][]byte, error) {
	if len(a.SealKeys) == 0 {
		return nil, nil
	}
	resolved, err := resolve.secrets("seal_key", a.SealKeys, check.SealKey)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for _, text := range resolved {
		key, err := check.ParseSealKey(text.Reveal())
		if err != nil {
			return nil, fmt.Errorf("seal_key: %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// newAPIClient returns the client for WeChat's component API, which calls the
// hosts in this order.
func newAPIClient(transport http.RoundTripper, hosts []*url.URL) *openapi.Client {
	own := metrics.NewMeter(metrics.NoClient, problem.Slugs())
	client := &openapi.Client{Transport: transport, Observe: own.Answer}
	for _, host := range hosts {
		client.Hosts = append(client.Hosts, host.String())
	}
	return client
}
