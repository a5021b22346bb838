// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// A path that WeChat might read as another one than the rules do is refused,
// not repaired: else an allowed path would be the way to every other.
func TestPathsOfTwoReadings(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Clients: gwtest.ManyClients()})
	narrow := tokenOf(t, g, gwtest.OfficialAccount, gwtest.NarrowSecret)
	for _, path := range []string{
		"/cgi-bin/user/../message/custom/send", "/cgi-bin/user/./get", "/cgi-bin/user/..", "/cgi-bin/user/%2e%2e/message/custom/send",
		"/cgi-bin/user/%2E./get", "//cgi-bin/user/get", "/cgi-bin//user/get", "/cgi-bin/user/get/", "/cgi-bin/user%2Fget",
		"/cgi-bin/user/..%2fmessage/custom/send", "/cgi-bin/user/..%5cmessage", `/cgi-bin/user/..\message`, `/cgi-bin\user/get`,
		"/cgi-bin/user/get;a=b", "/cgi-bin/user/get%3Ba", "/cgi-bin/user/get%00", "/cgi-bin/user/get%20", "/cgi-bin/user/get%0d%0aX:1",
		"/cgi-bin/us%65r/get", "/cgi-bin/user/get.", "/cgi-bin/user/get%23", "/cgi-bin/user/get#", "/cgi-bin/user/%zz", "/cgi-bin/user/\x7f",
		"/", "", "*", "cgi-bin/user/get", "/cgi-bin/用户/get", "/cgi-bin/user/" + strings.Repeat("x", 600),
	} {
		answer := g.SendRaw(t, "GET "+path+"?access_token="+narrow+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
		if !strings.Contains(answer, `"errcode":48001`) && !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			t.Errorf("%q: answered %s", path, answer)
		}
	}
	if calls := g.WeChat.Calls(); len(calls) != 0 {
		t.Errorf("WeChat saw %d calls, the first to %q", len(calls), calls[0].Path)
	}
}

// WeChat uses GET and POST. TRACE would answer with the request, real token
// included; CONNECT would make the gateway a way to anywhere.
func TestMethods(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	target := gwtest.AuthorizerPath + "?access_token=" + token
	for _, method := range []string{"TRACE", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "get", "PRI", "GET/POST"} {
		answer := g.SendRaw(t, method+" "+target+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
		if !strings.Contains(answer, `"errcode":48001`) && !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			t.Errorf("%s: answered %s", method, answer)
		}
	}
	answer := g.SendRaw(t, "CONNECT api.weixin.qq.com:443 HTTP/1.1\r\nHost: api.weixin.qq.com:443\r\nConnection: close\r\n\r\n")
	if !strings.Contains(answer, `"errcode":48001`) {
		t.Errorf("CONNECT: answered %s", answer)
	}
	if calls := g.WeChat.Calls(); len(calls) != 0 {
		t.Errorf("WeChat saw %d calls, the first %s", len(calls), calls[0].Method)
	}
	if answer := g.SendRaw(t, "HEAD "+target+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n"); strings.Contains(answer, "Wechat-Gateway-Error") {
		t.Errorf("HEAD: answered %s", answer)
	}
}

// The request line and the Host header are the client's to choose; where the
// call goes is not.
func TestOnlyTheConfiguredHostIsCalled(t *testing.T) {
	var elsewhere []gwtest.SeenRequest
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	other := gwtest.Serve(t, gwtest.Record(&elsewhere, gwtest.AnswerOK))
	token := g.Token(gwtest.OfficialAccount)
	for name, head := range map[string]string{
		"an absolute request line":         "GET " + other + gwtest.AuthorizerPath + "?access_token=" + token + " HTTP/1.1\r\nHost: gateway\r\n",
		"the same for another Host":        "GET " + other + gwtest.AuthorizerPath + "?access_token=" + token + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(other, "http://") + "\r\n",
		"with a user in it":                "GET http://api.weixin.qq.com@" + strings.TrimPrefix(other, "http://") + gwtest.AuthorizerPath + "?access_token=" + token + " HTTP/1.1\r\nHost: gateway\r\n",
		"another Host":                     "GET " + gwtest.AuthorizerPath + "?access_token=" + token + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(other, "http://") + "\r\n",
		"headers that name another host":   "GET " + gwtest.AuthorizerPath + "?access_token=" + token + " HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-Host: " + other + "\r\nX-Original-Url: " + other + "\r\n",
		"HTTP/1.0 with nothing but a path": "GET " + gwtest.AuthorizerPath + "?access_token=" + token + " HTTP/1.0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := g.SendRaw(t, head+"Connection: close\r\n\r\n")
			if !strings.Contains(answer, " 200 OK") || strings.Contains(answer, "Wechat-Gateway-Error") {
				t.Errorf("answered %s", answer)
			}
			if call := onlyCall(t, g, gwtest.AuthorizerPath); call.Host != strings.TrimPrefix(g.API, "http://") {
				t.Errorf("WeChat was called as %s", call.Host)
			}
		})
	}
	if len(elsewhere) != 0 {
		t.Errorf("another host was called: %v", elsewhere)
	}
}

