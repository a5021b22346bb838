// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// halves opens connections that announce a body of 64 KiB to a path and send its first
// byte. They stay open until the test ends.
func halves(t *testing.T, g *gwtest.Gateway, n int, path, header string) (conns []net.Conn) {
	t.Helper()
	for range n {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: gateway\r\n%sContent-Length: 65536\r\n\r\n{", path, header)
		conns = append(conns, conn)
	}
	return conns
}

// The paths of end users take no credential of the gateway's. A stranger who begins a
// body there, and does not go on, is let go as at an endpoint: he holds neither a
// connection nor memory for ever. The same for a client that may call.
func TestBodyOfARelayedCallMustArriveInTime(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	bearer := "Wechat-Appid: " + gwtest.OfficialAccount + "\r\nAuthorization: Bearer " + gwtest.ClientSecret + "\r\n"
	conns := map[string]net.Conn{
		"a stranger": halves(t, g, 1, "/sns/userinfo?access_token=x", "")[0],
		"a client":   halves(t, g, 1, "/cgi-bin/message/custom/send", bearer)[0],
	}
	for who, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second)) // three times what the gateway waits
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Errorf("%s: %v, want an answer within 30 s", who, err)
		}
	}
}

// Memory is taken for what has arrived of a body, not for what is announced: a byte
// must not cost 64 KiB, least of all if a stranger sends it.
func TestAnnouncedBodiesTakeNoMemory(t *testing.T) {
	const n = 1000
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools hold survives one
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := inUse()
	halves(t, g, n, "/sns/userinfo?access_token=x", "")
	time.Sleep(time.Second)
	if grown := inUse() - before; grown > 32<<20 {
		t.Errorf("%d bodies of which one byte has arrived take %d MB, want 32 at most", n, grown>>20)
	}
}

// A value of the query that has a credential in it, and not only one that is a
// credential, stays here, as in a header. A library that reports the address of the
// page, or an SDK that adds a space, would tell it to WeChat otherwise.
func TestCredentialWithinAValueOfTheQueryDoesNotReachWeChat(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	for _, credential := range []string{token, "gwc1." + strings.TrimPrefix(token, "gw1."), "gwk1.q83vEjRWeJCrze8SNFZ4", gwtest.ClientSecret} {
		for _, form := range []string{"x=%s", "x=%%20%s", "x=%s+", "x=Bearer+%s", "x=%s%%zz", "url=https%%3A%%2F%%2Fa.example%%2F%%3Fsecret%%3D%s", "%s=1"} {
			g.WeChat.ResetCounts()
			parameter := fmt.Sprintf(form, credential)
			g.Ask(http.MethodGet, gwtest.AuthorizerPath+"?"+parameter, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
			for _, call := range g.WeChat.Calls() {
				seen, _ := url.PathUnescape(fmt.Sprintf("%+v", call))
				if strings.Contains(seen, credential) {
					t.Errorf("WeChat saw %.12s… in the parameter %.24s…", credential, parameter)
					break
				}
			}
		}
	}
}

// WeChat's headers have some hundred bytes. A server on the way that sends megabytes,
// to many calls at a time, must not fill the memory.
func TestHeaderOfAnAnswerIsBounded(t *testing.T) {
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{
		"/cgi-bin/large": func(w http.ResponseWriter, _ *http.Request) {
			for i := range 512 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 4000))
			}
			_, _ = io.WriteString(w, `{"errcode":0}`)
		},
	})
	answer := g.Ask(http.MethodGet, "/cgi-bin/large", "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if answer.ErrCode != -1 {
		t.Errorf("an answer with a header of 2 MB is passed on: %.100s", answer.Body)
	}
}

// A caller who asks for ranges of an answer gets no pieces of a token that some server on
// the way has quoted in it: in a piece it is not found, and he could put them together.
func TestRealTokenIsNotToldInRanges(t *testing.T) {
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{
		"/cgi-bin/echo": func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "echo.txt", time.Time{}, strings.NewReader(r.RequestURI))
		},
	})
	var pieces strings.Builder
	for begin := 0; begin < 400; begin += 40 {
		header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", begin, begin+39))
		pieces.WriteString(g.Ask(http.MethodGet, "/cgi-bin/echo", "", header).Body)
	}
	if strings.Contains(pieces.String(), g.WeChat.ValidToken("authorizer", gwtest.OfficialAccount)) {
		t.Error("the pieces of an answer have the real token in them")
	}
}

// A server on the way that does not expect a body with GET takes it for the next request,
// and one that does not know HEAD answers it with a body. What it sends then belongs to
// nobody, and must not become the answer to the call of another client.
func TestNoCallShiftsTheAnswersOfOthers(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n"
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{
		"/cgi-bin/naive": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			time.AfterFunc(time.Second, func() { conn.Close() })
			_, _ = io.WriteString(conn, answer)
			if r.Method != http.MethodHead {
				_, _ = io.WriteString(conn, `{"errcode":0}`)
			}
			time.Sleep(30 * time.Millisecond) // it works at what it takes for the next request
			_, _ = io.WriteString(conn, answer+`{"poison": 1}`)
		},
	})
	bearer := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	for method, body := range map[string]string{http.MethodGet: "GET /cgi-bin/other HTTP/1.1\r\nHost: x\r\n\r\n", http.MethodHead: ""} {
		for range 3 {
			g.Do(method, "/cgi-bin/naive", body, bearer)
			if shown := g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", bearer).Body; strings.Contains(shown, "poison") {
				t.Errorf("after %s with a body of %d bytes another call is answered %s", method, len(body), shown)
				break
			}
		}
	}
}
