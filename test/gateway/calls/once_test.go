// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// A connection that breaks after WeChat got the call leaves open whether the
// message was sent, the code spent. The gateway never decides that by sending
// it again, not even a GET, not even over a reused connection, as net/http
// would; the client is told.
func TestNothingIsSentTwice(t *testing.T) {
	for _, proto := range []string{"plain", "TLS", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			var seen counted
			g := startOver(t, proto, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
				seen.see(r)
				_, _ = io.Copy(io.Discard, r.Body)
				switch r.URL.RawQuery[strings.LastIndexByte(r.URL.RawQuery, '&')+1:] {
				case "fine":
					gwtest.AnswerOK(w, r)
					return
				case "connection":
					r.Context().Value(connKey{}).(net.Conn).Close()
				}
				panic(http.ErrAbortHandler) // in HTTP/2 this resets the stream alone
			}})

			for _, breaks := range []string{"connection", "stream"} {
				for _, method := range []string{"GET", "HEAD", "POST", "POST without a body"} {
					header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
					header.Set("Idempotency-Key", "1") // with it net/http repeats a POST
					verb, bare, _ := strings.Cut(method, " ")
					content := ""
					if verb == "POST" && bare == "" {
						content = "{}"
					}
					broken := func(t *testing.T) {
						answer := g.Ask(verb, gwtest.SendPath+"?"+breaks, content, header)
						if answer.Status != 502 || answer.Slug != "unreachable" || (answer.ErrCode != -1 && verb != "HEAD") {
							t.Errorf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
						}
					}
					t.Run(method+", the first of its "+breaks, func(t *testing.T) {
						seen.reset()
						broken(t)
						if calls, _, spoken := seen.count(); calls != 1 || strings.HasPrefix(spoken, "HTTP/2") != (proto == "HTTP/2") {
							t.Errorf("WeChat saw %d calls in %s", calls, spoken)
						}
					})
					t.Run(method+", the second of its "+breaks, func(t *testing.T) {
						for range 100 { // the connection may not be idle again at once
							seen.reset()
							first := verb
							if verb == "HEAD" { // after it the connection is closed
								first = "GET"
							}
							if answer := g.Ask(first, gwtest.SendPath+"?fine", content, header); answer.Status != 200 {
								t.Fatalf("answered %d %s", answer.Status, answer.Body)
							}
							broken(t)
							calls, conns, _ := seen.count()
							if calls != 2 {
								t.Fatalf("WeChat saw the second call %d times", calls-1)
							}
							if conns == 1 {
								return
							}
						}
						t.Error("no connection was reused")
					})
				}
			}
		})
	}
}

