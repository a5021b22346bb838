// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// answeringWith returns a transport that answers with this status and headers.
func answeringWith(status int, header http.Header) http.RoundTripper {
	return transportFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(replyOf("text", "<Content>SECRET</Content>")))}, nil
	})
}

func TestEvery2xxIsTakenAndNothingElse(t *testing.T) {
	for status, remedy := range map[int]string{
		200: "", 201: "", 202: "", 204: "", 226: "", 299: "",
		101: "status 101", 300: "redirects are not followed", 301: "redirects are not followed", 302: "redirects are not followed", 304: "redirects are not followed", 308: "redirects are not followed",
		400: "status 400", 401: "compare token", 403: "compare token", 404: "check the path", 405: "takes no POST", 410: "wants nothing more", 413: "64 KiB", 429: "status 429",
		500: "status 500", 502: "status 502", 503: "status 503", 599: "status 599",
	} {
		for _, item := range []delivery.Item{aMessage, anEvent} {
			app := answering(status, replyOf("text", "<Content>SECRET</Content>"))
			result := sendTo(t, app, plainTarget(t, "shop"), item)
			if taken := status >= 200 && status < 300; (result.Err == nil) != taken || (result.Reply != nil) != (taken && item.Kind == delivery.KindMessage) {
				t.Errorf("%d: %+v", status, result)
			}
			if result.Gone != (status == http.StatusGone) || result.Hung || result.Unusable != nil {
				t.Errorf("%d: %+v", status, result)
			}
			if result.Err != nil && (!strings.Contains(result.Err.Error(), remedy) || strings.Contains(result.Err.Error(), "elsewhere") || strings.Contains(result.Err.Error(), "SECRET")) {
				t.Errorf("%d: %v", status, result.Err)
			}
			if n := len(app.all()); n != 1 { // the Location is not visited
				t.Errorf("%d requests", n)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose time stands still
		in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
		for text, want := range map[string]time.Duration{
			"": 0, "0": 0, "1": time.Second, "120": 2 * time.Minute, "86401": 24 * time.Hour, "99999999999999999999999": 24 * time.Hour,
			"-1": 0, "1.5": 0, "soon": 0, in(time.Minute): time.Minute, in(-time.Minute): 0, in(1000 * time.Hour): 24 * time.Hour,
		} {
			for _, status := range []int{503, 429, 500, 302} {
				result := sendTo(t, answeringWith(status, http.Header{"Retry-After": {text}}), plainTarget(t, "shop"), aMessage)
				if result.RetryAfter != want {
					t.Errorf("%d, %q: %v, want %v", status, text, result.RetryAfter, want)
				}
			}
			if result := sendTo(t, answeringWith(200, http.Header{"Retry-After": {text}}), plainTarget(t, "shop"), aMessage); result.RetryAfter != 0 {
				t.Errorf("taken, %q: %v", text, result.RetryAfter)
			}
		}
	})
}

// listen returns the address of a server that treats each connection so.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// answerRaw reads a request and writes this.
func answerRaw(text string) func(net.Conn) {
	return func(conn net.Conn) {
		if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.Copy(io.Discard, request.Body)
			_, _ = io.WriteString(conn, text)
		}
	}
}

// secure returns a server with TLS.
func secure(t *testing.T, configure func(*tls.Config)) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = new(tls.Config)
	configure(server.TLS)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// What an operator reads says what to do. It quotes neither what came nor what the
