// SPDX-License-Identifier: Apache-2.0

package rewrite_test

import (
	"encoding/hex"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// secret is what drop refuses in these tests; it holds all that a query
// separates by.
const secret = "s3&c=r;t +"

func isSecret(value string) bool { return value == secret }

func TestSplice(t *testing.T) {
	tests := []struct {
		name  string
		query string
		want  string
	}{
		{"no query", "", "access_token=T"},
		{"the gateway token is replaced", "access_token=gw&type=image", "access_token=T&type=image"},
		{"the token comes first", "type=image&access_token=gw", "access_token=T&type=image"},
		{"nothing but the token", "access_token=gw", "access_token=T"},
		{"no token", "type=image", "access_token=T&type=image"},
		{"an empty token", "access_token=&type=image", "access_token=T&type=image"},
		{"a token without =", "access_token&type=image", "access_token=T&type=image"},
		{"a second token", "access_token=gw&a=1&access_token=other", "access_token=T&a=1"},
		{"the component's name for it", "component_access_token=gw&a=1", "access_token=T&a=1"},
		{"both names", "component_access_token=gw&access_token=gw&a=1", "access_token=T&a=1"},

		{"an escaped letter", "%61ccess_token=gw", "access_token=T"},
		{"an escaped underscore", "access%5Ftoken=gw&access%5ftoken=gw", "access_token=T"},
		{"capitals", "ACCESS_TOKEN=gw&Access_Token=gw", "access_token=T"},
		{"capitals escaped", "%41ccess_token=gw", "access_token=T"},
		{"a plus sign around it", "+access_token=gw&access_token+=gw", "access_token=T"},
		{"a plus sign or dot that PHP makes an underscore", "access+token=gw&access.token=gw", "access_token=T"},
		{"an array", "access_token[]=gw&access_token%5B0%5D=gw", "access_token=T"},
		{"a zero byte after it", "access_token%00=gw", "access_token=T"},
		{"a broken escape after it", "access_token%=gw&access_token%5=gw", "access_token=T"},
		{"after a semicolon", "a=1;access_token=gw&b=2", "access_token=T&a=1&b=2"},
		{"before a semicolon", "access_token=gw;a=1&b=2", "access_token=T&a=1&b=2"},
		{"between semicolons", "a=1;access_token=gw;b=2", "access_token=T&a=1;b=2"},
		{"an & stays an &", "a=1&access_token=gw;b=2", "access_token=T&a=1&b=2"},

		{"a name that contains it", "my_access_token=1&access_token_type=2", "access_token=T&my_access_token=1&access_token_type=2"},
		{"a name escaped twice, which is another", "access%255Ftoken=1", "access_token=T&access%255Ftoken=1"},
		{"a value that looks like it", "a=access_token", "access_token=T&a=access_token"},
		{"other bytes stay", "a=%7e%zz+&b=一&&c;d&=", "access_token=T&a=%7e%zz+&b=一&&c;d&="},
		{"empty parameters stay", "&", "access_token=T&&"},
		{"order stays", "b=2&access_token=gw&a=1&b=1", "access_token=T&b=2&a=1&b=1"},

		{"a secret goes, whatever its name", "a=1&key=" + url.QueryEscape(secret), "access_token=T&a=1"},
		{"a secret spelt otherwise", "key=%73%33%26c%3dr%3Bt%20%2B&a=1", "access_token=T&a=1"},
		{"a secret as a bare word", url.QueryEscape(secret) + "&a=1", "access_token=T&a=1"},
		{"a secret after a semicolon", "a=1;key=" + url.QueryEscape(secret), "access_token=T&a=1"},
		{"a secret with a raw semicolon", "key=s3%26c=r;t+%2B&a=1", "access_token=T&a=1"},
		{"a value that contains the secret stays", "key=x" + url.QueryEscape(secret), "access_token=T&key=x" + url.QueryEscape(secret)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rewrite.Splice(tt.query, "access_token", rewrite.TokenOf("T"), isSecret); got != tt.want {
				t.Errorf("Splice(%q) = %q, want %q", tt.query, got, tt.want)
			}
		})
	}
}

