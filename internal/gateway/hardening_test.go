// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Secrets of clients: of the least length, a long one, one with the same beginning
// as another, as base64 has it, and one of which the digest is configured.
const (
	shortSecret  = "abcdefghijklmnopqrstuvwxyz012345"
	longSecret   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	longerSecret = longSecret + "ff"
	paddedSecret = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRW/+A="
	digestSecret = "digest-secret-0123456789abcdef0123456789"
	digestPadded = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
)

// secretive returns clients with all of these, and more of them.
func secretive(tb testing.TB, more int) *Clients {
	tb.Helper()
	clients := NewClients()
	add := func(text string) {
		id := fmt.Sprintf("c%d", len(clients.all))
		client, err := NewClient(id, benchComponent, policy.Rights{}, []secret.Secret{secret.New(text)}, []secret.Secret{secret.New(strings.Repeat("s", 32))})
		if err == nil {
			err = clients.Add(client)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	for _, text := range []string{shortSecret, longSecret, longerSecret, paddedSecret} {
		add(text)
	}
	for _, text := range []string{digestSecret, digestPadded} {
		digest := sha256.Sum256([]byte(text))
		add("sha256:" + hex.EncodeToString(digest[:]))
	}
	for range more {
		add(fmt.Sprintf("%016x%016x%016x%016x", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()))
	}
	return clients
}

// An application, or a library that it uses, repeats its secret or its token in a
// header of its own. WeChat would see it, and whoever can read WeChat's logs.
func TestCredentialInAHeaderIsFoundWhereverItStands(t *testing.T) {
	clients := secretive(t, 0)
	anywhere := []string{"%s", "Bearer %s", "x%sx", "%s%[1]s", "key=%s", "https://app.example.com/?secret=%s&a=1", "/x/%s/y", `{"secret":"%s"}`,
		"a=1; sid=%s; b=2", "user:%s", "你好%s你好", strings.Repeat("a", 5000) + "%s", "%s" + strings.Repeat("a", 5000), strings.Repeat("0123456789abcdef", 3) + " %s"}
	for name, text := range map[string]string{"short": shortSecret, "long": longSecret, "longer": longerSecret, "padded": paddedSecret, "gateway token": "gw1.abc", "gateway code": "gwc1.abc", "gateway ticket": "gwk1.abc"} {
		for _, form := range anywhere {
			value := fmt.Sprintf(form, text)
			if !clients.Contains(value) {
				t.Errorf("%s: not found in %.80q", name, value)
			}
			if escaped := url.QueryEscape(value); !clients.Contains(escaped) && !strings.Contains(value, " ") {
				t.Errorf("%s: not found in %.80q", name, escaped)
			}
		}
	}
	for name, text := range map[string]string{"digest": digestSecret, "padded digest": digestPadded} {
		for _, form := range []string{"%s", "Bearer %s", "key=%s", "https://app.example.com/?secret=%s&a=1", `{"secret":"%s"}`, "a=1; sid=%s; b=2", "user:%s", "a, %s", "(%s)"} {
			if value := fmt.Sprintf(form, text); !clients.Contains(value) {
				t.Errorf("%s: not found in %q", name, value)
			}
		}
	}
	for _, value := range []string{
		"", "Go-http-client/1.1", "application/json; charset=utf-8", shortSecret[1:], shortSecret[:31], longSecret[:63], strings.ToUpper(shortSecret),
		strings.Repeat("a", 10_000), "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW1", "gwr1.wx134c8103faa5a59e", "gwc1", "gwx1.abc", "gwgw", "100%", "%zz" + strings.Repeat("%", 40),
	} {
		if clients.Contains(value) {
			t.Errorf("found in %.80q", value)
		}
	}
}

// What is escaped is found beside a "%" that begins no escape, too: whoever reads the
// value decodes what he can.
func TestMalformedEscapeHidesNoCredential(t *testing.T) {
	clients := secretive(t, 0)
	escaped := strings.ReplaceAll(url.QueryEscape(paddedSecret), "2B", "2b")
	for _, value := range []string{"100% " + escaped, escaped + "%", "%zz" + escaped, "%2" + "%71" + escaped[1:], "%%" + escaped + "%4"} {
		if !clients.Contains(value) {
			t.Errorf("not found in %q", value)
		}
	}
}

// WeChat shows a client the body of a call that the gateway has made for itself, and
// what it has answered. Either can have a document within a string.
func TestDocumentsWithinQuotedBodiesAreRead(t *testing.T) {
	for text, want := range map[string]string{
		`{"component_appsecret":"s","a":1}`:                      `{"component_appsecret":"withheld","a":1}`,
		`{"event":"{\"authorizer_refresh_token\":\"r\"}","a":1}`: `{"event":"{\"authorizer_refresh_token\":\"withheld\"}","a":1}`,
		`{"access_token":""}`:                                    `{"access_token":""}`,
		`{"access_token":"78_abc"`:                               "withheld",
		`["access_token"]`:                                       "withheld",
	} {
		if got := quotedBody(text); got != want {
			t.Errorf("%s is quoted as %s, want %s", text, got, want)
		}
	}
}

// Headers are looked at for every call, however many clients there are.
func TestCredentialsAreLookedForWithoutAllocations(t *testing.T) {
	clients := secretive(t, 1000)
	value := strings.Repeat("Mozilla/5.0 (X11; Linux x86_64) ", 4)
	if n := testing.AllocsPerRun(100, func() { clients.Contains(value) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkContains(b *testing.B) {
	values := map[string]string{
		"short": "application/json", "agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"signature": strings.Repeat("q83vEjRWeJCrze8SNFZ4", 17),
	}
	for _, more := range []int{0, 1000} {
		clients := secretive(b, more)
		for name, value := range values {
			b.Run(fmt.Sprintf("%s/%d", name, more), func(b *testing.B) {
				for b.Loop() {
					clients.Contains(value)
				}
			})
		}
	}
}
