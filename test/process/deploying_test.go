// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	deployingPage = "../../docs/deploying.md"
	internalName  = "wechat.internal"
)

// remote is a gateway with the configuration that docs/deploying.md shows for applications
// on other machines.
type remote struct {
	t           *testing.T
	etc         string // in place of /etc/caddy
	file        string // the Caddyfile
	proxy       string // address of the proxy's site
	application *http.Client
}

// newRemote starts one. Replacements are made in the Caddyfile before.
func newRemote(t *testing.T, replacements ...string) *remote {
	t.Helper()
	weChat, n := newWeChat(t)
	etc, run := t.TempDir(), t.TempDir()
	r := &remote{t: t, etc: etc, file: filepath.Join(etc, "Caddyfile"), proxy: n.Proxy}
	for name, secret := range map[string]string{
		"app_secret": sandbox.DefaultAppSecret, "token": sandbox.DefaultToken, "aes_key": sandbox.DefaultEncodingAESKey, "shop": caddy.ClientSecret,
	} {
		r.write("secrets/"+name, secret+"\n")
	}
	r.application = r.clientOf(r.certificate())
	_, port, err := net.SplitHostPort(n.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(replacements...).Replace(caddyfileBlock(t, deployingPage, "{\n\tadmin"))
	text = strings.NewReplacer("/etc/caddy", etc, "/run/caddy", run, "10.0.0.5", "127.0.0.1", ":8443", ":"+port, "open.example.com", "http://"+n.Platform,
		"\n\twechat {", fmt.Sprintf("\n\tauto_https disable_redirects\n\tstorage %s\n\twechat {\n\t\tapi %[2]s\n\t\tpages %[2]s", n.Storage, n.WeChat)).Replace(text)
	r.write("Caddyfile", text)
	p := caddy.Launch(t, "run", "--config", r.file)
	p.Serves(n.Platform, n.Proxy)
	authorize(t, weChat)
	return r
}

func (r *remote) write(name, content string) {
	r.t.Helper()
	path := filepath.Join(r.etc, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// certificate writes a key and a certificate for the internal name, which it returns.
func (r *remote) certificate() *x509.Certificate {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{internalName}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		r.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		r.t.Fatal(err)
	}
	r.write("tls/"+internalName+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	r.write("tls/"+internalName+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	made, err := x509.ParseCertificate(der)
	if err != nil {
		r.t.Fatal(err)
	}
	return made
}

// clientOf returns an application that trusts a certificate, and for which every name
// leads to the gateway.
func (r *remote) clientOf(trusted *x509.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.proxy)
		},
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// call makes a call as the application at a base URL does, with a header of a proxy, and
// returns why it was refused.
func (r *remote) call(base, forwardedFor string) (slug string, err error) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, base+"/cgi-bin/get_api_domain_ip", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+caddy.ClientSecret)
	request.Header.Set("Wechat-Appid", officialAccount)
	if forwardedFor != "" {
		request.Header.Set("X-Forwarded-For", forwardedFor)
	}
	response, err := r.application.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return response.Status, nil
	}
	return response.Header.Get("Wechat-Gateway-Error"), nil
}

// An application on another machine calls over TLS, under the name of the site. Its secret
// is worth nothing from an address that from does not name, and operators come by the socket.
func TestApplicationsOnOtherMachines(t *testing.T) {
	r := newRemote(t, "10.0.0.0/24", "127.0.0.0/8")
	if slug, err := r.call("https://"+internalName, ""); slug != "" || err != nil {
		t.Errorf("the call is answered %q, %v", slug, err)
	}
	if slug, err := r.call("https://gateway.internal", ""); err == nil {
		t.Errorf("a call under another name is answered %q", slug)
	}
	if slug, err := r.call("http://"+internalName, ""); err == nil && !strings.HasPrefix(slug, "400") {
		t.Errorf("a call without TLS is answered %q", slug)
	}
	for _, each := range commandBlocks(strings.ReplaceAll(page(t, deployingPage), "\n  ", "\n")) {
		if arguments, ours := strings.CutPrefix(each.command, "caddy "); ours {
			p := caddy.Launch(t, strings.Fields(strings.ReplaceAll(arguments, "/etc/caddy/Caddyfile", r.file))...)
			if code := p.Wait(); code != 0 || !strings.HasSuffix(strings.TrimSpace(p.Printed()), each.answer) {
				t.Errorf("%s: exit code %d, %s", each.command, code, p.Printed())
			}
		}
	}

	elsewhere := newRemote(t) // from names the addresses on the page
	if slug, err := elsewhere.call("https://"+internalName, "10.0.0.7"); slug != "address" || err != nil {
		t.Errorf("a call from another address is answered %q, %v", slug, err)
	}
}

// Behind a proxy that is named, from sees the caller's address, and not what the caller has
// written into the header himself.
func TestApplicationsBehindAProxy(t *testing.T) {
	servers := strings.Replace(caddyfileBlock(t, deployingPage, "servers 10.0.0.5:8443 {"), "10.0.0.9", "127.0.0.1", 1)
	r := newRemote(t, "\tgrace_period", servers+"\n\tgrace_period")
	for forwardedFor, want := range map[string]string{"10.0.0.7": "", "192.0.2.1": "address", "10.0.0.7, 192.0.2.1": "address", "": "address"} {
		if slug, err := r.call("https://"+internalName, forwardedFor); slug != want || err != nil {
			t.Errorf("forwarded for %q: answered %q, %v, want %q", forwardedFor, slug, err, want)
		}
	}
}

func TestDeployingPageShowsTheSameInChinese(t *testing.T) {
	want, got := commandBlocks(strings.ReplaceAll(page(t, deployingPage), "\n  ", "\n")), commandBlocks(strings.ReplaceAll(page(t, "../../docs/zh/deploying.md"), "\n  ", "\n"))
	if len(want) != 2 || !slices.Equal(want, got) {
		t.Errorf("docs/zh/deploying.md shows\n%q\nwant\n%q", got, want)
	}
}