func TestSpliceEscapesTheToken(t *testing.T) {
	got := rewrite.Splice("a=1", "component_access_token", rewrite.TokenOf("ticket@@@ &"), nil)
	if want := "component_access_token=ticket%40%40%40+%26&a=1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSpliceWithoutAName(t *testing.T) {
	for query, want := range map[string]string{
		"":                       "",
		"access_token=gw":        "",
		"access_token=gw&a=1":    "a=1",
		"a=1&access_token=gw":    "a=1",
		"&a=1&access_token=gw&b": "&a=1&b",
	} {
		if got := rewrite.Splice(query, "", rewrite.TokenOf(""), nil); got != want {
			t.Errorf("Splice(%q) = %q, want %q", query, got, want)
		}
	}
}

func TestDropIsNotAskedAboutNothing(t *testing.T) {
	const query = "&=&=&"
	everything := func(string) bool { return true }
	if got := rewrite.Without(query, everything); got != query {
		t.Errorf("Without(%q) = %q", query, got)
	}
}

func TestWithout(t *testing.T) {
	tests := []struct {
		name  string
		query string
		names []string
		want  string
	}{
		{"the end user's token stays", "access_token=user&openid=o", nil, "access_token=user&openid=o"},
		{"a secret goes", "access_token=" + url.QueryEscape(secret) + "&openid=o", nil, "openid=o"},
		{"a named parameter goes", "appid=wx&secret=1&js_code=c", []string{"secret"}, "appid=wx&js_code=c"},
		{"however spelt and often", "%53ecret=1&SECRET=2&a=1;secret=3", []string{"secret"}, "a=1"},
		{"several", "appid=wx&secret=1&js_code=c", []string{"secret", "appid"}, "js_code=c"},
		{"a longer name stays", "js_code=c&code=d", []string{"code"}, "js_code=c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rewrite.Without(tt.query, isSecret, tt.names...); got != tt.want {
				t.Errorf("Without(%q) = %q, want %q", tt.query, got, tt.want)
			}
		})
	}
}

func TestSet(t *testing.T) {
	tests := []struct{ name, query, want string }{
		{"into nothing", "", "appid=w%26x"},
		{"in front", "a=1", "appid=w%26x&a=1"},
		{"in place of every other", "appid=1&a=1&%61ppid=2;APPID=3", "appid=w%26x&a=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rewrite.Set(tt.query, "appid", "w&x"); got != tt.want {
				t.Errorf("Set(%q) = %q, want %q", tt.query, got, tt.want)
			}
		})
	}
}

// The three edits a rewritten login takes.
func TestLoginRewrite(t *testing.T) {
	query := "appid=wx1&secret=gw&js_code=c&grant_type=authorization_code"
	query = rewrite.Without(query, isSecret, "secret")
	query = rewrite.Set(query, "component_appid", "wx2")
	query = rewrite.Splice(query, "component_access_token", rewrite.TokenOf("T"), isSecret)
	want := "component_access_token=T&component_appid=wx2&appid=wx1&js_code=c&grant_type=authorization_code"
	if query != want {
		t.Errorf("got %q, want %q", query, want)
	}
}

func TestFirst(t *testing.T) {
	tests := []struct{ name, query, want string }{
		{"no query", "", ""},
		{"not there", "a=1", ""},
		{"there", "a=1&access_token=gw&b=2", "gw"},
		{"the other name", "component_access_token=gw", "gw"},
		{"the first of two, by place", "component_access_token=1&access_token=2", "1"},
		{"the first that is not empty", "access_token=&component_access_token&access_token=gw", "gw"},
		{"decoded", "access_token=g%77+%26", "gw &"},
		{"a broken escape stays", "access_token=g%77%zz", "g%77%zz"},
		{"spelt otherwise", "ACCESS%5Ftoken=gw", "gw"},
		{"after a semicolon", "a=1;access_token=gw;b=2", "gw"},
		{"a longer name is another", "my_access_token=gw", ""},
		{"= in the value", "access_token=gw==", "gw=="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rewrite.First(tt.query, "access_token", "component_access_token"); got != tt.want {
				t.Errorf("First(%q) = %q, want %q", tt.query, got, tt.want)
			}
		})
	}
}

func TestQueryAllocations(t *testing.T) {
	token := rewrite.TokenOf(realToken)
	if n := testing.AllocsPerRun(100, func() { rewrite.Splice(typicalQuery, "access_token", token, isSecret) }); n > 1 {
		t.Errorf("Splice: %v allocations, want 1", n)
	}
	if n := testing.AllocsPerRun(100, func() { rewrite.First(typicalQuery, "access_token", "component_access_token") }); n > 0 {
		t.Errorf("First: %v allocations, want none", n)
	}
}

