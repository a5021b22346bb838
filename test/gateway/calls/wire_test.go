// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The query is spliced: the real token takes the place of everything that
// could be read as a token, no credential of the gateway's travels on, and
// every other byte stays as the client wrote it.
func TestQueryIsSpliced(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	real := "access_token=" + g.WeChat.ValidToken(sandbox.KindAuthorizer, gwtest.OfficialAccount)
	for name, row := range map[string]struct{ sent, want string }{
		"alone":                           {"access_token=" + token, ""},
		"in the middle":                   {"a=1&access_token=" + token + "&b=2", "&a=1&b=2"},
		"in an escaped spelling":          {"access%5Ftoken=" + token + "&a=1", "&a=1"},
		"in capitals":                     {"a=1&Access_Token=" + token, "&a=1"},
		"under the component's name":      {"component_access_token=" + token + "&a=1", "&a=1"},
		"twice, the second not ours":      {"access_token=" + token + "&a=1&access_token=other", "&a=1"},
		"empty first":                     {"access_token=&a=1&access_token=" + token, "&a=1"},
		"as a list":                       {"access_token[]=" + token + "&a=1", "&a=1"},
		"after a semicolon":               {"a=1;access_token=" + token + "&b=2", "&a=1&b=2"},
		"a second one after a semicolon":  {"access_token=" + token + "&a=1;component_access_token=x;b=2", "&a=1;b=2"},
		"a client secret beside it":       {"access_token=" + token + "&secret=" + gwtest.ClientSecret + "&a=1", "&a=1"},
		"a gateway token under any name":  {"access_token=" + token + "&x=" + token + "&a=1", "&a=1"},
		"an escaped gateway token":        {"access_token=" + token + "&x=%67w1" + token[3:] + "&a=1", "&a=1"},
		"a client secret without a name":  {"access_token=" + token + "&" + gwtest.ClientSecret + "&a=1", "&a=1"},
		"escapes of the client's own":     {"q=%E4%BD%a0%20+%2B&access_token=" + token, "&q=%E4%BD%a0%20+%2B"},
		"characters nobody escaped":       {"access_token=" + token + "&q=你好,{}|^`'\"", "&q=你好,{}|^`'\""},
		"what no parser would take":       {"%zz=%&access_token=" + token + "&&=&a&b=1=2&c=1;2", "&%zz=%&&=&a&b=1=2&c=1;2"},
		"a signature of the client's own": {"access_token=" + token + "&sig_method=hmac_sha256&signature=0aF%3D%3d", "&sig_method=hmac_sha256&signature=0aF%3D%3d"},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			answer := g.SendRaw(t, "GET "+gwtest.AuthorizerPath+"?"+row.sent+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
			if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || strings.Contains(answer, "Wechat-Gateway-Error") {
				t.Fatalf("answered %s", answer)
			}
			if call := onlyCall(t, g, gwtest.AuthorizerPath); call.RawQuery != real+row.want {
				t.Errorf("WeChat saw\n%q, want\n%q", call.RawQuery, real+row.want)
			}
		})
	}
}

// A call without a body says so by silence: no length, no encoding, no byte.
func TestCallWithoutABodyHasNone(t *testing.T) {
	for _, proto := range []string{"plain", "TLS", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			var seen *http.Request
			var body []byte
			g := startOver(t, proto, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
				seen = r
				body, _ = io.ReadAll(r.Body)
				gwtest.AnswerOK(w, r)
			}})
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if answer := g.Ask(method, gwtest.SendPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.Status != http.StatusOK {
					t.Fatalf("%s: answered %d %s", method, answer.Status, answer.Body)
				}
				if length := seen.Header["Content-Length"]; length != nil || seen.TransferEncoding != nil || len(body) > 0 || seen.ContentLength > 0 {
					t.Errorf("%s: WeChat saw the length %v, the encoding %v, the body %q", method, length, seen.TransferEncoding, body)
				}
				if seen.ProtoMajor == 1 && seen.ContentLength != 0 {
					t.Errorf("%s: WeChat saw the length %d", method, seen.ContentLength)
				}
			}
		})
	}
}

