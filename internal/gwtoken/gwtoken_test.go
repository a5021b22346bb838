// SPDX-License-Identifier: Apache-2.0

package gwtoken_test

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	component  = "wx134c8103faa5a59e"
	authorizer = "wxba5fad812f8e6fb9"
	appSecret  = "0123456789abcdef0123456789abcdef"
	shopSecret = "the client secret of the shop, long enough"
)

var expires = time.Unix(1790000000, 0)

func newKey(t testing.TB, appSecret, clientSecret string) *gwtoken.Key {
	t.Helper()
	k, err := gwtoken.NewKey(secret.New(appSecret), sha256.Sum256([]byte(clientSecret)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func claims(client string, s subject.Subject) gwtoken.Claims {
	return gwtoken.Claims{Client: client, Subject: s, Expires: expires}
}

// check is the whole way from a text to its claims.
func check(k *gwtoken.Key, text string) (gwtoken.Claims, bool) {
	u, ok := gwtoken.Parse(text)
	if !ok {
		return gwtoken.Claims{}, false
	}
	return k.Verify(u)
}

func wantRefused(t *testing.T, k *gwtoken.Key, text string) {
	t.Helper()
	if c, ok := check(k, text); ok || c != (gwtoken.Claims{}) {
		t.Errorf("%s gives %+v, %t", text, c, ok)
	}
}

func TestRoundTrip(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	unreserved := regexp.MustCompile(`^gw1\.[A-Za-z0-9._~-]+$`)
	cases := map[string]gwtoken.Claims{
		"a component":             claims("shop", component),
		"an authorizer":           claims("shop", subject.Of(component, authorizer)),
		"the shortest client id":  claims("0", component),
		"the longest client id":   claims(strings.Repeat("a-", 32), subject.Of(component, authorizer)),
		"an expiry long ago":      {Client: "shop", Subject: component, Expires: time.Unix(1, 0)},
		"the last expiry of all":  {Client: strings.Repeat("z", 64), Subject: subject.Of(component, authorizer), Expires: time.Unix(1<<36-1, 0)},
		"a part of a second gone": {Client: "shop", Subject: component, Expires: expires.Add(999 * time.Millisecond)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			text := k.Issue(c)
			u, ok := gwtoken.Parse(text)
			if !ok {
				t.Fatalf("%s does not parse", text)
			}
			if u.KeyID() != k.ID() {
				t.Errorf("key id %s, want %s", u.KeyID(), k.ID())
			}
			got, ok := k.Verify(u)
			if !ok {
				t.Fatalf("%s does not verify", text)
			}
			c.Expires = c.Expires.Truncate(time.Second)
			if diff := cmp.Diff(c, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !unreserved.MatchString(text) || !gwtoken.Looks(text) {
				t.Errorf("%s would need percent-encoding, or is not recognisable", text)
			}
			if len(text) > 178 {
				t.Errorf("%d characters, want 178 at most", len(text))
			}
		})
	}
}

// The text form and the derivation of keys must not change: tokens live on
// through a restart, and on other nodes. The text was computed apart from this
// code, by RFC 5869 and RFC 2104.
func TestTheFormIsFixed(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	const want = "gw1.jBfb3FN_.shop.wx134c8103faa5a59e~wxba5fad812f8e6fb9.6ab13b80.AAAAAAAA.Re3QK_xlPIAonsAErJ7M2pcrbX878kHibt__ivWEAlI"
	if got := k.IssueWith(claims("shop", subject.Of(component, authorizer)), "AAAAAAAA"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTwoTokensOfOneSecondDiffer(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	first, second := k.Issue(claims("shop", component)), k.Issue(claims("shop", component))
	if first == second {
		t.Errorf("both are %s", first)
	}
}

func TestEveryChangeOfATokenIsRefused(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	text := k.Issue(claims("shop", subject.Of(component, authorizer)))
	for i := range text {
		for bit := range 8 {
			wantRefused(t, k, text[:i]+string(rune(text[i]^1<<bit))+text[i+1:])
		}
		for _, c := range []byte("Aa09gz._~-=\n") {
			if c != text[i] {
				wantRefused(t, k, text[:i]+string(c)+text[i+1:])
			}
			wantRefused(t, k, text[:i]+string(c)+text[i:])
		}
		wantRefused(t, k, text[:i])
		wantRefused(t, k, text[i+1:])
		wantRefused(t, k, text[:i]+text[i+1:])
		wantRefused(t, k, text[:i]+strings.ToUpper(text[i:i+1])+"\x00"+text[i+1:])
	}
	for _, tail := range []string{".", "=", "A", "\n", " ", "%00", "." + text, text[3:]} {
		wantRefused(t, k, text+tail)
		wantRefused(t, k, tail+text)
	}
}

func TestAnotherSpellingOfATokenIsRefused(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	text := k.Issue(claims("shop", component))
	hexa := fmt.Sprintf(".%x.", expires.Unix())
	// The last of 43 characters carries two spare bits, which are zero.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, text[len(text)-1])

	for name, changed := range map[string]string{
		"capital hexadecimal":  strings.Replace(text, hexa, strings.ToUpper(hexa), 1),
		"a leading zero":       strings.Replace(text, hexa, ".0"+hexa[1:], 1),
		"a sign":               strings.Replace(text, hexa, ".+"+hexa[1:], 1),
		"an underscore":        strings.Replace(text, hexa, hexa[:4]+"_"+hexa[4:], 1),
		"spare bits set":       text[:len(text)-1] + alphabet[last|1:last|1+1],
		"base64 padded":        text + "=",
		"a line break in it":   text[:len(text)-4] + "\n" + text[len(text)-4:],
		"a capital prefix":     "GW1" + text[3:],
		"an empty authorizer":  strings.Replace(text, component, component+"~", 1),
		"a slash for a tilde":  strings.Replace(text, component, component+"/"+authorizer, 1),
		"a percent-encoded ~":  strings.Replace(text, component, component+"%7E"+authorizer, 1),
		"a capital in the app": strings.Replace(text, component, strings.ToUpper(component), 1),
	} {
		t.Run(name, func(t *testing.T) {
			if changed == text {
				t.Fatal("the case changes nothing")
			}
			wantRefused(t, k, changed)
		})
	}
}

// The base64 decoder passes over line breaks, so 43 characters may be fewer
// bytes than 32. Where the MAC ends in a zero byte, as one in 256 does, nobody
// would notice.
func TestALineBreakDoesNotShortenTheMAC(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	for i := range 2000 {
		text := k.IssueWith(claims("shop", component), fmt.Sprint(i))
		wantRefused(t, k, text[:len(text)-1]+"\n")
	}
}

// Even the holder of the key cannot have a second spelling accepted.
func TestASignedButMisspeltTokenIsRefused(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	head := "gw1." + k.ID() + "."
	if _, ok := check(k, k.Sign(head+"shop."+component+".6ab13b80.AAAAAAAA")); !ok {
		t.Fatal("the model of the cases is refused")
	}
	for name, rest := range map[string]string{
		"capital hexadecimal":     "shop." + component + ".6AB13B80.AAAAAAAA",
		"a leading zero":          "shop." + component + ".06ab13b80.AAAAAAAA",
		"a negative expiry":       "shop." + component + ".-6ab13b80.AAAAAAAA",
		"no expiry":               "shop." + component + "..AAAAAAAA",
		"an expiry of 64 bits":    "shop." + component + ".ffffffffffffffff.AAAAAAAA",
		"no random part":          "shop." + component + ".6ab13b80",
		"a part too many":         "shop." + component + ".6ab13b80.AAAAAAAA.x",
		"no client":               "." + component + ".6ab13b80.AAAAAAAA",
		"a client with a capital": "Shop." + component + ".6ab13b80.AAAAAAAA",
		"a client too long":       strings.Repeat("a", 65) + "." + component + ".6ab13b80.AAAAAAAA",
		"no subject":              "shop..6ab13b80.AAAAAAAA",
		"a path for an appid":     "shop.wx/../../../../etc.6ab13b80.AAAAAAAA",
		"an empty authorizer":     "shop." + component + "~.6ab13b80.AAAAAAAA",
		"a random part too long":  "shop." + component + ".6ab13b80." + strings.Repeat("A", 200),
		"two authorizers":         "shop." + component + "~" + authorizer + "~" + authorizer + ".6ab13b80.AAAAAAAA",
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, k, k.Sign(head+rest)) })
	}
}

func TestPartsOfTwoTokensDoNotMix(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	mine := strings.Split(k.Issue(claims("shop", subject.Of(component, authorizer))), ".")
	theirs := strings.Split(k.Issue(gwtoken.Claims{Client: "desk", Subject: component, Expires: expires.Add(time.Hour)}), ".")
	for mask := 1; mask < 1<<len(mine)-1; mask++ {
		mixed := make([]string, len(mine))
		for i := range mixed {
			mixed[i] = mine[i]
			if mask>>i&1 == 1 {
				mixed[i] = theirs[i]
			}
		}
		text := strings.Join(mixed, ".")
		if text != strings.Join(mine, ".") && text != strings.Join(theirs, ".") {
			wantRefused(t, k, text)
		}
	}
}

func TestATokenIsForOneKeyOnly(t *testing.T) {
	keys := map[string]*gwtoken.Key{
		"the shop's":                    newKey(t, appSecret, shopSecret),
		"another client's":              newKey(t, appSecret, "another client's secret"),
		"another component's":           newKey(t, "fedcba9876543210fedcba9876543210", shopSecret),
		"secrets in each other's place": newKey(t, shopSecret, appSecret),
	}
	for issuer, k := range keys {
		text := k.Issue(claims("shop", component))
		u, ok := gwtoken.Parse(text)
		if !ok {
			t.Fatal(text)
		}
		for verifier, other := range keys {
			if _, ok := other.Verify(u); ok != (issuer == verifier) {
				t.Errorf("a token of the key %q is good under %q: %t", issuer, verifier, ok)
			}
			if (other.ID() == u.KeyID()) != (issuer == verifier) {
				t.Errorf("key ids %q and %q", issuer, verifier)
			}
		}
	}
	if again := newKey(t, appSecret, shopSecret); again.ID() != keys["the shop's"].ID() {
		t.Error("the same secrets give another key id")
	}
}

func TestTheZeroUnverifiedIsRefused(t *testing.T) {
	if c, ok := newKey(t, appSecret, shopSecret).Verify(gwtoken.Unverified{}); ok {
		t.Errorf("accepted as %+v", c)
	}
}

func TestAKeyNeedsAnAppSecret(t *testing.T) {
	if _, err := gwtoken.NewKey(nil, sha256.Sum256([]byte(shopSecret))); err == nil {
		t.Error("a key was derived from what the client knows alone")
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	want := k.Issue(claims("shop", component)) // fills the pool
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(format, k); len(text) > 1000 || strings.Contains(text, appSecret) || strings.Contains(text, want) {
			t.Errorf("%s: %s", format, text)
		}
	}
}

func TestLooks(t *testing.T) {
	for text, want := range map[string]bool{
		"gw1.":        true,
		"gw1.garbage": true,
		"":            false,
		"gw1":         false,
		"gw2.x":       false,
		"57_abcdef":   false, // as WeChat's own tokens begin
	} {
		if got := gwtoken.Looks(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestValidClient(t *testing.T) {
	for id, want := range map[string]bool{
		"shop": true, "0": true, "a-": true, "a-b-9": true, strings.Repeat("a", 64): true,
		"": false, "-a": false, "Shop": false, "a.b": false, "a~b": false, "a_b": false, "é": false, strings.Repeat("a", 65): false,
	} {
		if got := gwtoken.ValidClient(id); got != want {
			t.Errorf("%q: %t", id, got)
		}
	}
}

func TestOneKeyServesManyAtOnce(t *testing.T) {
	k := newKey(t, appSecret, shopSecret)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			want := claims(fmt.Sprintf("client-%d", i), subject.Of(component, authorizer))
			for range 500 {
				if got, ok := check(k, k.Issue(want)); !ok || got != want {
					t.Errorf("got %+v, %t", got, ok)
					return
				}
			}
		})
	}
	group.Wait()
}

// A text is accepted only if issuing its claims again gives that very text.
func FuzzToken(f *testing.F) {
	k := newKey(f, appSecret, shopSecret)
	head := "gw1." + k.ID() + "."
	f.Add("shop." + component + ".6ab13b80.AAAAAAAA")
	f.Add("shop." + component + "~" + authorizer + ".6ab13b80.AAAAAAAA")
	f.Add("a." + component + ".06AB13B80.")
	f.Add(k.Issue(claims("shop", component)))
	f.Fuzz(func(t *testing.T, rest string) {
		gwtoken.Parse(rest)
		if len(head)+len(rest) > 256 {
			return
		}
		text := k.Sign(head + rest)
		got, ok := check(k, text)
		if !ok {
			if got != (gwtoken.Claims{}) {
				t.Errorf("refused, yet %+v", got)
			}
			return
		}
		random := rest[strings.LastIndexByte(rest, '.')+1:]
		if again := k.IssueWith(got, random); again != text {
			t.Errorf("%s is also written %s", text, again)
		}
	})
}

// Of all texts, the few that were issued are accepted: not what is cut, flipped,
// swapped, or made of parts of two of them.
func FuzzForgery(f *testing.F) {
	k, foreign := newKey(f, appSecret, shopSecret), newKey(f, appSecret, "another client secret, long enough as well")
	issued := make(map[string]bool)
	for _, s := range []subject.Subject{component, subject.Of(component, authorizer)} {
		issued[k.IssueWith(claims("shop", s), "AAAAAAAA")] = true
		f.Add(foreign.IssueWith(claims("shop", s), "AAAAAAAA"), uint(0), uint(0))
	}
	for text := range issued {
		f.Add(text, uint(0), uint(0))
		f.Add(text[:len(text)-1], uint(1), uint(4))
		f.Add(text+".", uint(9), uint(7))
	}
	f.Fuzz(func(t *testing.T, text string, at, bit uint) {
		if flipped := []byte(text); len(flipped) > 0 {
			flipped[at%uint(len(flipped))] ^= 1 << (bit % 8)
			if _, ok := check(k, string(flipped)); ok && !issued[string(flipped)] {
				t.Errorf("accepted with a flipped bit: %q", flipped)
			}
		}
		if _, ok := check(k, text); ok && !issued[text] {
			t.Errorf("accepted: %q", text)
		}
	})
}

// The promise is 1 µs and two allocations at most, and that a token that is
// refused takes as long wherever it is wrong.
func BenchmarkCheck(b *testing.B) {
	k := newKey(b, appSecret, shopSecret)
	genuine := k.Issue(claims("shop", subject.Of(component, authorizer)))
	mac := strings.LastIndexByte(genuine, '.') + 1
	flipped := func(at int) string {
		if genuine[at] == 'A' {
			return genuine[:at] + "E" + genuine[at+1:]
		}
		return genuine[:at] + "A" + genuine[at+1:]
	}
	for _, row := range []struct {
		name, text string
		ok         bool
	}{
		{"component", k.Issue(claims("shop", component)), true},
		{"authorizer", genuine, true},
		{"wrong in the first character of the MAC", flipped(mac), false},
		{"wrong in the last but one", flipped(len(genuine) - 2), false},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := check(k, row.text); ok != row.ok {
					b.Fatalf("accepted: %v", ok)
				}
			}
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	k := newKey(b, appSecret, shopSecret)
	c := claims("shop", subject.Of(component, authorizer))
	b.ReportAllocs()
	for b.Loop() {
		k.Issue(c)
	}
}
