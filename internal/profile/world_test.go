// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

const (
	component = "wx134c8103faa5a59e"
	appid     = "wxaaaaaaaaaaaaaaaa"
	userName  = "gh_0123456789ab"
	another   = "gh_ba9876543210"
	key       = "wechat/" + component + "/profiles/aa/" + appid + ".json"
)

var account = subject.Of(component, appid)

// world is a WeChat that tells of accounts, a storage, and nodes, in one bubble of
// testing/synctest.
type world struct {
	*testing.T
	storage *vaulttest.Memory
	logs    *observer.ObservedLogs
	log     *zap.Logger

	mu        sync.Mutex
	kind      openapi.AccountKind
	functions []int
	fail      error         // what WeChat answers
	takes     time.Duration // how long WeChat takes
	asked     []time.Time
	told      []tokens.News
	refuse    error // what happens to news
}

// node is the part of a process that keeps profiles.
type node struct {
	*Profiles
	settings *tokens.Settings
	memory   *remembering
}

// remembering is a Memory that forgets nothing.
type remembering struct{ known sync.Map }

func (m *remembering) Get(who subject.Subject) *Known {
	known, _ := m.known.Load(who)
	k, _ := known.(*Known)
	return k
}
func (m *remembering) Set(who subject.Subject, known *Known) { m.known.Store(who, known) }
func (m *remembering) Drop(who subject.Subject)              { m.known.Delete(who) }
func (m *remembering) Close()                                {}

func play(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.DebugLevel)
		test(&world{T: t, storage: new(vaulttest.Memory), logs: logs, log: zap.New(core), kind: openapi.OfficialAccount, functions: []int{1, 2}})
	})
}

func (w *world) start() *node {
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{1}, vault.KeySize))
	w.must(err)
	n := &node{memory: new(remembering), settings: &tokens.Settings{
		Components: map[string]secret.Secret{component: secret.New("app-secret")}, Log: w.log,
		Vault: vault.New(func() vault.Storage { return w.storage }, func(string) *vault.Keyring { return ring }),
		News: func(_ context.Context, news tokens.News) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, news)
			return w.refuse
		},
	}}
	n.Profiles = New(func() *tokens.Settings { return n.settings }, n.memory, func(ctx context.Context, who subject.Subject) error {
		w.mu.Lock()
		asked, takes := time.Now(), w.takes
		w.asked = append(w.asked, asked)
		w.mu.Unlock()
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
		err, info := w.fail, openapi.AuthorizerInfo{AppID: who.Authorizer(), NickName: "示例", UserName: w.nameOf(who), PrincipalName: "示例科技有限公司", Kind: w.kind, Functions: w.functions}
		w.mu.Unlock()
		if err == nil {
			n.Learned(who, info, asked)
		}
		return err
	})
	w.Cleanup(n.Close)
	return n
}

// nameOf is the gh_ name of an account.
func (w *world) nameOf(who subject.Subject) string {
	if who == account {
		return userName
	}
	return "gh_" + who.Authorizer()[2:]
}

// set changes what WeChat does.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// questions checks how many questions WeChat was asked since the last time, within a while.
func (w *world) questions(want int) {
	w.Helper()
	time.Sleep(5 * time.Second) // for storage locks, which are polled
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) != want {
		w.Errorf("WeChat was asked %d times, want %d", len(w.asked), want)
	}
	w.asked = nil
}

// stored is the profile that is stored.
func (w *world) stored(n *node) vault.Profile {
	w.Helper()
	profile, err := n.settings.Vault.LoadProfile(w.Context(), account)
	w.must(err)
	return profile
}

// push checks what is said of a push to the account's path.
func (w *world) push(n *node, to string, its, official bool) {
	w.Helper()
	if gotIts, gotOfficial := n.Account(w.Context(), component, appid, to); gotIts != its || gotOfficial != official {
		w.Errorf("a message to %q: its %v, official %v; want %v, %v", to, gotIts, gotOfficial, its, official)
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// numbered is one account of many.
func numbered(i int) subject.Subject { return subject.Of(component, fmt.Sprintf("wx%016x", i)) }

var errOutage = &openapi.Outage{Endpoint: openapi.EndpointAuthorizerInfo, Err: errors.New("connection refused")}
