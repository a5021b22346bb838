// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// Kind says what a Refusal asks of the one who meets it.
type Kind uint8

const (
	// Other is an errcode without a rule of its own. Asking again at once
	// would be refused again.
	Other Kind = iota
	// TokenDead: the access token that was sent is no longer valid. Renew it
	// once, unless a newer one is known already.
	TokenDead
	// Withdrawn: the account has not authorised the component, or no longer.
	Withdrawn
	// RefreshDead: the refresh token is invalid; api_get_authorizer_info may
	// know a better one, else the admin must authorise again.
	RefreshDead
	// TicketBad: the component_verify_ticket is expired or invalid. Call
	// api_start_push_ticket and wait for a push.
	TicketBad
	// CodeSpent: the authorisation code is used up, expired or wrong.
	CodeSpent
	// Misconfigured: an operator must change something, see Remedy. Trying
	// again does not help until then.
	Misconfigured
	// Quota: the quota of the day is spent.
	Quota
	// Busy: WeChat asks for patience; try again later.
	Busy
)

// rule is how the gateway reads one errcode.
type rule struct {
	kind   Kind
	remedy string
}

const routingFault = "report this as a fault of the gateway: it sent the wrong kind of token"

// rules holds the errcodes that the component API is known to answer. Those that
// reject a token and those above 89500 are in rule().
var rules = map[int]rule{
	-1:    {Busy, ""},
	45011: {Busy, ""},
	45009: {Quota, "the daily quota of this call is spent: wait until midnight (Beijing time), or clear it in the WeChat Open Platform console"},

	61003: {Withdrawn, "let an admin of the account authorise the platform again"},
	61023: {RefreshDead, "let an admin of the account authorise the platform again"},
	42007: {RefreshDead, "let an admin of the account authorise the platform again"},
	61005: {TicketBad, "check that WeChat's pushes reach the authorisation event URL"},
	61006: {TicketBad, "check that WeChat's pushes reach the authorisation event URL"},
	61009: {CodeSpent, "let an admin of the account authorise the platform again"},
	61010: {CodeSpent, "let an admin of the account authorise the platform again"},

	40013: {Misconfigured, "check the appid: WeChat does not know it"},
	40125: {Misconfigured, "check app_secret: WeChat says that it is not the component's"},
	40164: {Misconfigured, "add the gateway's IP address to the IP white list of the platform"},
	41001: {Misconfigured, routingFault},
	41002: {Misconfigured, "check the component's appid: WeChat received none"},
	41004: {Misconfigured, "check app_secret: WeChat received none"},
	41018: {Misconfigured, "check the component's appid: WeChat received none"},
	41021: {Misconfigured, routingFault},
	45035: {Misconfigured, "add the gateway's IP address to the IP white list of the platform"},
	61004: {Misconfigured, "add the gateway's IP address to the IP white list of the platform"},
	61011: {Misconfigured, "check the component's appid: it is not that of a third-party platform"},
	61014: {Misconfigured, routingFault},
	61015: {Misconfigured, routingFault},
	61024: {Misconfigured, routingFault},
	61028: {Misconfigured, "publish the platform in the WeChat Open Platform console (全网发布), or put the account on its test account list"},
	61029: {Misconfigured, "publish the platform again in the WeChat Open Platform console (全网发布)"},
}

// rule looks the errcode up. Two readings depend on the call: where no token
// was sent, 40001 means the app secret, and 89501 to 89507 are one matter.
func (r *Refusal) rule() rule {
	code := r.Code
	tokenless := r.Endpoint == EndpointComponentToken || r.Endpoint == EndpointStartPushTicket
	switch {
	case tokenless && code == 40001:
		code = 40125
	case code >= 89501 && code <= 89507:
		return rule{Misconfigured, "let an admin confirm the gateway's IP address in the message WeChat has sent, or put it on the IP white list"}
	}
	if RejectsToken(code) {
		return rule{TokenDead, ""}
	}
	return rules[code]
}

// RejectsToken reports whether an errcode, of any call at WeChat, says that the
// access token which came with the call is not valid, or no longer.
func RejectsToken(errcode int) bool {
	switch errcode {
	case 40001, 40014, 42001, 42006:
		return true
	}
	return false
}

// Kind classifies the refusal.
func (r *Refusal) Kind() Kind { return r.rule().kind }

// KindOf classifies an error of a call; one that is no refusal has the zero Kind.
func KindOf(err error) Kind {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.Kind()
	}
	return Other
}

// SaysForeign reports whether WeChat has refused api_get_authorizer_info because the
// account is none of the component's: it has not authorised it, or there is no such
// account. That the component's token was refused before says nothing of the account.
func SaysForeign(err error) bool {
	var refusal *Refusal
	return errors.As(err, &refusal) && refusal.Endpoint == EndpointAuthorizerInfo && (refusal.Kind() == Withdrawn || refusal.Code == 40013)
}

// Remedy tells an operator in one sentence what to do, "" where there is
// nothing that an operator could do. It is fit for a log: for 61004 and 40164
// it names the address to put on the white list.
func (r *Refusal) Remedy() string {
	if r.IP.IsValid() {
		return fmt.Sprintf("add %s to the IP white list of the platform in the WeChat Open Platform console", r.IP)
	}
	return r.rule().remedy
}

// RemedyField is the log field with the Remedy of an error, if it is a refusal that has
// one.
func RemedyField(err error) zap.Field {
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Remedy() != "" {
		return zap.String("remedy", refusal.Remedy())
	}
	return zap.Skip()
}
