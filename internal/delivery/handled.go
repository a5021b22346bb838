// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/backoff"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// sweepInterval is the time between two sweeps of old claims.
const sweepInterval = 10 * time.Minute

// NoteHandled notes that an authorisation event was handled and queued, for other nodes
// and for the time after a restart: WeChat pushes an event again if it has not seen the
// answer. A failure is logged; the event may then be queued twice. It waits for one
// storage operation.
func (ds *Deliveries) NoteHandled(ctx context.Context, component, id string) {
	now := time.Now()
	s := ds.settings()
	err := s.Vault.StoreClaim(ctx, vault.ClaimKey{Component: component, ID: id, Made: now}, vault.Claim{Until: now, Answered: now})
	if err != nil {
		s.Log.Warn("an event may be delivered twice: that it was handled could not be noted", zap.String("component", component), zap.Error(err))
	}
}

// WasHandled reports whether NoteHandled was called for an event, on any node, as long as
// pushes are believed. Nobody knows while the storage fails; then it is false.
func (ds *Deliveries) WasHandled(ctx context.Context, component, id string) bool {
	_, _, err := ds.settings().Vault.FindClaim(ctx, component, id, time.Now())
	return err == nil
}

// Sweep deletes old claims, at once and then every sweepInterval, until ctx ends. The
// nodes that wrote them may have ended. A component without a target has claims, too:
// those of package publishtest, and those of targets that were removed.
func (ds *Deliveries) Sweep(ctx context.Context) {
	for ctx.Err() == nil {
		s := ds.settings()
		for _, component := range s.Components {
			if err := s.Vault.SweepClaims(ctx, component, time.Now()); err != nil && ctx.Err() == nil {
				s.Log.Warn("deleting old notes of messages failed", zap.String("component", component), zap.Error(err))
			}
		}
		backoff.Wait(ctx, sweepInterval)
	}
}
