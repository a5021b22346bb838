// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// deliveries returns what the courier takes from this configuration, without the
// vault, see settings.keepIn. It logs a warning for each target to which messages
// are sent unencrypted, and for each account that a target can never get.
func (a *App) deliveries() delivery.Settings {
	settings := delivery.Settings{Log: a.sparing, Targets: make(map[vault.Queue]*delivery.Target)}
	for _, c := range a.applications.receivers {
		for _, target := range c.Targets {
			settings.Targets[target.Queue()] = target
			if to := target.URL; to.Scheme == "http" && !check.IsPrivate(to.Hostname()) {
				a.log.Warn("messages travel unencrypted", zap.String("client", c.Client), zap.String("target", target.Name), zap.String("host", to.Host))
			}
			for _, appid := range target.Match.AppIDs {
				if !c.Rights.Authorizer(appid) && appid != c.Component {
					a.log.Warn("match names an account for which the client may not act, the target gets nothing of it", zap.String("client", c.Client),
						zap.String("target", target.Name), zap.String("appid", appid), zap.String("remedy", "add it to the client's authorizers"))
				}
			}
		}
	}
	return settings
}

// news returns a function that queues what the gateway itself has to tell of an
// account for the clients that may act for it. It is nil if no client takes
// deliveries, see tokens.Settings.
func (a *App) news() func(context.Context, tokens.News) error {
	recipients := delivery.Recipients(a.applications.receivers)
	if recipients == nil {
		return nil
	}
	return func(ctx context.Context, n tokens.News) error {
		item := delivery.News(n).Item()
		targets := delivery.Wanting(item, recipients(n.Component, n.AppID))
		return a.state.courier.Enqueue(ctx, item, targets, item.Arrived)
	}
}
