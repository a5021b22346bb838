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
	// newsEvery is how often a node asks what the others have to tell.
	newsEvery = 15 * time.Second
	// newsFor is how long news stay in storage after a node has seen them.
	newsFor = codeLifetime
)

// news is what this node has heard or told. It counts time from when it heard
// itself, so that the clocks of the nodes may differ.
type news struct {
	mu    sync.Mutex
	heard map[newsItem]time.Time
}

type newsItem struct {
	component string
	vault.News
}

// hear reports whether the item is new here.
func (n *news) hear(item newsItem, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.heard[item]; known {
		return false
	}
	if n.heard == nil {
		n.heard = make(map[newsItem]time.Time)
	}
	n.heard[item] = now
	return true
}

// forget returns the items of a component that have grown old, and forgets them.
func (n *news) forget(component string, now time.Time) (old []newsItem) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for item, at := range n.heard {
		if item.component == component && now.Sub(at) >= newsFor {
			old = append(old, item)
			delete(n.heard, item)
		}
	}
	return old
}

// tell lets the other nodes know that the authorization of who has changed.
// Its record is stored; what cannot be told takes effect there when a token
// is renewed or refused.
func (t *Keeper) tell(ctx context.Context, who subject.Subject, id string) {
	item := newsItem{who.Component(), vault.News{AppID: who.Authorizer(), ID: id}}
	if !t.news.hear(item, time.Now()) {
		return
	}
	if err := t.settings().Vault.Tell(ctx, who.Component(), item.News); err != nil {
		t.settings().Log.Warn("telling other nodes of an authorization failed", zap.String("component", who.Component()),
			zap.String("authorizer", who.Authorizer()), zap.Error(err))
	}
}

// chance is an id for news that no code belongs to.
func chance() string {
	var id [16]byte
	rand.Read(id[:]) // never fails, says its documentation
	return hex.EncodeToString(id[:])
}

// follow asks every few seconds what other nodes have to tell, until ctx ends
// or t is closed.
func (t *Keeper) follow(ctx context.Context) {
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		case <-t.life.Done():
			return
		}
		for component := range t.settings().Components {
			t.listen(ctx, component)
		}
	}
}

// listen takes in what other nodes have told of a component's authorizers:
// what memory holds of them is dropped, the record decides again.
func (t *Keeper) listen(ctx context.Context, component string) {
	v := t.settings().Vault
	told, err := v.News(ctx, component)
	if err != nil {
		return // the storage says so elsewhere, and this is tried again in seconds
	}
	now := time.Now()
	for _, n := range told {
		if who := subject.Of(component, n.AppID); t.news.hear(newsItem{component, n}, now) {
			t.codes.announce(n.ID, n.AppID)
			t.memory.Drop(who)
			t.troubles.heal(who)
		}
	}
	for _, item := range t.news.forget(component, now) {
		_ = v.ForgetNews(ctx, component, item.News) // else another node's turn, or heard anew
	}
}
