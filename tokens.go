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
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/profile"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
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

// memory keeps tokens, or what is known of accounts, in a ristretto cache: cache_size
// of them, those that are used most. V is a pointer. It implements tokens.Memory and
// profile.Memory, whose comments say what the callers must not rely on: ristretto stores
// a Set a little later, and may drop it.
type memory[V any] struct {
	cache *ristretto.Cache[string, V]

	// mu guards closed. Ristretto panics if a Get or Set runs at the same time
	// as Close. So every use of cache holds mu for reading, and Close holds it
	// for writing.
	mu     sync.RWMutex
	closed bool
}

// newMemory returns a memory for size values. It starts goroutines of
// ristretto, which end with Close.
//
// Ristretto does not store the key of an entry but two hashes of it, of 64 bits
// each. Both have a random seed here, so that nobody can choose appids for
// which one account gets the token of another. NumCounters and BufferItems have
// the values that ristretto recommends.
func newMemory[V any](size int) (*memory[V], error) {
	seed1, seed2 := maphash.MakeSeed(), maphash.MakeSeed()
	cache, err := ristretto.NewCache(&ristretto.Config[string, V]{
		NumCounters:        10 * int64(size),
		MaxCost:            int64(size),
		BufferItems:        64,
		IgnoreInternalCost: true, // else an entry costs more than 1, and fewer than size fit
		KeyToHash: func(key string) (uint64, uint64) {
			return maphash.String(seed1, key), maphash.String(seed2, key)
		},
	})
	if err != nil {
		return nil, err
	}
	return &memory[V]{cache: cache}, nil
}

// Get returns what was set for who, or nil. It never blocks for long: mu is only
// held for writing by Close.
func (m *memory[V]) Get(who subject.Subject) (value V) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return value
	}
	value, _ = m.cache.Get(string(who))
	return value
}

// Set stores the value of who. Each has cost 1.
func (m *memory[V]) Set(who subject.Subject, value V) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.Set(string(who), value, 1)
	}
}

// Drop removes the value of who.
func (m *memory[V]) Drop(who subject.Subject) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.Del(string(who))
	}
}

// resize changes the number of values, at a reload. If there are more,
// ristretto removes some when others are stored.
func (m *memory[V]) resize(size int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.closed {
		m.cache.UpdateMaxCost(int64(size))
	}
}

// Close ends the cache. It waits for the other methods that are running.
// Afterwards Get returns nil, and the other methods do nothing.
func (m *memory[V]) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.cache.Close()
	}
}

var (
	_ tokens.Memory  = (*memory[*tokens.Token])(nil)
	_ profile.Memory = (*memory[*profile.Known])(nil)
)

// newAPITransport returns the transport for WeChat's component API. Calls of
// applications have another one: tokens must be renewed also while these use
// all connections of theirs. Making a connection gets only a part of the time
// that a call has. So if a host does not answer at all, there is time left for
// the next host.
func newAPITransport() *http.Transport {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if common, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = common.Clone() // with the certificates that the process trusts
	}
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.TLSHandshakeTimeout = handshakeTimeout
	transport.MaxIdleConnsPerHost = 16
	transport.MaxResponseHeaderBytes = maxResponseHeader
	return transport
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