// One connection carries one caller's requests: no framing may make WeChat
// read a request that was not checked here.
func TestRequestSmuggling(t *testing.T) {
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, gwtest.AnswerOK)})
	target := gwtest.SendPath + "?access_token=" + g.Token(gwtest.OfficialAccount)
	inner := "POST " + gwtest.ComponentPath + " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
	post := "POST " + target + " HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
	for name, row := range map[string]struct {
		request string
		body    string // that WeChat sees; refused if "-"
	}{
		"two lengths":                 {post + "Content-Length: 2\r\nContent-Length: 60\r\n\r\n{}" + inner, "-"},
		"a length with a sign":        {post + "Content-Length: +2\r\n\r\n{}" + inner, "-"},
		"a negative length":           {post + "Content-Length: -1\r\n\r\n{}" + inner, "-"},
		"a space before the colon":    {post + "Content-Length : 2\r\n\r\n{}" + inner, "-"},
		"an unknown transfer coding":  {post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner, "-"},
		"two transfer codings":        {post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner, "-"},
		"a chunk size that is none":   {post + "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n" + inner, "-"},
		"a folded header":             {post + "X-A: b\r\n Content-Length: 100\r\nContent-Length: 2\r\n\r\n{}" + inner, "{}"},
		"a bare carriage return":      {post + "X-A: b\rContent-Length: 100\r\n\r\n", "-"},
		"a length beside chunks":      {post + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 12+len(inner)) + inner, "{}"},
		"more behind the body":        {post + "Content-Length: 2\r\n\r\n{}" + inner, "{}"},
		"a credential in the trailer": {post + "Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer " + gwtest.ClientSecret + "\r\n\r\n", "{}"},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			g.WeChat.ResetCounts()
			answer := g.SendRaw(t, row.request)
			switch {
			case row.body == "-":
				if len(seen) != 0 || strings.Contains(answer, `"errcode":0`) {
					t.Errorf("answered %s, WeChat saw %v", answer, seen)
				}
			case len(seen) != 1 || seen[0].Body != row.body || seen[0].Header.Get("Transfer-Encoding") != "":
				t.Errorf("answered %s, WeChat saw %v", answer, seen)
			}
			if calls := g.WeChat.Calls(); len(calls) != 0 {
				t.Errorf("WeChat saw a call to %s", calls[0].Path)
			}
		})
	}
}

// A limit on bodies that stands in Caddy's configuration is said in WeChat's
// shape, whether the body was kept for a replay or streamed. (Of a length that
// is announced Caddy itself says so.)
func TestBodyLimitOfCaddy(t *testing.T) {
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, gwtest.AnswerOK)})
	token := g.Token(gwtest.OfficialAccount)
	for _, kept := range []string{"1KiB", "64KiB"} {
		g.Change(func(o *gwtest.Options) { o.Proxy = "max_replay_body " + kept + "\n}\nrequest_body {\nmax_size 4KiB\n" })
		answer := g.SendRaw(t, "POST "+gwtest.SendPath+"?access_token="+token+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"+
			"Transfer-Encoding: chunked\r\n\r\n1388\r\n"+strings.Repeat("x", 5000)+"\r\n0\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 413 ") || !strings.Contains(answer, `"errcode":47001`) {
			t.Errorf("with %s kept: answered %s", kept, answer)
		}
	}
	if len(seen) != 0 {
		t.Errorf("WeChat saw %d whole requests", len(seen))
	}
}

// A redirect or an error page of some server between here and WeChat quotes
// the address it was called by, real token included.
func TestPageThatQuotesTheAddress(t *testing.T) {
	for _, encoding := range []string{"", "gzip", "br"} {
		t.Run("in "+encoding, func(t *testing.T) {
			g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
				page := "<a href=\"" + r.URL.String() + "\">Moved</a>"
				w.Header().Set("Content-Type", "text/html")
				if encoding != "" {
					w.Header().Set("Content-Encoding", encoding)
					page = gwtest.Gzipped(page)
				}
				w.WriteHeader(http.StatusBadGateway)
				_, _ = io.WriteString(w, page)
			}})
			response, body := g.Do(http.MethodGet, gwtest.SendPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
			g.SearchCredentials("the answer", []byte(body))
			switch {
			case response.StatusCode != http.StatusBadGateway || response.Header.Get("Content-Encoding") != "":
				t.Errorf("answered %s with %v", response.Status, response.Header)
			case encoding == "br" && !strings.Contains(body, `"errcode":-1`):
				t.Errorf("a page that cannot be searched is passed on: %q", body)
			case encoding != "br" && !strings.Contains(body, "access_token=***"):
				t.Errorf("the page is %q", body)
			}
		})
	}
}
