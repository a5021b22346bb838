// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/advice"
	"github.com/caddy-wechat/caddy-wechat/internal/audit"
	"github.com/caddy-wechat/caddy-wechat/internal/authorize"
	"github.com/caddy-wechat/caddy-wechat/internal/census"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/memory"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/profile"
	"github.com/caddy-wechat/caddy-wechat/internal/publishtest"
	"github.com/caddy-wechat/caddy-wechat/internal/push"
	"github.com/caddy-wechat/caddy-wechat/internal/pushlog"
	"github.com/caddy-wechat/caddy-wechat/internal/relay"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/usage"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/version"
)

// pool has the only state of the process. It counts the references: the state
// lives as long as any App, of an old or a new configuration, has one.
var pool = caddy.NewUsagePool()

// poolKey is the key of the state in pool.
const poolKey = "wechat"

// settings is what the state takes from one configuration. It is not changed
// after Provision. As one pointer, it can be replaced in one step.
type settings struct {
	tokens       *tokens.Settings
	deliveries   delivery.Settings // for the courier
	cacheSize    int
	replayMemory int64 // bytes
	storage      *vault.ConfigStorage
	rings        map[string]*vault.Keyring // component_appid → seal keys
	clients      []string                  // their names
	operable     []operate.Client          // the same, as operators see them
	audits       *audit.Log                // says what operators do
	site         *operate.Site             // what requests show of proxies in front
}

// keepIn makes records the vault of these settings, and lets profiles be told what the
// engine learns of accounts, and heard of those that another node has changed; nil for
// nobody. It is part of Provision.
func (in *settings) keepIn(records *vault.Vault, profiles tokens.Profiles, heard func(subject.Subject)) {
	in.tokens.Vault, in.deliveries.Vault, in.tokens.Profiles, in.tokens.Heard = records, records, profiles, heard
	in.deliveries.Components = in.components()
}

// components returns the component_appids, in no order.
func (in *settings) components() []string { return slices.Collect(maps.Keys(in.rings)) }

// publishTest is what the answers to WeChat's publish test take from these settings.
func (in *settings) publishTest() publishtest.Settings {
	return publishtest.Settings{Vault: in.tokens.Vault, Log: in.tokens.Log, Components: in.components()}
}

// state is what survives a reload: tokens, profiles and the census in memory, records that storage
// has not taken, rejected tokens and codes, the delays after failed renewals, codes of
// the publish test that are being sent back, the replay window of pushes, the limits of
// the public pages, what is counted and said of calls, and what the request bodies that are kept take together.
// If they did not survive, a captured push could be sent again after each
// reload, and renewals that have just failed would be tried again at once.
//
// Caddy provisions and starts the new App before it stops the old one. Requests
// of the old App go on after its Cleanup. If a reload fails, the old App stays
// the current one. So Provision changes nothing here; the settings of the App
// that was started last are the current ones.
//
// It is safe for concurrent use.
type state struct {
	storage  *vault.Reloadable // that of the current settings
	metered  metrics.Storage   // over storage: knows how it has answered
	vault    *vault.Vault      // over metered; one for the process, because it hands locks on within it
	keeper   *tokens.Keeper
	memory   *memory.Memory[*tokens.Token]  // the keeper's, for apply
	known    *memory.Memory[*profile.Known] // that of profiles
	profiles *profile.Profiles
	usage    *usage.Table
	advisor  *advice.Advisor
	census   *census.Census
	unwatch  func()         // ends what Prometheus sees of census
	seen     *delivery.Seen // events that were pushed
	limits   *authorize.Limits
	bodies   *relay.Memory // of the calls of all configurations: requests of an old one go on

	pushed  *pushlog.Log // what came of the last pushes
	began   time.Time
	version string
	node    string // the host name, "" where the system tells none
	doctor  *operate.Doctor

	courier  *delivery.Courier    // delivers what is queued
	messages *delivery.Deliveries // delivers messages at once
	habits   *push.Habits
	tester   *publishtest.Tester

	settings atomic.Pointer[settings] // the current ones; never nil

	// mu guards the fields below, and makes start and stop run one after the
	// other.
	mu      sync.Mutex
	started []*settings        // of all Apps that are started, the newest last
	stopRun context.CancelFunc // ends the keeper's work in the background; nil if no App is started
}

