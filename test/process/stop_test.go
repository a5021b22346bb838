// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// wrapped is a server's connections as a listener wrapper hands them on, which
// nobody can move away from the loop that accepts them.
const wrapped = "servers {\nprotocols h1 h2\nlistener_wrappers {\nproxy_protocol {\ntimeout 1s\n}\ntls\n}\n}\n"

// ways are those over which a caller may reach a gateway that is being stopped.
var ways = map[string]struct {
	secure bool
	global string
}{
	"HTTP":                        {false, ""},
	"HTTPS":                       {true, ""},
	"HTTP with a wrapped socket":  {false, wrapped},
	"HTTPS with a wrapped socket": {true, wrapped},
}

const grace = 3 * time.Second

// stoppable starts a gateway whose side for applications is reached in one of the
// ways, with a grace period. dial opens a connection to it.
func stoppable(t *testing.T, way string) (weChat *sandbox.Sandbox, p *caddy.Process, host string, dial func() (net.Conn, error)) {
	t.Helper()
	weChat, n := newWeChat(t)
	n.Global = fmt.Sprintf("grace_period %v\n%s", grace, ways[way].global)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := n.Caddyfile()
	dial = func() (net.Conn, error) { return net.DialTimeout("tcp", n.Proxy, time.Second) }
	if ways[way].secure {
		n.Site = "tls " + certificate(t)
		text = strings.Replace(n.Caddyfile(), "http://"+n.Proxy, "https://"+n.Proxy, 1)
		dial = func() (net.Conn, error) {
			return tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", n.Proxy, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		}
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p = caddy.Launch(t, "run", "--config", file)
	p.Serves(n.Platform, n.Proxy)
	authorize(t, weChat)
	return weChat, p, n.Proxy, dial
}

// certificate returns the paths of a certificate and of its key.
func certificate(t *testing.T) string {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	made := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	paths := filepath.Join(folder, "certificate") + " " + filepath.Join(folder, "key")
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: made.Certificate[0]}, {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(strings.Fields(paths)[i], pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// Callers open connections as long as they are accepted, and begin requests that
// they never finish: the first byte of a TLS handshake, half of a header, half of
// a body to an endpoint of the gateway, half of an upload. A process that is to
// stop does not wait for them longer than its grace period: whoever restarts it
// would lose all calls of all others meanwhile.
func TestUnfinishedRequestsDoNotKeepAStoppingProcess(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			_, p, host, dial := stoppable(t, way)
			head := " HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: "
			bearer := "\r\nWechat-Appid: " + officialAccount + "\r\nAuthorization: Bearer " + caddy.ClientSecret
			bodies := []string{
				"POST /cgi-bin/token" + head + "9000\r\n\r\n{",
				"POST " + sendPath + head + "60000" + bearer + "\r\n\r\n{",
				"POST " + sendPath + head + "9000000" + bearer + "\r\n\r\n{",
			}
			headers := []string{"\x16", "POST /cgi-bin/token HT"}
			var mu sync.Mutex
			var conns []net.Conn
			begin := func(request string) bool {
				conn, err := dial()
				if err != nil {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, conn)
				_, _ = io.WriteString(conn, request)
				return true
			}
			for _, request := range append(headers, bodies...) {
				for range 5 {
					if !begin(request) {
						t.Fatal("a connection is not accepted")
					}
				}
			}
			began := time.Now()
			if err := p.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.Until("stopping", func() bool { return strings.Contains(p.Printed(), "exiting") })
			var callers sync.WaitGroup
			callers.Go(func() {
				for i := 0; begin(bodies[i%len(bodies)]) && time.Since(began) < 20*time.Second; i++ {
					time.Sleep(time.Millisecond)
					if i == 20 {
						callers.Go(func() {
							for i := 0; begin(headers[i%len(headers)]) && time.Since(began) < 20*time.Second; i++ {
								time.Sleep(5 * time.Millisecond)
							}
						})
					}
				}
			})
			p.Wait()
			// A second of drain.go, the grace period, and what a busy machine takes.
			if took := time.Since(began); took > time.Second+grace+5*time.Second {
				t.Errorf("the process stopped after %v", took)
			}
			callers.Wait()
			for _, conn := range conns {
				conn.Close()
			}
		})
	}
}

// A call that comes while the process is told to stop is answered, though no
// server of Caddy knows its connection.
func TestCallsOfAStoppingProcessAreAnswered(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			weChat, p, host, dial := stoppable(t, way)
			n := 10
			if strings.Contains(way, "wrapped") {
				n = 1 // they are served one after the other, those that the loop has not accepted are lost
			}
			weChat.Inject(sandbox.Fault{Path: sendPath, Latency: time.Second})
			get := func(path string) (*http.Response, error) {
				transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return dial() }}
				r, err := http.NewRequest(http.MethodPost, "http://"+host+path, strings.NewReader(message))
				if err != nil {
					return nil, err
				}
				r.Header.Set("Authorization", "Bearer "+caddy.ClientSecret)
				r.Header.Set("Wechat-Appid", officialAccount)
				return (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(r)
			}
			// A process to which nobody connects any more stops after 150 ms, which a test may
			// need to notice that it has begun to stop.
			ctx, cancel := context.WithCancel(t.Context())
			var others sync.WaitGroup
			defer others.Wait()
			defer cancel()
			others.Go(func() {
				for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
					if response, err := get("/cgi-bin/user/get"); err == nil {
						response.Body.Close()
					}
				}
			})
			if err := p.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.Until("stopping", func() bool { return strings.Contains(p.Printed(), "exiting") })
			var calls sync.WaitGroup
			answered := make(chan string, n)
			for range n {
				calls.Go(func() {
					response, err := get(sendPath)
					if err != nil {
						answered <- err.Error()
						return
					}
					defer response.Body.Close()
					body, _ := io.ReadAll(response.Body)
					answered <- string(body)
				})
			}
			calls.Wait()
			close(answered)
			for text := range answered {
				if !strings.Contains(text, `"errcode":0`) {
					t.Errorf("answered %s", text)
				}
			}
			p.Wait()
		})
	}
}
