// SPDX-License-Identifier: Apache-2.0

package policy

// maxPath is the length in bytes of the longest path accepted; WeChat's
// longest known is under 100.
const maxPath = 512

// Clean returns an escaped request path (url.URL.EscapedPath) unchanged if
// every server on the way reads it the same, and false otherwise.
//
// It accepts only what WeChat's paths are made of: segments of letters,
// digits, "_", "-" and single dots between them, each after one slash. What is
// refused could be read as another path by WeChat than by the rules here:
// "%2e%2e" and ".." climb, "//" and a trailing slash are folded, ";x" and a
// trailing dot are cut off, a backslash is a slash to some. Nothing is
// repaired, because repair would be one more reading.
func Clean(escapedPath string) (path string, ok bool) {
	if escapedPath == "" || escapedPath[0] != '/' || len(escapedPath) > maxPath {
		return "", false
	}
	last := byte(0)
	for _, c := range []byte(escapedPath) {
		switch {
		case c == '/' || c == '.':
			if last == '/' || last == '.' {
				return "", false
			}
		case !plain(c):
			return "", false
		}
		last = c
	}
	if last == '/' || last == '.' {
		return "", false
	}
	return escapedPath, true
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// CleanQuery reports whether a raw query stands in a request line as one word: it
// has no blank and no control character. A server that divides the line at blanks
// would read the rest of it as the protocol, or as the beginning of a header.
// Other bytes that should be escaped, such as those of Chinese characters, stay:
// WeChat takes them.
func CleanQuery(raw string) bool {
	for _, c := range []byte(raw) {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}
