// SPDX-License-Identifier: Apache-2.0

// Package advice says in words what those refusals of WeChat mean that no program can
// mend: which white list lacks an address, whose quota is spent, which permission set is
// missing. It says a thing as certain only if it is. It never sees WeChat's own text.
package advice

import (
	"net/netip"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/permission"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Case is a call that WeChat has refused: one with the token of an account or of the
// component, or one of the gateway's own. With the token of a user, the errcodes mean
// other things.
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
	Remedy string // what can be done about it
	Hint   string // what is wrong, for the caller's header: printable ASCII, at most 200 bytes
	// Owner is whose list, quota or permission it is: the account, or the component, which
	// may concern all its accounts.
	Owner subject.Subject
	cause string // equal for refusals that have the same cause
}

// maxHint is the length of a hint in bytes.
const maxHint = 200

// Knows reports whether Of can say anything about an errcode. It is for those that
// would have to look up the rest of a Case.
func Knows(errcode int) bool {
	switch errcode {
	case 40164, 45009, 48001, 61004, 61007:
		return true
	}
	return false
}

// Of returns what can be said about a refusal; false if Knows does not know the
// errcode.
func Of(c Case) (x Advice, ok bool) {
	owner := subject.Of(c.Component, c.AppID)
	switch {
	case c.Errcode == 61004, c.Errcode == 40164 && c.AppID == "":
		x, owner = platformList(c), subject.Of(c.Component, "")
	case c.Errcode == 40164:
		x = accountList(c)
	case c.Errcode == 45009:
		x = quota(c)
	case c.Errcode == 48001, c.Errcode == 61007:
		x = permissions(c)
	default:
		return Advice{}, false
	}
	x.Hint, x.Owner = x.Hint[:min(len(x.Hint), maxHint)], owner
	return x, true
}

// owner is whose list, quota or permission it is: the account's, else the component's.
func (c Case) owner() string { return string(subject.Of(c.Component, c.AppID)) }
