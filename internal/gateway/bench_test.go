// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/policy"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

const (
	benchComponent  = "wx134c8103faa5a59e"
	benchAuthorizer = "wxaaaaaaaaaaaaaaaa"
	benchSecret     = "bench-secret-0123456789abcdef01234567"
)

// benchGateway knows one client of one component, with rules to look through.
func benchGateway(tb testing.TB) *Gateway {
	tb.Helper()
	rights := policy.Rights{
		Authorizers: map[string]struct{}{benchAuthorizer: {}, "wxbbbbbbbbbbbbbbbb": {}},
		Rules:       []policy.Rule{{Method: "GET", Path: "/wxa/*"}, {Path: "/cgi-bin/*"}},
	}
	client, err := NewClient("bench", benchComponent, rights,
		[]secret.Secret{secret.New(benchSecret)}, []secret.Secret{secret.New(strings.Repeat("s", 32))})
	if err != nil {
		tb.Fatal(err)
	}
	clients := NewClients()
	if err := clients.Add(client); err != nil {
		tb.Fatal(err)
	}
	return &Gateway{Clients: clients, Components: map[string]struct{}{benchComponent: {}}}
}

// BenchmarkIdentify is what the gateway decides before it touches a token:
// path, route, gateway token, rights.
func BenchmarkIdentify(b *testing.B) {
	g := benchGateway(b)
	token := g.Clients.all[0].issue(sha256.Sum256([]byte(benchSecret)), subject.Of(benchComponent, benchAuthorizer), time.Now())
	r := httptest.NewRequest(http.MethodPost, "/cgi-bin/message/custom/send?access_token="+token+"&a=1", strings.NewReader(`{"touser":"o1"}`))
	b.ReportAllocs()
	for b.Loop() {
		path, ok := policy.Clean(r.URL.EscapedPath())
		if !ok {
			b.Fatal(r.URL)
		}
		if err := g.identify(r, newCall(r), path, policy.Lookup(path)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSecretIsFoundWithoutAllocations(t *testing.T) {
	clients := benchGateway(t).Clients
	if n := testing.AllocsPerRun(100, func() { clients.withBearer("Bearer " + benchSecret) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
