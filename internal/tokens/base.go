// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Settings is what a Keeper takes from one configuration. It is read only.
type Settings struct {
	Components map[string]secret.Secret // component_appid → current app secret
	API        *openapi.Client
	Vault      *vault.Vault
	Log        *zap.Logger

	// Emit tells other modules of an event, one of those in events.go. It may
	// block, and is called where nobody waits for it.
	Emit func(event string, data map[string]any)

	// News queues news for the applications that may act for the account; nil if none
	// take any. It waits for storage, no longer than ctx, and is called where nobody
	// waits for it. If it fails it is called again.
	News func(ctx context.Context, n News) error

	// Profiles is told what the engine learns of accounts; nil if nobody wants to know.
	Profiles Profiles

	// Heard is told of an account whose authorization another node has changed; nil if
	// nobody wants to know. It must return at once.
	Heard func(who subject.Subject)
}

// Profiles is told what the engine learns of accounts, for what it does not keep itself.
// Its methods may be called from any goroutine, and return at once but for Save.
type Profiles interface {
	// Used is told of an account whose token was brought into memory: not at each call.
	Used(who subject.Subject)
	// Granted is told that the account has granted permission sets, perhaps others than
	// before. WeChat knows them from the time at on.
	Granted(who subject.Subject, at time.Time)
	// Learned is told what WeChat has answered of the account, asked at that time.
	Learned(who subject.Subject, info openapi.AuthorizerInfo, asked time.Time)
	// Save stores what WeChat has answered of the account, asked at that time. It waits
	// for the storage, no longer than ctx.
	Save(ctx context.Context, who subject.Subject, info openapi.AuthorizerInfo, asked time.Time) error
	// Forget is told that nothing is stored of the account any more.
	Forget(who subject.Subject)
}

// base is what all layers of the engine stand on. Each layer embeds the one below
// it; what it needs from above is handed to it as a function.
type base struct {
	*lifetime
	settings func() *Settings // of the configuration in force
	memory   Memory
	health   *health
	doubts   *doubts
	codes    *codes
	held     *heldTickets
}

// log returns the logger for what concerns who.
func (b *base) log(who subject.Subject) *zap.Logger {
	log := b.settings().Log.With(zap.String("component", who.Component()))
	if who.IsComponent() {
		return log
	}
	return log.With(zap.String("authorizer", who.Authorizer()))
}
