// SPDX-License-Identifier: Apache-2.0

// Package gwtoken makes and checks gateway tokens: what a client gets in place
// of a real access token. A gateway token holds no real token and is stored
// nowhere. It says whose it is and until when, and is signed, so that every
// node can check it and it dies with the secret it was made for. A gateway code
// stands in the place of an authorization_code, see [Key.IssueCode], and a gateway
// ticket in that of a component_verify_ticket, see [NewTicket].
//
// The text has seven parts, joined by dots:
//
//	gw1.<key id>.<client>.<component_appid>[~<authorizer_appid>].<expiry>.<random>.<mac>
//
// where expiry is Unix seconds in lower-case hexadecimal, random is 6 bytes and
// mac the HMAC-SHA256 of all before its dot; bytes are in unpadded base64url.
// All of it is unreserved in URLs (RFC 3986 §2.3), so a token looks the same in
// a query, a header and JSON. It has at most 178 characters, well below the 512
// that WeChat tells its callers to reserve (api_getstableaccesstoken).
package gwtoken

import (
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	tokenPrefix  = "gw1."
	codePrefix   = "gwc1." // of a code
	ticketPrefix = "gwk1." // of a ticket

	maxLength = 256 // bounds the work on a text that is no token
	maxClient = 64
	maxExpiry = 9  // hexadecimal digits, until the year 4147
	macLength = 43 // characters
)

// encoding is strict: a spare bit set in the last character would make a
// second text for one token.
var encoding = base64.RawURLEncoding.Strict()

// Claims is what a gateway token or a gateway code says.
type Claims struct {
	Client  string          // the client's id, see ValidClient
	Subject subject.Subject // whose real token stands behind it
	Expires time.Time       // whole seconds
}

// Unverified is a text in the form of a gateway token or a gateway code. Anyone can
// write one, so it gives away nothing but the key to check it with; Key.Verify has the
// rest. The signature covers which of the two it is.
type Unverified struct {
	keyID, client, component, authorizer string
	expires                              int64
	signed, mac                          string // the text before and after the last dot
}

// KeyID returns the ID of the Key that alone may have made the token.
func (u Unverified) KeyID() string { return u.keyID }

// Looks reports whether text claims to be a gateway token, a gateway code or a gateway
// ticket, good or bad: such a text must never reach WeChat.
func Looks(text string) bool {
	return strings.HasPrefix(text, tokenPrefix) || strings.HasPrefix(text, codePrefix) || strings.HasPrefix(text, ticketPrefix)
}

// Within reports whether text has in it what Looks reports true for.
func Within(text string) bool {
	for {
		at := strings.Index(text, "gw") // as all three begin
		if at < 0 {
			return false
		}
		if text = text[at:]; Looks(text) {
			return true
		}
		text = text[2:]
	}
}

// ValidClient reports whether id has the form of a client id:
// ^[a-z0-9][a-z0-9-]{0,63}$. No other can stand in a token.
func ValidClient(id string) bool {
	if id == "" || len(id) > maxClient || id[0] == '-' {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != '-' {
			return false
		}
	}
	return true
}

// Parse takes a token apart and checks its form, not its MAC. It allocates nothing.
func Parse(text string) (u Unverified, ok bool) { return parse(text, tokenPrefix) }

// parse is Parse for texts with this prefix.
func parse(text, prefix string) (u Unverified, ok bool) {
	if len(text) > maxLength || !strings.HasPrefix(text, prefix) {
		return Unverified{}, false
	}
	dot := strings.LastIndexByte(text, '.')
	u.signed, u.mac = text[:dot], text[dot+1:]

	rest := text[len(prefix):]
	next := func() (part string) {
		part, rest, _ = strings.Cut(rest, ".")
		return part
	}
	u.keyID = next()
	u.client = next()
	component, authorizer, under := strings.Cut(next(), "~")
	u.component, u.authorizer = component, authorizer
	u.expires, ok = parseExpiry(next())
	_ = next() // the random part

	ok = ok && rest == u.mac && len(u.mac) == macLength && // else too many parts, or too few
		ValidClient(u.client) && subject.ValidAppID(component) && (!under || subject.ValidAppID(authorizer))
	if !ok {
		return Unverified{}, false
	}
	return u, true
}

// parseExpiry reads what strconv.FormatInt(seconds, 16) writes, and nothing
// else. ParseInt also takes signs, leading zeros and capitals.
func parseExpiry(text string) (seconds int64, ok bool) {
	if text == "" || len(text) > maxExpiry || text[0] == '0' {
		return 0, false
	}
	for i := range len(text) {
		digit := strings.IndexByte("0123456789abcdef", text[i])
		if digit < 0 {
			return 0, false
		}
		seconds = seconds<<4 | int64(digit)
	}
	return seconds, true
}

// Issue makes a token for c. Two tokens for the same claims differ. Claims that
// Parse would not take (no valid client, a bad appid, an expiry before 1970)
// make a text that nobody accepts.
func (k *Key) Issue(c Claims) string { return k.issue(tokenPrefix, c, newRandom(6)) }

// newRandom returns some random bytes as text.
func newRandom(size int) string {
	random := make([]byte, size)
	rand.Read(random) // never fails, says its documentation
	return encoding.EncodeToString(random)
}

func (k *Key) issue(prefix string, c Claims, random string) string {
	signed := prefix + strings.Join([]string{
		k.id,
		c.Client,
		strings.Replace(string(c.Subject), "/", "~", 1),
		strconv.FormatInt(c.Expires.Unix(), 16),
		random,
	}, ".")
	return k.sign(signed)
}
