// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

const (
	// noticeInterval is how often a node reads the notices of the others.
	noticeInterval = 15 * time.Second
	// noticeLifetime is how long a notice stays in storage after a node has seen it.
	noticeLifetime = codeLifetime
)

// notices tells the other nodes of a cluster that an authorization has changed,
// and reads what they have published. Without a notice another node would serve
// the tokens of an account that has withdrawn from its memory until they expire,
// and would not know whose a code is that comes to it by the browser. Time counts
// from when this node has seen a notice, so the clocks of the nodes may differ.
type notices struct {
	*base
	mu   sync.Mutex
	seen map[notice]time.Time // here first, or published here
}

type notice struct {
	component string
	vault.Notice
}

// publish lets the other nodes know that the authorization of who has changed. The
// caller has saved its record, or tried to. If that fails within ctx, it is tried once
// more behind. Where no notice arrives, the change takes effect when a token is renewed
// or rejected.
func (n *notices) publish(ctx context.Context, who subject.Subject, id string) {
	what := notice{who.Component(), vault.Notice{AppID: who.Authorizer(), ID: id}}
	if !n.see(what, time.Now()) {
		return
	}
	v := n.settings().Vault
	if v.PublishNotice(ctx, what.component, what.Notice) == nil {
		return
	}
	// A slow storage may have taken the time in which a push must be answered.
	n.background(func() {
		limited, cancel := context.WithTimeout(n.ctx, renewTimeout)
		defer cancel()
		if err := v.PublishNotice(limited, what.component, what.Notice); err != nil {
			n.log(who).Warn("telling other nodes of an authorization failed", zap.Error(err))
		}
	})
}

// newID is an id for a notice that no code belongs to.
func newID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails, says its documentation
	return hex.EncodeToString(id[:])
}

// follow polls every few seconds, until ctx or the lifetime ends.
func (n *notices) follow(ctx context.Context) {
	tick := time.NewTicker(noticeInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-n.ctx.Done():
			return
		}
		for component := range n.settings().Components {
			n.poll(ctx, component)
		}
	}
}

// poll reads what other nodes have published about a component's authorizers.
// Their tokens are dropped from memory and their cool-downs end, so that the next
// call reads the record.
func (n *notices) poll(ctx context.Context, component string) {
	v := n.settings().Vault
	published, err := v.Notices(ctx, component)
	if err != nil {
		return // the storage says so elsewhere, and this is tried again in seconds
	}
	now := time.Now()
	for _, read := range published {
		if n.see(notice{component, read}, now) {
			who := subject.Of(component, read.AppID)
			n.codes.Announce(read.ID, read.AppID)
			n.drop(who)
			n.health.Reset(healthKey{who, renewal})
			if heard := n.settings().Heard; heard != nil {
				heard(who)
			}
		}
	}
	for _, old := range n.expired(component, now) {
		_ = v.DeleteNotice(ctx, component, old.Notice) // else another node does, or it is seen anew
	}
}

// see reports whether a notice is new here.
func (n *notices) see(what notice, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.seen[what]; known {
		return false
	}
	if n.seen == nil {
		n.seen = make(map[notice]time.Time)
	}
	n.seen[what] = now
	return true
}

// expired returns the notices of a component that have grown old, and forgets
// them.
func (n *notices) expired(component string, now time.Time) (old []notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for what, at := range n.seen {
		if what.component == component && now.Sub(at) >= noticeLifetime {
			old = append(old, what)
			delete(n.seen, what)
		}
	}
	return old
}
