// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"fmt"
	"hash/maphash"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"github.com/dgraph-io/ristretto/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// newTokenSettings returns what the keeper of tokens takes from this
// configuration: where records are kept, and where WeChat is.
func (a *App) newTokenSettings(caddyStorage vault.Storage, rings map[string]*vault.Keyring, emit func(string, map[string]any)) *tokens.Settings {
	storage := metrics.NewStorage(caddyStorage, a.log)
	records := vault.New(func() vault.Storage { return storage }, func(appid string) *vault.Keyring { return rings[appid] })
	records.Broken = func(lock string) {
		a.log.Warn("storage lock does not come free and is taken; its owner was killed, or hangs", zap.String("lock", lock))
	}
	current := make(map[string]secret.Secret)
	for appid, c := range a.components {
		current[appid] = c.appSecrets[0]
	}
	return &tokens.Settings{Components: current, API: newAPIClient(a.apiTransport, a.hosts), Vault: records, Log: a.log, Emit: emit}
}

// keyrings returns the seal keys of each component: those configured, then
// those derived from its app secrets, so that configuring a seal key later
// makes nothing unreadable.
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

// sealKeys returns the seal keys that are configured, which may be none.
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

// memory keeps tokens in ristretto: as many as cache_size says, those that are
// called for most. It implements tokens.Memory.
type memory struct {
	cache *ristretto.Cache[string, *tokens.Token]

	// Ristretto panics on a Get or Set that meets Close.
	mu     sync.RWMutex
	closed bool
}

func newMemory(size int) (*memory, error) {
	seed1, seed2 := maphash.MakeSeed(), maphash.MakeSeed()
	cache, err := ristretto.NewCache(&ristretto.Config[string, *tokens.Token]{
		NumCounters:        10 * int64(size),
		MaxCost:            int64(size),
		BufferItems:        64,
		IgnoreInternalCost: true, // or only a fraction of size entries would stay
		KeyToHash: func(key string) (uint64, uint64) {
			return maphash.String(seed1, key), maphash.String(seed2, key)
		},
	})
	if err != nil {
		return nil, err
	}
	return &memory{cache: cache}, nil
}

func (m *memory) Get(who subject.Subject) *tokens.Token {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil
	}
	token, _ := m.cache.Get(string(who))
	return token
}

func (m *memory) Set(who subject.Subject, token *tokens.Token) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.Set(string(who), token, 1)
	}
}

func (m *memory) Drop(who subject.Subject) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.Del(string(who))
	}
}

func (m *memory) resize(size int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.UpdateMaxCost(int64(size))
	}
}

func (m *memory) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.cache.Close()
	}
}

var _ tokens.Memory = (*memory)(nil)

// newAPITransport returns the transport for the component API. It is not that of
// applications' calls: the token endpoints must answer while those fill theirs.
// Dialling gets a fraction of the time a call has, so that a host which swallows
// packets is passed over for the next.
func newAPITransport() *http.Transport {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if common, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = common.Clone() // and with it whom the process trusts
	}
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.TLSHandshakeTimeout = handshakeTimeout
	transport.MaxIdleConnsPerHost = 16
	return transport
}

func newAPIClient(transport http.RoundTripper, hosts []*url.URL) *openapi.Client {
	client := &openapi.Client{Transport: transport}
	for _, host := range hosts {
		client.Hosts = append(client.Hosts, host.String())
	}
	return client
}
