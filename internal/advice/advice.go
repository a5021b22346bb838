// SPDX-License-Identifier: Apache-2.0

// Package advice says in words what WeChat's refusals mean that callers cannot mend:
// which white list lacks an address, whose quota is spent, which permission set is
// missing. It says what is certain and, where something is not, that it is not. It
// never sees WeChat's own text.
package advice

import (
	"net/netip"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/permission"
)

// Case is a call that WeChat has refused.
type Case struct {
	Errcode   int
	Component string          // component_appid
	AppID     string          // of the account whose token went along; "" if it was the component's, or none
	Endpoint  string          // of the gateway's own call, such as api_component_token; "" for a relayed one
	Path      string          // of a relayed call
	IP        netip.Addr      // our address as WeChat has seen it, if its answer has one
	Sets      permission.Bits // what the account has granted
	SetsKnown bool            // Sets is known
	Now       time.Time       // times in texts are in its zone
}

// Advice is what can be said about a refusal.
type Advice struct {
	Text   string // what is wrong, for the log and the account's view
	Remedy string // what the operator can do
	Hint   string // both for the caller, in a header: printable ASCII, at most 200 bytes
	cause  string // equal for refusals that have the same cause
}

// Knows reports whether Of can say anything about an errcode. It is for callers that
// would have to look up the rest of a Case.
func Knows(errcode int) bool {
	switch errcode {
	case 40164, 45009, 48001, 61004, 61007:
		return true
	}
	return false
}

// Of returns what can be said about a refusal; false if Knows does not know it.
func Of(c Case) (Advice, bool) {
	return Advice{}, false
}