// Whatever a client writes, the query sent holds one token, ours, under
// either reading of ";", no secret, and all else in its order.
func FuzzSplice(f *testing.F) {
	for _, query := range []string{
		"access_token=gw&type=image", "a=1;access%5Ftoken=x&b", "COMPONENT_ACCESS_TOKEN=x;;&&", "access_token[]=1&a=%zz+",
		"key=s3cr3t&s3cr3t;x=s3cr3t", "s3cr3t=1&t;=s3cr3t", "=&;=", "%61%63cess_token%", "a=b;s3cr3t",
	} {
		f.Add(query, "T", "s3cr3t")
	}
	f.Add("a=1;x=s;t", "T&", "s;t")
	f.Fuzz(func(t *testing.T, query, token, hidden string) {
		drop := func(value string) bool { return value == hidden }
		got := rewrite.Splice(query, "access_token", rewrite.TokenOf(token), drop)
		ours, rest, _ := strings.Cut(got, "&")
		if want := "access_token=" + url.QueryEscape(token); ours != want {
			t.Fatalf("Splice(%q) = %q, does not begin with %q", query, got, want)
		}
		if diff := cmp.Diff(survivors(query, hidden), pieces(rest)); diff != "" {
			t.Errorf("Splice(%q) = %q (-want +got):\n%s", query, got, diff)
		}
		values, _ := url.ParseQuery(got) // what has a ";" or a broken escape is missing in it
		for name, v := range values {
			if isToken(name) && !cmp.Equal(v, []string{token}) {
				t.Errorf("Splice(%q) = %q, where %q is %q", query, got, name, v)
			}
			if !isToken(name) && hidden != "" && slices.Contains(v, hidden) {
				t.Errorf("Splice(%q) = %q, which holds the secret", query, got)
			}
		}
	})
}

// survivors lists the parameters of a query that are neither token nor secret, in
// name or value. What is left between two "&" is looked at as one parameter, too.
func survivors(query, hidden string) []string {
	goes := func(piece string) bool {
		name, value, _ := strings.Cut(piece, "=")
		return isToken(decode(name)) || hidden != "" && (unescaped(name) == hidden || unescaped(value) == hidden)
	}
	var kept []string
	for segment := range strings.SplitSeq(query, "&") {
		left := strings.Join(slices.DeleteFunc(strings.Split(segment, ";"), goes), ";")
		if !goes(left) {
			kept = append(kept, pieces(left)...)
		}
	}
	return kept
}

func pieces(query string) []string {
	var all []string
	for piece := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
		all = append(all, piece)
	}
	return all
}

func unescaped(text string) string {
	if decoded, err := url.QueryUnescape(text); err == nil {
		return decoded
	}
	return text
}

var (
	escape     = regexp.MustCompile("%[0-9A-Fa-f]{2}")
	notLetters = regexp.MustCompile("[^A-Za-z]+")
)

func decode(name string) string {
	return escape.ReplaceAllStringFunc(name, func(s string) string {
		b, _ := hex.DecodeString(s[1:])
		return string(b)
	})
}

func isToken(name string) bool {
	letters := notLetters.ReplaceAllString(name, "")
	return strings.EqualFold(letters, "accesstoken") || strings.EqualFold(letters, "componentaccesstoken")
}

var (
	typicalQuery = "access_token=gw." + strings.Repeat("x", 120) + "&type=image"
	realToken    = "80_" + strings.Repeat("Ab3-", 38)
)

func BenchmarkSplice(b *testing.B) {
	for name, query := range map[string]string{
		"typical":   typicalQuery,
		"escaped":   "access%5Ftoken=gw&type=image",
		"ten":       "access_token=gw&" + strings.Repeat("name=value&", 9) + "z=1",
		"semicolon": "a=1;access_token=gw",
	} {
		b.Run(name, func(b *testing.B) {
			token := rewrite.TokenOf(realToken)
			b.ReportAllocs()
			for b.Loop() {
				rewrite.Splice(query, "access_token", token, isSecret)
			}
		})
	}
}

func BenchmarkFirst(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		rewrite.First(typicalQuery, "access_token", "component_access_token")
	}
}
