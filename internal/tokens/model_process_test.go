// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// process is one gateway process, from its start to its end or crash.
type process struct {
	*Keeper
	m        *model
	node     int
	name     string
	settings atomic.Pointer[Settings]
	alive    context.Context // ends with the crash
	kill     context.CancelFunc
	watching context.Context // ends with the watching for tickets
	unwatch  context.CancelFunc
	memory   // what this process was told, under m.mu
}

// start starts a process on a node.
func (m *model) start(node int) {
	p := &process{m: m, node: node, memory: newMemory()}
	p.alive, p.kill = context.WithCancel(context.Background())
	p.watching, p.unwatch = context.WithCancel(p.alive)
	m.mu.Lock()
	m.starts++
	p.name = fmt.Sprintf("n%d.%d", node, m.starts)
	m.mu.Unlock()
	p.settings.Store(m.settings(p))
	p.Keeper = NewKeeper(p.settings.Load, newForgetful(m.seed, p.name))
	m.mu.Lock()
	m.running[node] = p
	m.mu.Unlock()
	if m.watched {
		p.Run(p.watching)
	}
}

// settings are those of a configuration in force now.
func (m *model) settings(p *process) *Settings {
	keys := m.keyring()
	records := vault.New(func() vault.Storage { return modelStorage{p} }, func(string) *vault.Keyring { return keys })
	records.Broken = func(string) { m.lockIsLost() }
	return &Settings{
		Components: map[string]secret.Secret{theComponent: secret.New(sandbox.DefaultAppSecret)},
		API:        &openapi.Client{Transport: modelWire{p}},
		Vault:      records,
		Log:        m.log.With(zap.String("process", p.name)),
		Emit:       func(string, map[string]any) {},
	}
}

// take makes a node down.
func (m *model) take(node int) *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.running[node]
	m.running[node] = nil
	return p
}

// stop ends the process on a node in good order, and reports whether there was
// one.
func (m *model) stop(node int) bool {
	p := m.take(node)
	if p != nil {
		p.Close()
		p.kill()
	}
	return p != nil
}

// crash ends the process on a node at this instant, and reports whether there
// was one. From now on nothing of it reaches WeChat or the storage; its memory
// is gone, its locks stay behind.
func (m *model) crash(node int) bool {
	p := m.take(node)
	if p != nil {
		p.kill()
		m.leaveLocks(p)
		m.acting.Go(p.Close) // only so that its goroutines end
	}
	return p != nil
}

// errCrashed is what a process meets whose node has crashed.
var errCrashed = errors.New("the process has crashed")

// pause lets some time pass on a wire of p: none, or up to slow.
func (p *process) pause(ctx context.Context, at string) error {
	m := p.m
	m.mu.Lock()
	var d time.Duration
	if chance := m.draw(p.name + " " + at); m.slow > 0 && chance%2 == 0 {
		d = time.Duration(chance / 2 % uint64(m.slow))
	}
	m.mu.Unlock()
	return p.wait(ctx, d)
}

func (p *process) wait(ctx context.Context, d time.Duration) error {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.alive.Done():
		}
	}
	if p.alive.Err() != nil {
		return errCrashed
	}
	return nil
}

// at returns the process on a node, or that of the next node that runs, as a
// load balancer does; nil if none does.
func (m *model) at(node int) *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.running {
		if p := m.running[(node+i)%len(m.running)]; p != nil {
			return p
		}
	}
	return nil
}
