// SPDX-License-Identifier: Apache-2.0

// Package transparent_test runs unmodified clients that cannot be told another
// base URL than https://api.weixin.qq.com. Here the gateway answers under that
// name, with a certificate of Caddy's own authority: see docs/transparent.md.
package transparent_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	host     = "api.weixin.qq.com"
	fileHost = "file.api.weixin.qq.com" // off at WeChat, and still called by SDKs
	sendPath = "/cgi-bin/message/custom/send"
	greeting = "您的订单已发货 🎉 <b>&amp;</b>"
)

// global keeps Caddy away from the trust store of the machine and from ports
// other than those of its sites.
const global = `skip_install_trust
	auto_https disable_redirects
	servers {
		protocols h1 h2
	}`

// start starts a gateway that serves https://api.weixin.qq.com at g.Sites, and
// waits for the certificate.
func start(t *testing.T, o gwtest.Options) *gwtest.Gateway {
	t.Helper()
	o.Global, o.Sites = global, "https://"+host+":18083 {\ntls internal\nlog\nwechat_proxy\n}"
	g := gwtest.Start(t, o)
	awaitCertificate(t, g, host, g.Sites)
	g.WeChat.ResetCounts()
	return g
}

// awaitCertificate waits until the gateway shows a good certificate of the name:
// Caddy makes it in the background.
func awaitCertificate(t *testing.T, g *gwtest.Gateway, name, address string) {
	t.Helper()
	config := &tls.Config{ServerName: name, RootCAs: roots(t, g)}
	await(t, g, "the certificate", func() bool {
		conn, err := tls.Dial("tcp", address, config)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// await waits until there is what the test goes on with.
func await(t *testing.T, g *gwtest.Gateway, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s\n%s", what, g.Logs())
		}
	}
}

// rootFile is the root certificate of Caddy's authority, which an operator
// distributes.
func rootFile(g *gwtest.Gateway) string {
	return filepath.Join(g.Storage, "pki", "authorities", "local", "root.crt")
}

func roots(t *testing.T, g *gwtest.Gateway) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(rootFile(g))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", rootFile(g))
	}
	return pool
}

// seen is what Caddy's access log says of a request.
type seen struct {
	Logger  string
	Request struct {
		Proto, Host, URI string
		TLS              struct {
			ServerName string `json:"server_name"`
		}
	}
}

// requests returns the requests that came to https://api.weixin.qq.com.
func requests(g *gwtest.Gateway) []seen { return requestsIn(g.Logs()) }

// requestsIn returns the requests of which a log has access log entries.
func requestsIn(log string) (found []seen) {
	for line := range strings.Lines(log) {
		var entry seen
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasPrefix(entry.Logger, "http.log.access") {
			found = append(found, entry)
		}
	}
	return found
}

// wantName fails the test unless requests came, all by the protocol and all
// under WeChat's name, in the handshake as well as in the request.
func wantName(t *testing.T, g *gwtest.Gateway, protocol string) {
	t.Helper()
	var found []seen
	await(t, g, "the access log", func() bool {
		found = requests(g)
		return len(found) > 0
	})
	for _, one := range found {
		if one.Request.Host != host || one.Request.TLS.ServerName != host || one.Request.Proto != protocol {
			t.Errorf("the gateway saw %+v, want host and server name %s by %s", one.Request, host, protocol)
		}
	}
}

// wantNothingOfOurs fails the test if anything of the gateway's own reached
// WeChat.
func wantNothingOfOurs(t *testing.T, g *gwtest.Gateway) {
	t.Helper()
	for _, call := range g.WeChat.Calls() {
		header, _ := json.Marshal(call.Header)
		for _, ours := range []string{"gw1.", gwtest.ClientSecret} {
			if strings.Contains(call.RawQuery+string(header), ours) {
				t.Errorf("WeChat saw %s… in %s %s", ours[:4], call.Method, call.Path)
			}
		}
	}
}

// wantMessage fails the test unless WeChat took one message, the greeting, with
// the account's real token.
func wantMessage(t *testing.T, g *gwtest.Gateway, account, to string) {
	t.Helper()
	sent := g.WeChat.SentMessages()
	if len(sent) != 1 || sent[0].AppID != account || sent[0].ToUser != to {
		t.Fatalf("WeChat took %d messages: %+v", len(sent), sent)
	}
	var got struct{ Text struct{ Content string } }
	if err := json.Unmarshal(sent[0].Body, &got); err != nil || got.Text.Content != greeting {
		t.Errorf("WeChat took %s (%v), want the text %q", sent[0].Body, err, greeting)
	}
	if n := g.WeChat.CountToken(sendPath, g.WeChat.ValidToken(sandbox.KindAuthorizer, account)); n != 1 {
		t.Errorf("WeChat saw %d sends with the account's real token, want 1", n)
	}
}
