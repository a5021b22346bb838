// SPDX-License-Identifier: Apache-2.0

package gwtoken_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// checkCode is the whole way from a text to the claims of a code.
func checkCode(k *gwtoken.Key, text string) (gwtoken.Claims, bool) {
	u, ok := gwtoken.ParseCode(text)
	if !ok {
		return gwtoken.Claims{}, false
	}
	return k.Verify(u)
}

func wantNoCode(t *testing.T, k *gwtoken.Key, text string) {
	t.Helper()
	if c, ok := checkCode(k, text); ok || c != (gwtoken.Claims{}) {
		t.Errorf("%s gives %+v, %t", text, c, ok)
	}
}

func TestRoundTripOfACode(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	for name, want := range map[string]gwtoken.Claims{
		"a code":                 claims("shop", subject.Of(component, authorizer)),
		"the longest client id":  claims(strings.Repeat("a-", 32), subject.Of(component, authorizer)),
		"the last expiry of all": {Client: "shop", Subject: subject.Of(component, authorizer), Expires: time.Unix(1<<36-1, 0)},
	} {
		text := k.IssueCode(want)
		got, ok := checkCode(k, text)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s: %t (-want +got):\n%s", name, ok, diff)
		}
		if !regexp.MustCompile(`^gwc1\.[A-Za-z0-9._~-]{1,174}$`).MatchString(text) || !gwtoken.LooksLikeCode(text) {
			t.Errorf("%s: %s is too long, or would need percent-encoding", name, text)
		}
		if k.IssueCode(want) == text {
			t.Errorf("%s: the same twice", name)
		}
	}
}

// The form must not change: a code lives through a restart, and on other nodes. The text
// was computed apart from this code, by RFC 5869 and RFC 2104.
func TestTheFormOfACodeIsFixed(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	const want = "gwc1.jBfb3FN_.shop.wx134c8103faa5a59e~wxba5fad812f8e6fb9.6ab13b80.AAAAAAAA.v-OU_sl3ybGklS76aClRDEK2VbEPpl4FHnv6qOQZj6E"
	if got := k.IssueCodeWith(claims("shop", subject.Of(component, authorizer)), "AAAAAAAA"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The key is the same, so the prefix alone tells them apart: it is signed.
func TestTokensAndCodesAreNotTakenForEachOther(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	c := claims("shop", subject.Of(component, authorizer))
	token, code := k.Issue(c), k.IssueCode(c)
	wantNoCode(t, k, token)
	wantNoCode(t, k, "gwc1."+strings.TrimPrefix(token, "gw1."))
	wantRefused(t, k, code)
	wantRefused(t, k, "gw1."+strings.TrimPrefix(code, "gwc1."))
	wantNoCode(t, k, "gwk1."+strings.TrimPrefix(code, "gwc1."))
}

func TestEveryChangeOfACodeIsRefused(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	text := k.IssueCode(claims("shop", subject.Of(component, authorizer)))
	for i := range text {
		for bit := range 8 {
			wantNoCode(t, k, text[:i]+string(rune(text[i]^1<<bit))+text[i+1:])
		}
		wantNoCode(t, k, text[:i])
		wantNoCode(t, k, text[i+1:])
		wantNoCode(t, k, text[:i]+text[i+1:])
	}
	for _, tail := range []string{".", "=", "A", "\n", " ", "%00", "." + text} {
		wantNoCode(t, k, text+tail)
		wantNoCode(t, k, tail+text)
	}
	wantNoCode(t, k, k.IssueCode(claims("shop", component))) // it names no account
	wantNoCode(t, newKey(t, appSecret, "another client's secret"), text)
	wantNoCode(t, newKey(t, "fedcba9876543210fedcba9876543210", shopSecret), text)
}

func TestTickets(t *testing.T) {
	first, second := gwtoken.NewTicket(), gwtoken.NewTicket()
	if !regexp.MustCompile(`^gwk1\.[A-Za-z0-9_-]{32}$`).MatchString(first) || first == second {
		t.Errorf("%s and %s", first, second)
	}
	if !gwtoken.Looks(first) || gwtoken.LooksLikeCode(first) {
		t.Errorf("%s is not recognised, or as a code", first)
	}
	if _, ok := gwtoken.Parse(first); ok {
		t.Errorf("%s is a token", first)
	}
}

func TestWithin(t *testing.T) {
	for text, want := range map[string]bool{
		"gw1.x": true, "gwc1.x": true, "gwk1.x": true, "a=gwc1.x": true, "gwgwk1.": true, "gw gw1 gw1.": true, "gwgw1.": true,
		"": false, "gw": false, "gw1": false, "gwc1": false, "gwr1.wx": false, "GWC1.x": false, "gwx1.": false,
	} {
		if got := gwtoken.Within(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

// Of all texts, the few that were issued as codes are accepted: not what is cut, flipped,
// swapped, made of parts of two of them, or a token.
func FuzzCodeForgery(f *testing.F) {
	k, foreign := newKey(f, appSecret, shopSecret), newKey(f, appSecret, "another client secret, long enough as well")
	const another = "wxaaaaaaaaaaaaaaaa"
	issued := make(map[string]bool)
	for _, appID := range []string{authorizer, another} {
		c := claims("shop", subject.Of(component, appID))
		issued[k.IssueCodeWith(c, "AAAAAAAA")] = true
		f.Add(foreign.IssueCodeWith(c, "AAAAAAAA"), uint(0), uint(0))
		f.Add(k.IssueWith(c, "AAAAAAAA"), uint(2), uint(0))
	}
	f.Add(k.IssueCodeWith(claims("shop", component), "AAAAAAAA"), uint(0), uint(0))
	for text := range issued {
		f.Add(text, uint(0), uint(0))
		f.Add(text[:len(text)-1], uint(1), uint(4))
		f.Add(strings.Replace(text, ".shop.", ".desk.", 1), uint(9), uint(7))
		f.Add(strings.NewReplacer(authorizer, another, another, authorizer).Replace(text), uint(3), uint(3))
		f.Add(strings.Replace(text, "6ab13b80", "7ab13b80", 1), uint(5), uint(5))
	}
	f.Fuzz(func(t *testing.T, text string, at, bit uint) {
		candidates := []string{text, "gwc1." + strings.TrimPrefix(text, "gw1.")}
		if flipped := []byte(text); len(flipped) > 0 {
			flipped[at%uint(len(flipped))] ^= 1 << (bit % 8)
			candidates = append(candidates, string(flipped))
		}
		for _, candidate := range candidates {
			if c, ok := checkCode(k, candidate); ok && !issued[candidate] {
				t.Errorf("accepted: %q as %+v", candidate, c)
			}
		}
	})
}