// WeChat learns nothing of who calls the gateway and how; what the client
// meant for WeChat arrives as it was sent.
func TestHeadersOnTheWayUp(t *testing.T) {
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, gwtest.AnswerOK)})
	header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	for _, name := range []string{
		"Cookie", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "Forwarded", "X-Real-Ip",
		"Via", "Idempotency-Key", "X-Idempotency-Key", "Proxy-Authorization", "Te", "Keep-Alive", "Accept-Charset", "A-Im",
	} {
		header.Set(name, "leak=1")
	}
	kept := http.Header{
		"Content-Type":         {"application/json; charset=UTF-8"},
		"User-Agent":           {"sdk/1.0"},
		"Accept":               {"*/*"},
		"Accept-Encoding":      {"identity"},
		"Wechatmp-Appid":       {gwtest.OfficialAccount},
		"Wechatmp-Timestamp":   {"1700000000"},
		"Wechatmp-Signature":   {"a+b/c=="},
		"X-Of-The-Clients-Own": {"one", "two"},
	}
	for name, values := range kept {
		header[name] = values
	}
	body := "{\"msg\":\"你好 \\u4f60 &<>\", \"iv\":\"\xff\xfe\"}\n" // a signature covers every byte
	if answer := g.Ask(http.MethodPost, gwtest.SendPath, body, header); answer.ErrCode != 0 {
		t.Fatalf("answered %s", answer.Body)
	}
	kept["Accept-Encoding"] = []string{"gzip"} // between the gateway and WeChat alone
	kept["Content-Length"] = []string{fmt.Sprint(len(body))}
	kept["Wechat-Gateway"] = []string{"1"} // so that a gateway which calls itself notices
	want := []gwtest.SeenRequest{{
		Method: "POST", Host: strings.TrimPrefix(g.API, "http://"),
		URI:    gwtest.SendPath + "?access_token=" + g.WeChat.ValidToken(sandbox.KindAuthorizer, gwtest.OfficialAccount),
		Header: kept, Body: body,
	}}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("WeChat saw another request (-want +got):\n%s", diff)
	}
}

// An upgrade would make the connection a tunnel: h2c in it reaches paths that
// no rule here has seen.
func TestUpgradeIsNotForwarded(t *testing.T) {
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "h2c")
		w.WriteHeader(http.StatusSwitchingProtocols)
	})})
	answer := g.SendRaw(t, "GET "+gwtest.SendPath+"?access_token="+g.Token(gwtest.OfficialAccount)+" HTTP/1.1\r\nHost: gateway\r\n"+
		"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 502 ") {
		t.Errorf("answered %s", answer)
	}
	if len(seen) != 1 || seen[0].Header.Get("Upgrade") != "" || seen[0].Header.Get("Connection") != "" {
		t.Errorf("WeChat saw %v", seen)
	}
}

// Bodies pass byte for byte in both directions. What WeChat compresses comes
// decompressed, whether the caller knows gzip or not.
func TestBodiesByteForByte(t *testing.T) {
	sealed := `{"iv":"a+b/","data":"` + strings.Repeat("x", 3000) + `","authtag":"=="}`
	odd := "\uFEFF{\"nickname\":\"\x01\x02\xff\"}"
	var seen []gwtest.SeenRequest
	var answer http.HandlerFunc
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Wechatmp-Signature", "a+b/c==")
		w.Header().Set("Content-Type", "application/json; encoding=utf-8")
		answer(w, r)
	})})
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		accept string
		want   string
	}{
		"plain":                           {says(odd), "gzip, deflate", odd},
		"compressed":                      {compressing(sealed), "gzip, deflate", sealed},
		"compressed, unknown to a caller": {compressing(sealed), "", sealed},
	} {
		t.Run(name, func(t *testing.T) {
			answer, seen = row.answer, nil
			header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			header["Content-Encoding"] = []string{"gzip"}
			if row.accept != "" {
				header["Accept-Encoding"] = []string{row.accept}
			}
			response, body := g.Do(http.MethodPost, gwtest.SendPath, gwtest.Gzipped(sealed), header)
			if body != row.want || response.Header.Get("Content-Encoding") != "" || response.Header.Get("Wechatmp-Signature") != "a+b/c==" ||
				response.Header.Get("Content-Type") != "application/json; encoding=utf-8" {
				t.Errorf("the answer came as %.100q with %v", body, response.Header)
			}
			if len(seen) != 1 || seen[0].Body != gwtest.Gzipped(sealed) || seen[0].Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("the request went as %d: %.100v", len(seen), seen)
			}
		})
	}
}

// compressing answers with a text that is compressed, as long as that is asked for.
func compressing(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			says(text)(w, r)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		says(gwtest.Gzipped(text))(w, r)
	}
}