// newState returns the state of the process. It is called for the first App.
// The settings of that App, first, are used until it is started, because Caddy
// may start the HTTP server before it.
func newState(first *settings) (*state, error) {
	held, err := memory.New[*tokens.Token](first.cacheSize)
	if err != nil {
		return nil, err
	}
	known, err := memory.New[*profile.Known](first.cacheSize)
	if err != nil {
		held.Close()
		return nil, err
	}
	s := &state{
		storage: vault.NewReloadable(first.storage), memory: held, known: known, seen: new(delivery.Seen),
		usage: usage.New(), advisor: advice.NewAdvisor(), pushed: new(pushlog.Log), limits: authorize.NewLimits(),
		bodies: relay.NewMemory(first.replayMemory), habits: push.NewHabits(),
		began: time.Now(), version: version.Get().Version, doctor: operate.NewDoctor(),
	}
	s.node, _ = os.Hostname()
	s.vault, s.metered = newVault(s.storage, s.settings.Load)
	current := func() *tokens.Settings { return s.settings.Load().tokens }
	s.keeper = tokens.NewKeeper(current, held)
	s.profiles = profile.New(current, known, func(ctx context.Context, who subject.Subject) error {
		_, err := s.keeper.AuthorizerInfo(ctx, who, tokens.Itself+who.Authorizer())
		return err
	})
	metrics.BuildInfo(s.version)
	s.census = census.New(func() *vault.Vault { return s.vault },
		func() []string { return s.settings.Load().components() }, func() *zap.Logger { return current().Log })
	s.vault.Changed = s.census.Changed
	first.keepIn(s.vault, s.profiles, s.census.Heard)
	s.settings.Store(first)
	s.unwatch = metrics.WatchAccounts(s.accounts)
	s.courier = delivery.NewCourier(func() delivery.Settings { return s.settings.Load().deliveries })
	s.messages = delivery.NewDeliveries(s.courier)
	s.tester = publishtest.New(func() publishtest.Settings { return s.settings.Load().publishTest() }, s.keeper)
	return s, nil
}

// start makes the settings of an App the current ones. The first call starts
// the keeper's work in the background. It does not wait for it.
func (s *state) start(in *settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, in)
	s.apply()
	if s.stopRun == nil {
		var run context.Context
		run, s.stopRun = context.WithCancel(context.Background())
		s.keeper.Run(run)
		s.tester.Run(run)
		s.census.Run(run)
		go s.messages.Sweep(run)
	}
}

// stop removes the settings of an App. Normally newer ones were started before.
// After a failed reload they are the newest, and the ones before become current
// again. If none are left, the work in the background ends; attempts to deliver messages
// are waited for until end, and interrupted then; and what storage has
// not taken is offered to it once more. The last settings are still used for
// requests that are not finished. When stop returns, the storage of these settings
// may be closed, see [vault.Reloadable.Retire]. A second call for the same
// settings does nothing.
func (s *state) stop(in *settings, end time.Time) {
	if last := s.remove(in); last {
		within, cancel := context.WithDeadline(context.Background(), end)
		s.messages.Finish(within)
		s.tester.Finish(within)
		cancel()
		s.keeper.Flush()
	}
	s.storage.Retire(in.storage)
}

// retire is called when Caddy begins to stop the configuration of these settings, if
// another one has been started in its place. It waits until nothing uses the storage
// of these settings, so that stop need not. At the end of the process it does nothing:
// requests are still served, and need their locks.
func (s *state) retire(in *settings) {
	if s.settings.Load() != in {
		s.storage.Retire(in.storage)
	}
}

// remove is stop without its waiting. It reports whether these settings were the
// last that were started.
func (s *state) remove(in *settings) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = slices.DeleteFunc(s.started, func(other *settings) bool { return other == in })
	s.forgetClients(in.clients)
	if len(s.started) > 0 {
		s.apply()
		return false
	}
	if s.stopRun == nil {
		return false
	}
	s.stopRun()
	s.stopRun = nil
	s.courier.Serve(nil)
	return true
}

// forgetClients removes what metrics show of clients that no App that is started has.
// The caller holds mu.
func (s *state) forgetClients(names []string) {
	for _, name := range names {
		if !slices.ContainsFunc(s.started, func(other *settings) bool { return slices.Contains(other.clients, name) }) {
			metrics.ForgetClient(name)
		}
	}
}

// apply makes the newest settings the current ones. The caller holds mu, and
// started is not empty. The settings are replaced before Serve is called,
// because the courier takes its targets from the settings.
func (s *state) apply() {
	newest := s.started[len(s.started)-1]
	s.settings.Store(newest)
	s.storage.Use(newest.storage)
	s.memory.Resize(newest.cacheSize)
	s.known.Resize(newest.cacheSize)
	s.bodies.Resize(newest.replayMemory)
	s.courier.Serve(newest.deliveries.Targets)
}

// Destruct ends everything. The pool calls it when the last reference is
// released, at the end of the process or after a configuration without this
// app. It interrupts deliveries and renewals in progress and waits until they
// have ended. The keeper then tries once more to store records that are not
// stored yet.
func (s *state) Destruct() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.doctor.Close()
	s.messages.Finish(now)
	s.profiles.Close()
	s.tester.Finish(now)
	s.courier.Close()
	s.keeper.Close()
	s.unwatch()
	s.census.Close()
	return nil
}

// accounts returns how many accounts each component has, for Prometheus. It waits for
// nothing; the first call starts the counting.
func (s *state) accounts() (all []metrics.Accounts) {
	for _, component := range s.settings.Load().components() {
		n, counted := s.census.Counts(component)
		all = append(all, metrics.Accounts{Component: component, Counted: counted,
			Authorized: n.Authorized, Unauthorized: n.Withdrawn, NeedsAuthorization: n.NeedsAdmin, Failing: n.Failing})
	}
	return all
}

var _ caddy.Destructor = (*state)(nil)
