// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/authorize"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/push"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
)

// pool holds the one state of the process for as long as any configuration, old
// or new, refers to it.
var pool = caddy.NewUsagePool()

const poolKey = "wechat"

// settings is what the state takes from one configuration. It is read only.
type settings struct {
	tokens     *tokens.Settings
	deliveries delivery.Settings // for the courier
	cacheSize  int
}

// state is what survives a reload: the tokens in memory, cool-downs, replay
// windows and rations. A reload provisions and starts the new App before it
// stops the old one, requests of the old one run on after its Cleanup, and a
// reload that fails leaves the old one in force. So nothing is switched in
// Provision, and the settings of the last App started are those in force.
type state struct {
	keeper  *tokens.Keeper
	memory  *memory
	replays *push.Replays
	limits  *authorize.Limits

	courier   *delivery.Courier // of authorisation events
	deliverer *http.Transport   // of messages too

	settings atomic.Pointer[settings] // in force
	mu       sync.Mutex               // guards what is below
	started  []*settings              // newest last
	stopRun  context.CancelFunc       // nil while no App is started
}

// newState is called for the first App of the process; first serves until that
// App has started, because Caddy may start the HTTP server before it.
func newState(first *settings) (*state, error) {
	memory, err := newMemory(first.cacheSize)
	if err != nil {
		return nil, err
	}
	s := &state{memory: memory, replays: push.NewReplays(), limits: authorize.NewLimits(), deliverer: newDeliverer()}
	s.settings.Store(first)
	s.keeper = tokens.NewKeeper(func() *tokens.Settings { return s.settings.Load().tokens }, memory)
	s.courier = delivery.NewCourier(s.deliverer, func() delivery.Settings { return s.settings.Load().deliveries })
	return s, nil
}

// start puts the settings of an App in force.
func (s *state) start(in *settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, in)
	s.apply()
	if s.stopRun == nil {
		var run context.Context
		run, s.stopRun = context.WithCancel(context.Background())
		s.keeper.Run(run)
	}
}

// stop takes the settings of an App out of force: usually because newer ones have started,
// but after a failed reload because they themselves have to go again.
func (s *state) stop(in *settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = slices.DeleteFunc(s.started, func(other *settings) bool { return other == in })
	if len(s.started) > 0 {
		s.apply()
	} else if s.stopRun != nil {
		s.stopRun()
		s.stopRun = nil
		s.courier.Serve(nil)
	}
}

// apply lets the newest settings take effect. The caller holds mu.
func (s *state) apply() {
	newest := s.started[len(s.started)-1]
	s.settings.Store(newest)
	s.memory.resize(newest.cacheSize)
	s.courier.Serve(newest.deliveries.Targets)
}

// Destruct implements caddy.Destructor: the last reference is gone.
func (s *state) Destruct() error {
	s.courier.Close()
	s.deliverer.CloseIdleConnections()
	s.keeper.Close()
	return nil
}

var _ caddy.Destructor = (*state)(nil)