// A host that cannot be reached is passed over for the next: for calls, and
// for what the gateway itself asks of WeChat.
func TestFallbackHost(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	dead := gwtest.RefusingURL(t)
	g.Change(func(o *gwtest.Options) { o.API = []string{dead, g.API} })
	g.WeChat.KillTokens("") // so that tokens have to be fetched, too
	for i, content := range []string{"", "{}", strings.Repeat("x", 100<<10)} {
		method := []string{"GET", "POST", "POST"}[i]
		answer := g.Ask(method, "/wxa/any", content, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
		if answer.ErrCode != 0 {
			t.Errorf("%s of %d bytes: %s", method, len(content), answer.Body)
		}
	}
	if n := g.WeChat.Count(gwtest.RenewalPath); n == 0 {
		t.Error("no token was fetched")
	}
	call := callsOf(g, "/wxa/any")[0]
	if call.Host != strings.TrimPrefix(g.API, "http://") {
		t.Errorf("the second host was called %s", call.Host)
	}
	g.Change(func(o *gwtest.Options) { o.API = []string{dead, gwtest.RefusingURL(t)} })
	answer := g.Ask("GET", "/wxa/any", "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if answer.Status != 502 || answer.ErrCode != -1 || answer.Slug != "unreachable" {
		t.Errorf("no host in reach: answered %d %q %s", answer.Status, answer.Slug, answer.Body)
	}
}

// A host that took the connection may have taken the call: the next one must
// not get it as well.
func TestNoFallbackAfterAConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	g.Change(func(o *gwtest.Options) { o.API = []string{"http://" + listener.Addr().String(), g.API} })
	for _, method := range []string{"GET", "POST"} {
		answer := g.Ask(method, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
		if answer.Status != 502 || answer.ErrCode != -1 {
			t.Errorf("%s: answered %d %s", method, answer.Status, answer.Body)
		}
	}
	if n := g.WeChat.Count(gwtest.AuthorizerPath); n != 0 {
		t.Errorf("the second host saw %d calls", n)
	}
}

// What WeChat answers passes as it is, even where it is not what WeChat
// answers on a good day. What breaks off must not look whole.
func TestBrokenAnswers(t *testing.T) {
	var answer http.HandlerFunc
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{
		gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) { answer(w, r) },
	})
	page := "<html><body>502 Bad Gateway</body></html>"
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		status int
		body   string
		broken bool
	}{
		"a page":               {gwtest.Answer("text/html", page, false), 200, page, false},
		"a page with 502":      {hijacked("HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + page), 502, page, false},
		"JSON with 500":        {hijacked("HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n" + `{"errcode":40001}`), 500, `{"errcode":40001}`, false},
		"nothing":              {hijacked("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), 200, "", false},
		"more than its length": {hijacked("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\nsmuggled"), 200, "{}", false},
		"less than its length": {hijacked("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"errcode\":0"), 200, "", true},
		"half of a download":   {hijacked("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50000)), 200, "", true},
		"half of the chunks":   {hijacked("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n"), 200, "", true},
		"a broken chunk":       {hijacked("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 200, "", true},
		"a status line cut":    {hijacked("HTTP/1.1 2"), 502, `{"errcode":-1,"errmsg":"WeChat cannot be reached (gateway)"}`, false},
		"a header cut":         {hijacked("HTTP/1.1 200 OK\r\nContent-Ty"), 502, `{"errcode":-1,"errmsg":"WeChat cannot be reached (gateway)"}`, false},
		"two lengths":          {hijacked("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), 502, `{"errcode":-1,"errmsg":"WeChat cannot be reached (gateway)"}`, false},
		"another protocol":     {hijacked("SSH-2.0-OpenSSH_9.6\r\n"), 502, `{"errcode":-1,"errmsg":"WeChat cannot be reached (gateway)"}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			answer = row.answer
			r, err := http.NewRequest(http.MethodPost, g.Proxy+gwtest.SendPath, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header = gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			response, err := http.DefaultClient.Do(r)
			if row.broken {
				if err == nil {
					_, err = io.ReadAll(response.Body)
					response.Body.Close()
				}
				if err == nil {
					t.Error("the answer looks whole")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != row.status || string(body) != row.body {
				t.Errorf("answered %d %q, %v", response.StatusCode, body, err)
			}
		})
	}
}

// A WeChat that takes the call and never answers is given up; the call is not
// made again.
func TestNoAnswer(t *testing.T) {
	var seen counted
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: func(_ http.ResponseWriter, r *http.Request) {
		seen.see(r)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}})
	g.Change(func(o *gwtest.Options) { o.Proxy = "transport http {\nresponse_header_timeout 500ms\n}" })
	for i, method := range []string{"GET", "POST"} {
		answer := g.Ask(method, gwtest.SendPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
		if answer.Status != 504 || answer.ErrCode != -1 || answer.Slug != "timeout" {
			t.Errorf("%s: answered %d %q %s", method, answer.Status, answer.Slug, answer.Body)
		}
		// The gateway may give up before WeChat's handler has begun.
		wantSoon(t, "WeChat sees the call", func() bool { calls, _, _ := seen.count(); return calls > i })
		if calls, _, _ := seen.count(); calls != i+1 {
			t.Errorf("WeChat saw %d calls, want %d", calls, i+1)
		}
	}
}

// A client that goes away ends its own call at WeChat and nobody else's. One
// that has only finished sending must not take silence for success.
func TestClientGoesAway(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	g := gwtest.StartWithRoutes(t, gwtest.Options{Proxy: "}\nlog {\n"}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		began <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}})
	token := g.Token(gwtest.OfficialAccount)
	for _, leave := range []func(*net.TCPConn){
		func(conn *net.TCPConn) { conn.Close() },
		func(conn *net.TCPConn) { conn.SetLinger(0); conn.Close() },
		func(conn *net.TCPConn) {
			conn.CloseWrite()
			if answer, _ := io.ReadAll(conn); strings.HasPrefix(string(answer), "HTTP/1.1 200") {
				t.Errorf("answered %s", answer)
			}
			conn.Close()
		},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s?access_token=%s HTTP/1.1\r\nHost: gateway\r\nContent-Length: 2\r\n\r\n{}", gwtest.SendPath, token)
		<-began
		if !forwarding(goroutines()) {
			t.Fatal("a call waits for WeChat, but forwarding does not find its function")
		}
		leave(conn.(*net.TCPConn))
		<-ended
		if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.ErrCode != 0 {
			t.Errorf("somebody else's call: %s", answer.Body)
		}
	}
	// In the middle of an upload.
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s?access_token=%s HTTP/1.1\r\nHost: gateway\r\nContent-Length: 200000\r\n\r\nhalf", gwtest.SendPath, token)
	conn.Close()
	if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.ErrCode != 0 {
		t.Errorf("after half an upload: %s", answer.Body)
	}
	<-began
	<-ended
	// Nothing of the calls they left stays behind.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		stacks := goroutines()
		if !forwarding(stacks) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a call goes on:\n%s", stacks)
		}
	}
}

// goroutines returns the stacks of all goroutines.
func goroutines() []byte {
	stacks := make([]byte, 4<<20)
	return stacks[:runtime.Stack(stacks, true)]
}

// forwarding reports whether one of the goroutines forwards a call to WeChat.
func forwarding(stacks []byte) bool { return bytes.Contains(stacks, []byte("(*Relay).Forward(")) }

var errUnread = errors.New("the rest is not sent")

// A body that breaks off within what is kept for replays never reaches WeChat:
// half a message must not be sent.
func TestHalfABodyIsNotSent(t *testing.T) {
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, gwtest.AnswerOK)})
	r, err := http.NewRequest(http.MethodPost, g.Proxy+gwtest.SendPath, io.MultiReader(strings.NewReader(`{"touser":`), failingReader{}))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	if response, err := http.DefaultClient.Do(r); !errors.Is(err, errUnread) {
		t.Errorf("answered %v, %v", response, err)
	}
	if answer := g.Ask(http.MethodPost, gwtest.SendPath, "{}", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.ErrCode != 0 {
		t.Errorf("the next call: %s", answer.Body)
	}
	if len(seen) != 1 || seen[0].Body != "{}" {
		t.Errorf("WeChat saw %v", seen)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errUnread }
