// SPDX-License-Identifier: Apache-2.0

package tokens

// The events that other modules can subscribe to, by Caddy's events app. Each
// carries component, and where there is one authorizer; none carries a secret.
const (
	// eventTicket: a component_verify_ticket was pushed and stored.
	eventTicket = "wechat_ticket_received"
	// eventAuthorized: an account has authorised the platform or changed what it grants.
	eventAuthorized = "wechat_authorized"
	// eventUnauthorized: an account has withdrawn.
	eventUnauthorized = "wechat_unauthorized"
	// eventRenewalFailed: a token could not be renewed, or a code not be exchanged;
	// once for each kind of failure, with its slug as reason.
	eventRenewalFailed = "wechat_renewal_failed"
)