// gateway sends.
func TestWhyThereIsNoAnswer(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	trusting := &tls.Config{InsecureSkipVerify: true}
	unknown := secure(t, func(*tls.Config) {})
	known := unknown.Client().Transport.(*http.Transport).TLSClientConfig
	for name, row := range map[string]struct {
		url  string
		tls  *tls.Config
		want string
	}{
		"nobody listens":               {url: "http://" + closed.Addr().String(), want: "no connection: dial tcp " + closed.Addr().String() + ": connect: connection refused"},
		"no such host":                 {url: "http://shop.invalid", want: "no connection: dial tcp: lookup shop.invalid"},
		"no TLS":                       {url: "https://" + plain.Listener.Addr().String(), want: "speaks no TLS at this port: write http://"},
		"an unknown authority":         {url: unknown.URL, want: "authority that is not known here: name it with tls_trust_pool"},
		"another name":                 {url: strings.Replace(unknown.URL, "127.0.0.1", "localhost", 1), tls: &tls.Config{RootCAs: known.RootCAs}, want: "for another host name"},
		"no client certificate":        {url: secure(t, func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }).URL, tls: trusting, want: "tls_client_auth"},
		"no client certificate in 1.3": {url: secure(t, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }).URL, tls: trusting, want: "tls_client_auth"},
		"no HTTP":                      {url: "http://" + listen(t, answerRaw("SECRET 1.1 no HTTP\r\n\r\n")), want: "no answer in HTTP"},
		"a status that is none":        {url: "http://" + listen(t, answerRaw("HTTP/1.1 SECRET\r\n\r\n")), want: "no answer in HTTP"},
		"a header that is none":        {url: "http://" + listen(t, answerRaw("HTTP/1.1 200 OK\r\nSECRET\r\n\r\n")), want: "no answer in HTTP"},
		"a length that is none":        {url: "http://" + listen(t, answerRaw("HTTP/1.1 200 OK\r\nContent-Length: SECRET\r\n\r\n")), want: "no answer in HTTP"},
		"a long header":                {url: "http://" + listen(t, answerRaw("HTTP/1.1 200 OK\r\nA: "+strings.Repeat("SECRET", 5000)+"\r\n\r\n")), want: "no answer in HTTP"},
		"it hangs up":                  {url: "http://" + listen(t, answerRaw("")), want: "closed before an answer came"},
		"it breaks off":                {url: "http://" + listen(t, answerRaw("HTTP/1.1 200")), want: "closed before an answer came"},
		"it resets": {url: "http://" + listen(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.(*net.TCPConn).SetLinger(0)
		}), want: "the connection broke before an answer came"},
		"no TLS handshake":       {url: "https://" + listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), want: "the time for the TLS handshake"},
		"no header of an answer": {url: "http://" + listen(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), want: "for the header of an answer, was over"},
	} {
		t.Run(name, func(t *testing.T) {
			target := plainTarget(t, "shop")
			target.URL, err = url.Parse(row.url + "/SECRET?secret=SECRET")
			if err != nil {
				t.Fatal(err)
			}
			target.Headers = []delivery.Header{{Name: "Authorization", Value: secret.New("SECRET")}}
			transport := &http.Transport{TLSClientConfig: row.tls, TLSHandshakeTimeout: 300 * time.Millisecond, ResponseHeaderTimeout: 300 * time.Millisecond, MaxResponseHeaderBytes: 10_000}
			defer transport.CloseIdleConnections()
			result := sendTo(t, transport, target, aMessage)
			if result.Err == nil || !strings.Contains(result.Err.Error(), row.want) || strings.Contains(result.Err.Error(), "SECRET") {
				t.Errorf("%v", result.Err)
			}
			if result.Hung || result.Gone || result.Reply != nil {
				t.Errorf("%+v", result)
			}
		})
	}
}

// A transport's own type for errors of dialling is told by its text.
func TestADialErrorOfAnotherType(t *testing.T) {
	result := sendTo(t, transportFunc(func(*http.Request) (*http.Response, error) {
		return nil, delivery.DialError{Err: errors.New("dial tcp 10.0.0.1:80: i/o timeout")}
	}), plainTarget(t, "shop"), aMessage)
	if result.Err == nil || result.Err.Error() != "posting: no connection: dial tcp 10.0.0.1:80: i/o timeout" {
		t.Error(result.Err)
	}
}

// hangs is an application that never answers.
var hangs = transportFunc(func(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
})

func TestAnApplicationThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := plainTarget(t, "shop")
		target.Transport = hangs
		ctx, cancel := context.WithTimeout(t.Context(), 14*time.Second)
		defer cancel()
		began := time.Now()
		result := target.Send(ctx, aMessage)
		if !result.Hung || result.Err == nil || !strings.Contains(result.Err.Error(), "no answer came in time") || time.Since(began) != 14*time.Second {
			t.Errorf("%+v", result)
		}
	})
	// The gateway stops: this says nothing about the application.
	target := plainTarget(t, "shop")
	target.Transport = hangs
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if result := target.Send(ctx, aMessage); result.Hung || result.Err == nil || !strings.Contains(result.Err.Error(), "broken off") {
		t.Errorf("%+v", result)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
