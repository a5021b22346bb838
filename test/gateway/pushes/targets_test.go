// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

const (
	webhookSecret = "whsec_c2hvcC13ZWJob29rLXNlY3JldC0wMTIzNDU2Nzg5"
	webhookBefore = "whsec_YmVmb3JlLXdlYmhvb2stc2VjcmV0LTAxMjM0NTY3"
)

// deliverTo is a client that gets everything at this URL.
func deliverTo(url, options string) string {
	return "client shop {\nsecret " + gwtest.ClientSecret + "\nauthorizers *\ndeliver " + url + " {\n" + options + "\n}\n}\n"
}

// hello pushes a message and then an authorisation event, and waits for both.
func hello(t *testing.T, g *gwtest.Gateway, arrived <-chan error) {
	t.Helper()
	if _, err := g.WeChat.PushMessage(t.Context(), shopAccount, "follower", gwtest.HelloMessage); err != nil {
		t.Error(err)
	}
	if _, err := g.WeChat.UpdateAuthorized(t.Context(), shopAccount); err != nil {
		t.Error(err)
	}
	for range 2 {
		select {
		case err := <-arrived:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("nothing arrives: %s", g.Logs())
		}
	}
}

// The library of the specification verifies what the gateway signs: a message and an
// event, in plain and in safe mode, with the current secret and the previous one.
func TestStandardWebhooksVerifiesDeliveries(t *testing.T) {
	for mode, options := range map[string]string{
		"no token":  "",
		"plain":     "token " + shopToken,
		"safe mode": "token " + shopToken + "\nencoding_aes_key " + crmAESKey,
	} {
		t.Run(mode, func(t *testing.T) {
			arrived := make(chan error, 10)
			app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				arrived <- verify(r)
			}))
			t.Cleanup(app.Close)
			g := gwtest.Start(t, gwtest.Options{Clients: deliverTo(app.URL, options+"\nwebhook_secret "+webhookSecret+" "+webhookBefore)})
			for range 2 { // both accounts have authorised
				<-arrived
			}
			hello(t, g, arrived)
		})
	}
}

// verify verifies a delivery as an application does.
func verify(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	for _, secret := range []string{webhookSecret, webhookBefore} {
		webhook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return err
		}
		if err := webhook.Verify(body, r.Header); err != nil {
			return err
		}
		if webhook.Verify(append(body, ' '), r.Header) == nil {
			return errors.New("another body is verified too")
		}
	}
	if id := r.Header.Get("webhook-id"); len(id) != 32 || id != r.URL.Query().Get("event_id") {
		return errors.New("webhook-id is not the event_id")
	}
	return nil
}

// authority is a certificate authority that nobody knows.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	folder      string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, folder: t.TempDir()}
	a.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.newKey()
	a.issue("ca", a.certificate, a.key)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

// issue writes a certificate and its key into files of this name.
func (a *authority) issue(name string, certificate *x509.Certificate, key *ecdsa.PrivateKey) {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, certificate, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.folder, name) }

// serve starts an application that only clients with a certificate of this authority
// reach, and returns its URL.
func (a *authority) serve(handler http.HandlerFunc) string {
	a.t.Helper()
	a.issue("server", &x509.Certificate{
		SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.newKey())
	a.issue("client", &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "gateway"}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.newKey())
	pair, err := tls.LoadX509KeyPair(a.file("server.pem"), a.file("server.key"))
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pem, _ := os.ReadFile(a.file("ca.pem"))
	pool.AppendCertsFromPEM(pem)
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.StartTLS()
	a.t.Cleanup(server.Close)
	return server.URL
}

func TestAPrivateAuthorityAndAClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	arrived := make(chan error, 10)
	url := ca.serve(func(_ http.ResponseWriter, r *http.Request) {
		var err error
		if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != "gateway" {
			err = errors.New("not the gateway's certificate")
		}
		arrived <- err
	})
	start := func(t *testing.T, lines ...string) *gwtest.Gateway {
		return gwtest.Start(t, gwtest.Options{Clients: deliverTo(url, "token "+shopToken+"\ntransport http {\n"+strings.Join(lines, "\n")+"\n}")})
	}
	trust := "tls_trust_pool file " + ca.file("ca.pem")
	certificate := "tls_client_auth " + ca.file("client.pem") + " " + ca.file("client.key")
	t.Run("both", func(t *testing.T) {
		g := start(t, trust, certificate)
		for range 2 { // both accounts have authorised
			<-arrived
		}
		hello(t, g, arrived)
	})
	for remedy, line := range map[string]string{"name it with tls_trust_pool": certificate, "name one with tls_client_auth": trust} {
		t.Run(remedy, func(t *testing.T) {
			g := start(t, line)
			eventually(t, "the log tells the remedy", func() bool { return strings.Contains(g.Logs(), remedy) }, g.Logs)
			if len(arrived) > 0 {
				t.Error("it arrives all the same")
			}
		})
	}
}

// arrival is one delivery, as an application with several paths sees it.
type arrival struct{ path, about, tenant string }

// Each target of a client gets what it wants, at its own address, with its own
// headers; and one with reply off answers no follower.
func TestTargetsOfOneClient(t *testing.T) {
	arrived := make(chan arrival, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		about := "event"
		if r.URL.Query().Has("openid") {
			about = "message"
		}
		if strings.Contains(string(body), "<![CDATA[subscribe]]>") {
			about = "subscribe"
		}
		arrived <- arrival{r.URL.RequestURI()[:strings.IndexByte(r.URL.RequestURI(), '?')], about, r.Header.Get("X-Tenant")}
		_, _ = io.WriteString(w, passive(r.URL.Path))
	}))
	t.Cleanup(app.Close)
	target := func(path string, options ...string) string {
		return "deliver " + app.URL + path + " {\ntoken " + shopToken + "\n" + strings.Join(options, "\n") + "\n}\n"
	}
	g := gwtest.Start(t, gwtest.Options{Clients: "client shop {\nsecret " + gwtest.ClientSecret + "\nauthorizers *\n" +
		target("/silent", "reply off", "match msg_type text event") +
		target("/texts/$APPID$", "match msg_type text", "header X-Tenant shop") +
		target("/followers", "match event SUBSCRIBE", "match appid "+shopAccount) +
		target("/others", "match msg_type text", "match appid "+otherAccount) +
		target("/grants", "match info_type authorized updateauthorized", "name grants") +
		"}\n"})
	want := func(wanted ...arrival) {
		t.Helper()
		missing := make(map[arrival]int)
		for _, each := range wanted {
			missing[each]++
		}
		for range wanted {
			select {
			case got := <-arrived:
				missing[got]--
			case <-time.After(10 * time.Second):
				t.Fatalf("missing: %v\n%s", missing, g.Logs())
			}
		}
		for each, n := range missing {
			if n != 0 {
				t.Errorf("%+v: %d too few", each, n)
			}
		}
	}
	want(arrival{"/grants", "event", ""}, arrival{"/grants", "event", ""}) // both accounts have authorised

	reply, err := g.WeChat.PushMessage(t.Context(), shopAccount, "follower", gwtest.HelloMessage)
	if err != nil || reply != passive("/texts/"+shopAccount) {
		t.Errorf("%q, %v", reply, err)
	}
	want(arrival{"/silent", "message", ""}, arrival{"/texts/" + shopAccount, "message", "shop"})

	const subscribe = "<MsgType><![CDATA[event]]></MsgType><Event><![CDATA[subscribe]]></Event>"
	if reply, err = g.WeChat.PushMessage(t.Context(), shopAccount, "follower", subscribe); err != nil || reply != passive("/followers") {
		t.Errorf("%q, %v", reply, err)
	}
	want(arrival{"/silent", "subscribe", ""}, arrival{"/followers", "subscribe", ""})

	if reply, err = g.WeChat.PushMessage(t.Context(), otherAccount, "follower", subscribe); err != nil || reply != "" {
		t.Errorf("%q, %v", reply, err)
	}
	want(arrival{"/silent", "subscribe", ""})
	if len(arrived) > 0 {
		t.Errorf("more: %+v", <-arrived)
	}
}
