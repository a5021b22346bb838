// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
)

func TestClean(t *testing.T) {
	longest := "/" + strings.Repeat("a", 511)
	tests := []struct {
		name string
		path string
		ok   bool
	}{
		{"a path of WeChat", "/cgi-bin/message/custom/send", true},
		{"capitals and digits", "/wxa/getWxaCode2", true},
		{"a dot inside a name", "/MP_verify.txt", true},
		{"512 bytes", longest, true},
		{"513 bytes", longest + "a", false},
		{"empty", "", false},
		{"the root, which is no call", "/", false},
		{"no slash in front", "cgi-bin/token", false},
		{"a scheme and host", "http://evil.example/cgi-bin/token", false},
		{"two slashes in front, a host to some", "//evil.example/cgi-bin/token", false},
		{"two slashes inside", "/cgi-bin//token", false},
		{"a trailing slash", "/cgi-bin/token/", false},
		{"a parent segment", "/wxa/../cgi-bin/token", false},
		{"a parent segment at the end", "/cgi-bin/token/..", false},
		{"a parent segment, escaped", "/wxa/%2e%2e/cgi-bin/token", false},
		{"a parent segment, half escaped", "/wxa/.%2E/cgi-bin/token", false},
		{"an own segment", "/cgi-bin/./token", false},
		{"three dots", "/cgi-bin/.../token", false},
		{"a trailing dot, cut off by some", "/cgi-bin/token.", false},
		{"a dot before a slash", "/cgi-bin./token", false},
		{"a hidden name", "/.git", false},
		{"two dots inside a name", "/cgi-bin/to..ken", false},
		{"an escaped letter", "/cgi-bin/%74oken", false},
		{"an escaped slash", "/cgi-bin%2ftoken", false},
		{"an escape escaped", "/cgi-bin/%2574oken", false},
		{"a broken escape", "/cgi-bin/%zz", false},
		{"a path parameter", "/cgi-bin/token;x", false},
		{"a session id in a segment", "/cgi-bin;jsessionid=1/token", false},
		{"a backslash", `/cgi-bin\token`, false},
		{"a space", "/cgi-bin/token ", false},
		{"a plus sign", "/cgi-bin/token+", false},
		{"a tab", "/cgi-bin/token\t", false},
		{"a line break", "/cgi-bin/token\r\nHost: x", false},
		{"a zero byte", "/cgi-bin/token\x00", false},
		{"a delete character", "/cgi-bin/token\x7f", false},
		{"a query", "/cgi-bin/token?x", false},
		{"a fragment", "/cgi-bin/token#x", false},
		{"an asterisk", "/cgi-bin/*", false},
		{"a full-width letter", "/cgi-bin/\uff54oken", false},
		{"a Kelvin sign, k when lowered", "/cgi-bin/to\u212aen", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := ""
			if tt.ok {
				want = tt.path
			}
			if got, ok := policy.Clean(tt.path); got != want || ok != tt.ok {
				t.Errorf("Clean(%q) = %q, %v, want %q, %v", tt.path, got, ok, want, tt.ok)
			}
		})
	}
}

func TestCleanQuery(t *testing.T) {
	for _, clean := range []string{"", "a=1&b=%20", "q=你好,{}|^`'\"", "%zz=%&&=&a;b=1"} {
		if !policy.CleanQuery(clean) {
			t.Errorf("%q is refused", clean)
		}
	}
	for c := range 256 {
		want := c > ' ' && c != 0x7f
		for _, query := range []string{string([]byte{byte(c)}), "a=" + string([]byte{byte(c)}) + "&b=1", "a=1" + string([]byte{byte(c)})} {
			if got := policy.CleanQuery(query); got != want {
				t.Errorf("CleanQuery(%q) = %t", query, got)
			}
		}
	}
}

// What Clean accepts, every server reads alike; and what is left of the tricks,
// case, does not change a route.
func FuzzClean(f *testing.F) {
	for _, row := range paths {
		f.Add(row.path)
		f.Add(row.path + "/")
		f.Add(strings.ToUpper(row.path))
	}
	for _, s := range []string{"", "/", "/a/../b", "/%2e%2e/a", "/a;b", "/a//b", "/a.b", "/a./b", `/a\b`, "/\u212a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := policy.Clean(s)
		if !ok {
			if p != "" {
				t.Fatalf("Clean(%q) refuses, and yet returns %q", s, p)
			}
			return
		}
		if p != s {
			t.Errorf("Clean(%q) = %q, not the same", s, p)
		}
		if got := path.Clean(p); got != p {
			t.Errorf("path.Clean(%q) = %q", p, got)
		}
		if got, err := url.PathUnescape(p); got != p || err != nil {
			t.Errorf("PathUnescape(%q) = %q, %v", p, got, err)
		}
		if u, err := url.Parse(p); err != nil || u.Path != p || u.EscapedPath() != p || u.Host != "" {
			t.Errorf("Parse(%q) = %v, %v", p, u, err)
		}
		if _, ok := policy.Clean(p + "/"); ok {
			t.Errorf("%q is accepted with a trailing slash", p)
		}
		route := policy.Lookup(p)
		if up, low := policy.Lookup(strings.ToUpper(p)), policy.Lookup(strings.ToLower(p)); up != route || low != route {
			t.Errorf("%q is %+v, raised %+v, lowered %+v", p, route, up, low)
		}
	})
}
