// SPDX-License-Identifier: Apache-2.0

package logging

import "bytes"

// minSecretPart is how many characters without a dot a text must have for
// [BlankTokens]: gateway tickets have 32, the signatures of gateway tokens and
// gateway codes 43. The names of hosts, such as gw1.example.com, have fewer.
const minSecretPart = 32

// BlankTokens overwrites the gateway tokens, gateway codes and gateway tickets in a
// line of a log with asterisks, but for their prefix. The line keeps its length,
// and nothing but letters, digits and -._~% is overwritten, so what was JSON stays
// JSON. It allocates nothing.
func BlankTokens(line []byte) {
	for {
		begin := bytes.Index(line, []byte("gw"))
		if begin < 0 {
			return
		}
		line = line[begin:]
		prefix := tokenPrefix(line)
		if prefix == 0 {
			line = line[len("gw"):]
			continue
		}
		end, part, longest := prefix, 0, 0
		for ; end < len(line) && inToken(line[end]); end++ {
			if part++; line[end] == '.' {
				part = 0
			}
			longest = max(longest, part)
		}
		if longest >= minSecretPart {
			for i := prefix; i < end; i++ {
				line[i] = '*'
			}
		}
		line = line[end:]
	}
}

// tokenPrefix returns the length of the prefix of a gateway token (gw1.), a gateway
// code (gwc1.) or a gateway ticket (gwk1.) with which text begins, 0 if there is
// none. The dot may be encoded as in a URL.
func tokenPrefix[Text string | []byte](text Text) int {
	at := len("gw")
	if len(text) > at && (text[at] == 'c' || text[at] == 'k') {
		at++
	}
	switch {
	case len(text) <= at+1 || text[0] != 'g' || text[1] != 'w' || text[at] != '1':
		return 0
	case text[at+1] == '.':
		return at + 2
	case len(text) > at+3 && text[at+1] == '%' && text[at+2] == '2' && (text[at+3] == 'e' || text[at+3] == 'E'):
		return at + 4
	}
	return 0
}

// inToken reports whether a character can be in a token, also if that is encoded as
// in a URL.
func inToken(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '-' || c == '.' || c == '_' || c == '~' || c == '%'
}
