// SPDX-License-Identifier: Apache-2.0

package gwtoken

import "strings"

// IssueCode makes a gateway code: what a client gets in the place of an
// authorization_code, which the gateway has exchanged itself. It names the client for
// which it was made, the account and an expiry, and has the form and the signature of a
// gateway token, but another prefix:
//
//	gwc1.<key id>.<client>.<component_appid>~<authorizer_appid>.<expiry>.<random>.<mac>
//
// So neither is taken for the other. It is at most 179 characters long. The endpoint
// api_query_auth takes it, as often as it comes; nothing else does.
func (k *Key) IssueCode(c Claims) string { return k.issue(codePrefix, c, newRandom(6)) }

// LooksLikeCode reports whether text claims to be a gateway code, good or bad.
func LooksLikeCode(text string) bool { return strings.HasPrefix(text, codePrefix) }

// ParseCode is Parse for a code. One that names no account is none.
func ParseCode(text string) (u Unverified, ok bool) {
	u, ok = parse(text, codePrefix)
	if u.authorizer == "" {
		return Unverified{}, false
	}
	return u, ok
}

// NewTicket makes a gateway ticket: what a client gets in the place of a
// component_verify_ticket, because the SDKs of platforms call nothing before they have
// one. It is gwk1. and random characters. It opens nothing, so it is not signed.
func NewTicket() string { return ticketPrefix + newRandom(24) }
