// SPDX-License-Identifier: Apache-2.0

package delivery

import "github.com/caddy-wechat/caddy-wechat/internal/policy"

// Receiver is a client that gets deliveries.
type Receiver struct {
	Client    string // its name
	Component string // of its platform
	Rights    policy.Rights
	Targets   []*Target // one or more
}

// Recipients returns a function that returns the targets of a push: those of
// the clients that may act for the authorizer, "*" being every one; or, if authorizer is
// "", of the clients with component_api. What an item is does not count here, see
// [Target.Wants]. The targets are in the order of the receivers, and those of a client in
// that of its configuration. The function is safe for concurrent use. It is nil if there
// are no receivers.
func Recipients(receivers []Receiver) func(component, authorizer string) []*Target {
	if len(receivers) == 0 {
		return nil
	}
	return func(component, authorizer string) (targets []*Target) {
		for _, r := range receivers {
			covered := r.Rights.Authorizer(authorizer) || authorizer == "" && r.Rights.ComponentAPI
			if r.Component == component && covered {
				targets = append(targets, r.Targets...)
			}
		}
		return targets
	}
}
