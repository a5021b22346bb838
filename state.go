// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
)

// pool holds the one shared state of the process for as long as any
// configuration, old or new, refers to it.
var pool = caddy.NewUsagePool()

const poolKey = "wechat"

// shared is what survives a reload: the tokens in memory, cool-downs, replay
// windows and rations. A reload provisions and starts the new App before it
// stops the old one, requests of the old one run on after its Cleanup, and a
// reload that fails leaves the old one in force. So nothing is switched in
// Provision, and the last App started is the one in force.
type shared struct {
	tokens  *Tokens
	replays *replays
	rations *rations

	courier   *delivery.Courier // of authorisation events
	deliverer *http.Transport   // of messages too

	settings atomic.Pointer[settings]
	mu       sync.Mutex
	started  []*App // newest last
	unwatch  context.CancelFunc
}

// newShared is run by the first App of the process; first serves until that
// App has started, because Caddy may start the HTTP server before it.
func newShared(first *settings, cacheSize int) (*shared, error) {
	s := &shared{replays: newReplays(), rations: newRations(), deliverer: newDeliverer()}
	s.settings.Store(first)
	s.courier = delivery.NewCourier(s.deliverer, func() delivery.Settings { return s.settings.Load().deliveries })
	var err error
	s.tokens, err = newTokens(s.settings.Load, cacheSize)
	return s, err
}

// start puts a in force.
func (s *shared) start(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, a)
	s.enforce()
	if s.unwatch == nil {
		var watch context.Context
		watch, s.unwatch = context.WithCancel(context.Background())
		s.tokens.work.Go(func() { s.tokens.Watch(watch) })
		s.tokens.work.Go(func() { s.tokens.Follow(watch) })
	}
}

// stop takes a out of force: usually because a newer App has started, but
// after a failed reload because a itself has to go again.
func (s *shared) stop(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = slices.DeleteFunc(s.started, func(other *App) bool { return other == a })
	if len(s.started) > 0 {
		s.enforce()
	} else if s.unwatch != nil {
		s.unwatch()
		s.unwatch = nil
		s.courier.Serve(nil)
	}
}

func (s *shared) enforce() {
	newest := s.started[len(s.started)-1]
	s.settings.Store(newest.settings)
	s.tokens.cache.resize(newest.CacheSize)
	s.courier.Serve(newest.settings.deliveries.Targets)
}

// Destruct implements caddy.Destructor: the last reference is gone.
func (s *shared) Destruct() error {
	s.courier.Close()
	s.deliverer.CloseIdleConnections()
	s.tokens.Close()
	return nil
}

var _ caddy.Destructor = (*shared)(nil)
