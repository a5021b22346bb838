// SPDX-License-Identifier: Apache-2.0

package wechat

// SharedReferences returns how many Apps hold the shared state of the process.
func SharedReferences() int {
	count, _ := pool.References(poolKey)
	return count
}

// InForce reports whether the shared state takes its settings from a.
func InForce(a *App) bool { return a.state.settings.Load() == a.settings }
