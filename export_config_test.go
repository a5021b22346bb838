// SPDX-License-Identifier: Apache-2.0

package wechat

import "github.com/caddy-wechat/caddy-wechat/internal/audit"

// SharedReferences returns how many Apps hold the shared state of the process.
func SharedReferences() int {
	count, _ := pool.References(poolKey)
	return count
}

// InForce reports whether the shared state takes its settings from a.
func InForce(a *App) bool { return a.state.settings.Load() == a.settings }

// AuditOf returns what an App writes its audit to.
func AuditOf(app any) *audit.Log { return app.(*App).audits }