// Compression is asked for where an answer has a body of its own, unless it is
// switched off. Otherwise it is asked for not to come, and refused if it does.
func TestCompressionIsAskedFor(t *testing.T) {
	const text = "{\"errcode\":0}"
	for options, want := range map[string]string{"": "gzip", "transport http {\ncompression off\n}": "identity"} {
		t.Run(options, func(t *testing.T) {
			var seen []gwtest.SeenRequest
			g := gwtest.StartWithRoutes(t, gwtest.Options{Proxy: options}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Content-Encoding", "gzip")
				says(gwtest.Gzipped(text))(w, r)
			})})
			for call, want := range map[string]string{"GET": want, "POST": want, "HEAD": "identity", "GET a part": "identity"} {
				seen = nil
				header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
				header.Set("Accept-Encoding", "gzip") // or net/http would unpack for this test
				method, part, _ := strings.Cut(call, " ")
				if part != "" {
					header.Set("Range", "bytes=0-9")
				}
				response, body := g.Do(method, gwtest.SendPath, "", header)
				if len(seen) != 1 || seen[0].Header.Get("Accept-Encoding") != want {
					t.Errorf("%s asks with %v, want %q", call, seen, want)
				}
				switch {
				case method == http.MethodHead:
					if response.StatusCode != 200 || body != "" {
						t.Errorf("%s brings %d %q", call, response.StatusCode, body)
					}
				case want == "gzip":
					if response.StatusCode != 200 || response.Header.Get("Content-Encoding") != "" || body != text {
						t.Errorf("%s brings %d %q with %v", call, response.StatusCode, body, response.Header)
					}
				case response.StatusCode != 502 || response.Header.Get("Wechat-Gateway-Error") != "unreachable":
					t.Errorf("%s brings %d %q with %v", call, response.StatusCode, body, response.Header)
				}
			}
		})
	}
}

// WeChat may repeat what it was sent: no header, trailer or informational
// answer brings the real token to the client, nor the address of a server
// past the gateway.
func TestEchoedTokenIsScrubbed(t *testing.T) {
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		real := r.URL.Query().Get("access_token")
		w.Header().Set("Link", "</x?access_token="+real+">")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "X-Announced")
		w.Header().Set("Location", "https://api.weixin.qq.com/x?access_token="+real+"&a=1")
		w.Header().Set("X-Echo", real+" and "+real)
		w.Header().Set("Alt-Svc", `h2="elsewhere.example:443"`)
		w.WriteHeader(http.StatusFound)
		_, _ = io.WriteString(w, "moved")
		w.Header().Set("X-Announced", real)
		w.Header().Set(http.TrailerPrefix+"X-Surprise", real)
	}})
	answer := g.SendRaw(t, "GET "+gwtest.SendPath+"?access_token="+g.Token(gwtest.OfficialAccount)+" HTTP/1.1\r\nHost: gateway\r\nTe: trailers\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 302 ") || !strings.Contains(answer, "access_token=REDACTED&a=1\r\n") ||
		!strings.Contains(answer, "moved") || strings.Contains(answer, "Alt-Svc") {
		t.Errorf("answered %s", answer)
	}
	g.SearchCredentials("answer", []byte(answer))
}

// An error in the place of an answer may quote what was sent, too; with access
// logs and every placeholder that could hold the query at DEBUG level, the
// search at the end of the test finds nothing.
func TestTokenStaysOutOfLogs(t *testing.T) {
	g := gwtest.StartWithRoutes(t, gwtest.Options{
		Proxy: "}\nlog_append uri {http.request.uri}\nlog_append query {http.request.uri.query}\nlog_append user {http.auth.user.id}\nlog {\n",
	}, map[string]http.HandlerFunc{
		gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "%s %s is what I was sent\r\n\r\n", r.Method, r.RequestURI)
		},
	})
	token := g.Token(gwtest.OfficialAccount)
	answer := g.AskGet(gwtest.SendPath + "?access_token=" + token)
	if answer.Status != 502 || answer.ErrCode != -1 || answer.Slug != "unreachable" {
		t.Errorf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
	}
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.ErrCode != 0 {
		t.Errorf("answered %s", answer.Body)
	}
	if logs := g.Logs(); !strings.Contains(logs, `"user":"shop"`) || !strings.Contains(logs, "handled request") {
		t.Errorf("the access log is not what this test needs:\n%s", logs)
	}
}
