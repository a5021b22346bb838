// SPDX-License-Identifier: Apache-2.0

package tokens

import "time"

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

// The InfoTypes of what the gateway itself has to tell applications.
const (
	// InfoNeedsAuthorization: an account's refresh token is lost, an admin of it must
	// authorise again.
	InfoNeedsAuthorization = "gateway_needs_authorization"
	// InfoRecovered: an account works again that needed authorization, or for which
	// calls were refused because its token could not be renewed.
	InfoRecovered = "gateway_recovered"
	// InfoAccountFound: an account has authorized the component although no event has
	// told of it. It was met by a list or an info of WeChat's.
	InfoAccountFound = "gateway_account_found"
	// InfoPermissionsChanged: an account has granted other permission sets than before.
	InfoPermissionsChanged = "gateway_permissions_changed"
)

// News is what the gateway itself has to tell of an account. It holds no credential.
type News struct {
	Component, AppID string
	InfoType         string
	// Occurrence is different for each time that this happens to the account, and the
	// same on all nodes.
	Occurrence string
	Time       time.Time
	// Reason says what has happened, Remedy what to do, "" for nothing.
	Reason, Remedy string
}
