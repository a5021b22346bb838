// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// With the component's token WeChat tells every credential of the platform and of
// its accounts, on paths that nobody here knows yet. A client with component_api
// would have them for good: no right that is taken away later takes them back.
func TestCredentialsAreWithheldFromAnswersToComponentCalls(t *testing.T) {
	const unknown, known, knownToo, folder = "/cgi-bin/component/unheard_of", gwtest.ComponentPath, "/wxa/GetTemplateDraftList", "/wxa/component/new"
	all := `{"errcode":0,"authorizer_refresh_token":"r","access_token":"a","refresh_token":"f","list":[{"Component_Access_Token":"c","authorization_code":"","x":"\u4f60"}],"appsecret":null}`
	withheld := strings.NewReplacer(`"r"`, `"withheld"`, `"c"`, `"withheld"`)
	everyToken := strings.NewReplacer(`"a"`, `"withheld"`, `"f"`, `"withheld"`)
	long := `{"pad":"` + strings.Repeat("x", 1<<20-len(`{"pad":"","appsecret":"s"}`)) + `","appsecret":"s"}`
	var kind, answer string
	respond := func(w http.ResponseWriter, r *http.Request) {
		gwtest.Answer(kind, answer, len(answer)%2 == 0 && len(answer) < 1000)(w, r)
	}
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: gwtest.ManyClients()}, map[string]http.HandlerFunc{
		unknown: respond, known: respond, knownToo: respond, folder: respond, gwtest.EitherPath: respond, gwtest.SendPath: respond, "/sns/component/jscode2session": respond, "/sns/component/unheard_of": respond,
	})
	component := gwtest.Bearer(gwtest.PlatformSecret, g.WeChat.Component())
	account := gwtest.Bearer(gwtest.PlatformSecret, gwtest.OfficialAccount)
	const json = "application/json; charset=utf-8"
	for name, row := range map[string]struct {
		path, kind, answer, want string
		header                   http.Header
	}{
		"an unknown path":                 {unknown, json, all, everyToken.Replace(withheld.Replace(all)), component},
		"a known path in capitals":        {knownToo, json, all, withheld.Replace(all), component},
		"an unknown path of a family":     {folder, json, all, everyToken.Replace(withheld.Replace(all)), component},
		"an unknown path below /sns":      {"/sns/component/unheard_of", "text/plain", all, everyToken.Replace(withheld.Replace(all)), component},
		"a known path":                    {known, json, all, withheld.Replace(all), component},
		"a path of both levels":           {gwtest.EitherPath, json, all, withheld.Replace(all), component},
		"an account's call there":         {gwtest.EitherPath, json, all, all, account},
		"an account's call":               {gwtest.SendPath, json, all, all, account},
		"a login":                         {"/sns/component/jscode2session?appid=" + gwtest.OfficialAccount, "text/plain", all, all, component},
		"JSON that says text":             {unknown, "text/plain", " \r\n" + all, " \r\n" + everyToken.Replace(withheld.Replace(all)), component},
		"JSON behind many blanks":         {unknown, "text/plain", strings.Repeat("\n", 5000) + all, strings.Repeat("\n", 5000) + everyToken.Replace(withheld.Replace(all)), component},
		"JSON that says nothing":          {unknown, "", "[" + all + "]", "[" + everyToken.Replace(withheld.Replace(all)) + "]", component},
		"JSON that says it is a file":     {unknown, "application/octet-stream", all, everyToken.Replace(withheld.Replace(all)), component},
		"JSON behind a mark":              {unknown, json, "\uFEFF" + all, "\uFEFF" + everyToken.Replace(withheld.Replace(all)), component},
		"JSON in JSON":                    {unknown, json, `{"data":"{\"appsecret\":\"s\"}"}`, `{"data":"{\"appsecret\":\"withheld\"}"}`, component},
		"compressed JSON":                 {unknown, json, gwtest.Gzipped(all), everyToken.Replace(withheld.Replace(all)), component},
		"no JSON":                         {unknown, "text/plain", "success", "success", component},
		"nothing":                         {unknown, json, "", "", component},
		"a picture":                       {unknown, "image/png", "\x89PNG", "\x89PNG", component},
		"1 MiB":                           {unknown, json, long, strings.Replace(long, `"s"`, `"withheld"`, 1), component},
		"more than 1 MiB":                 {unknown, json, " " + long, "502", component},
		"more than 1 MiB that says text":  {unknown, "text/plain", " " + long, "502", component},
		"half of it":                      {unknown, json, all[:60], "502", component},
		"something behind it":             {unknown, "text/plain", all + all, "502", component},
		"more than 1 MiB that is no JSON": {unknown, "text/plain", "x" + long, "x" + long, component},
	} {
		t.Run(name, func(t *testing.T) {
			kind, answer = row.kind, row.answer
			method, content := http.MethodPost, "{}"
			if name == "a login" {
				method, content = http.MethodGet, ""
			}
			response, body := g.Do(method, row.path, content, row.header)
			if row.want == "502" {
				if response.StatusCode != http.StatusBadGateway || errcodeOf(t, body) != -1 {
					t.Errorf("answered %d %.200s", response.StatusCode, body)
				}
				return
			}
			if response.StatusCode != 200 || body != row.want {
				t.Errorf("answered %d %.300s, want %.300s", response.StatusCode, body, row.want)
			}
			if length := response.Header.Get("Content-Length"); length != "" && length != fmt.Sprint(len(row.want)) {
				t.Errorf("Content-Length is %s for %d bytes", length, len(row.want))
			}
		})
	}
	kind, answer = json, all
	if response, body := g.Do(http.MethodHead, unknown, "", component); response.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: answered %d %q", response.StatusCode, body)
	}
}

// A server that frames otherwise sends the rest of one caller's answer when the next
// call comes over the same connection: that call may be another client's. What a
// caller can send to bring this about leads to a connection of its own.
func TestAnswersAreNotShifted(t *testing.T) {
	evil := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n" + `{"errcode":0,"errmsg":"another"}`
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		status := r.Header.Get("X-Status")
		conn, in, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		go func() {
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
			if _, err := http.ReadRequest(in.Reader); err == nil {
				_, _ = io.WriteString(conn, evil)
				_, _ = io.Copy(io.Discard, conn)
			}
		}()
	}})
	large := strings.Repeat("x", 100<<10) // goes another way than short calls
	for name, row := range map[string]struct{ method, status, content string }{
		"HEAD":                    {"HEAD", "200 OK", ""},
		"GET with a body":         {"GET", "200 OK", "{}"},
		"GET with a large body":   {"GET", "200 OK", large},
		"GET answered 204":        {"GET", "204 No Content", ""},
		"GET answered 304":        {"GET", "304 Not Modified", ""},
		"POST answered 204":       {"POST", "204 No Content", "{}"},
		"large POST answered 204": {"POST", "204 No Content", large},
		"large POST answered 304": {"POST", "304 Not Modified", large},
	} {
		t.Run(name, func(t *testing.T) {
			header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			header.Set("X-Status", row.status)
			if answer, err := g.Try(http.DefaultClient, row.method, gwtest.SendPath, row.content, header); err != nil || answer.Slug != "" {
				t.Fatalf("answered %d %s, %v", answer.Status, answer.Body, err)
			}
			for _, content := range []string{"", "{}", large} {
				for range 2 {
					method := http.MethodPost
					if content == "" {
						method = http.MethodGet
					}
					if answer := g.Ask(method, gwtest.AuthorizerPath, content, gwtest.Bearer(gwtest.ClientSecret, gwtest.MiniProgram)); strings.Contains(answer.Body, "another") || answer.Status != 200 {
						t.Errorf("the next call is answered %d %s", answer.Status, answer.Body)
					}
				}
			}
		})
	}
}

// Whoever waits for 100 Continue may never send the body, and whoever does not want
// it reads it as the next request. The gateway settles that with the caller alone.
func TestExpectStaysHere(t *testing.T) {
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: gwtest.Record(&seen, gwtest.AnswerOK)})
	for _, length := range []int{2, 100 << 10} {
		seen = nil
		body := strings.Repeat("x", length)
		answer := g.SendRaw(t, "POST "+gwtest.SendPath+"?access_token="+g.Token(gwtest.OfficialAccount)+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nExpect: 100-continue\r\n"+
			fmt.Sprintf("Content-Length: %d\r\n\r\n", length)+body)
		if !strings.Contains(answer, "HTTP/1.1 200 OK") || len(seen) != 1 || seen[0].Header["Expect"] != nil || seen[0].Body != body {
			t.Errorf("answered %s, WeChat saw %.300v", answer, seen)
		}
	}
}

// A blank or a control character would divide the request line, or begin another
// header. In the path, the query or a header it is refused before anything is sent,
// in HTTP/1 and in HTTP/2, whose frames can carry any byte.
func TestBlanksAndControlCharactersGoNowhere(t *testing.T) {
	// A directive of Caddy's can put what a caller sent into a header.
	g := gwtest.StartWithTokens(t, gwtest.Options{
		Global: "servers {\nprotocols h1 h2c\n}",
		Proxy:  "}\n@decoded query q=*\nrequest_header @decoded X-Own {http.request.uri.query.q}\nrequest_body {\nmax_size 1MiB\n",
	})
	token := g.Token(gwtest.OfficialAccount)
	target := gwtest.AuthorizerPath + "?access_token=" + token
	for name, row := range map[string]struct{ path, header, value string }{
		"a blank in the path":                  {gwtest.AuthorizerPath + " ?access_token=" + token, "", ""},
		"a protocol in the path":               {"/cgi-bin/user HTTP/1.1?access_token=" + token, "", ""},
		"a line break in the path":             {"/cgi-bin\r\nX-Own: 1?access_token=" + token, "", ""},
		"a blank in the query":                 {target + "&a=b c", "", ""},
		"a protocol in the query":              {target + "&a=b HTTP/1.0", "", ""},
		"a blank before the token":             {gwtest.AuthorizerPath + "?a= &access_token=" + token, "", ""},
		"a tab in the query":                   {target + "&a=\tb", "", ""},
		"a line break in the query":            {target + "&a=b\r\nX-Own: 1", "", ""},
		"a line feed in the query":             {target + "&a=b\nc", "", ""},
		"a NUL in the query":                   {target + "&a=\x00", "", ""},
		"DEL in the query":                     {target + "&a=\x7f", "", ""},
		"a blank at a token endpoint":          {gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret) + "&a=b c", "", ""},
		"a line break in a header":             {target, "x-own", "a\r\nx-more: b"},
		"a NUL in a header":                    {target, "x-own", "a\x00b"},
		"a blank in a header's name":           {target, "x own", "a"},
		"a line break in a header's name":      {target, "x-own\r\nx-more", "a"},
		"a line break decoded into a header":   {target + "&q=a%0d%0aX-More:1", "", ""},
		"a NUL decoded into a header":          {target + "&q=a%00b", "", ""},
		"a NUL decoded, in front of the token": {gwtest.AuthorizerPath + "?q=a%00b&access_token=" + token, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			g.WeChat.ResetCounts()
			raw := "GET " + row.path + " HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
			if row.header != "" {
				raw += row.header + ": " + row.value + "\r\n"
			}
			// A line break in HTTP/1 is one: what follows it is a header like others.
			if !strings.Contains(row.path+row.header+row.value, "\n") {
				if answer := g.SendRaw(t, raw+"\r\n"); !refusedClearly(answer) {
					t.Errorf("HTTP/1: answered %s", answer)
				}
			}
			if status, answer := askHTTP2(t, g, row.path, row.header, row.value); !refusedClearly(status + answer) {
				t.Errorf("HTTP/2: answered %s %s", status, answer)
			}
			if calls := g.WeChat.Calls(); len(calls) != 0 {
				t.Errorf("WeChat saw %s?%s with %v", calls[0].Path, calls[0].RawQuery, calls[0].Header)
			}
		})
	}
	if status, answer := askHTTP2(t, g, target, "x-own", "a"); status != "200" || !strings.Contains(answer, `"total"`) {
		t.Errorf("a call without any is answered %s %s", status, answer)
	}
}

// refusedClearly reports whether an answer says that the request is wrong: in WeChat's
// shape, by status 400, or in HTTP/2 by the reset of the stream as malformed.
func refusedClearly(answer string) bool {
	return strings.Contains(answer, `"errcode":47001`) || strings.Contains(answer, `"errcode":48001`) ||
		strings.HasPrefix(answer, "HTTP/1.1 400 ") || answer == "reset PROTOCOL_ERROR"
}

// askHTTP2 sends a GET with any bytes in its path and in one header, and returns
// status and body of the answer. Clients of Go send no such bytes.
func askHTTP2(t *testing.T, g *gwtest.Gateway, path, header, value string) (status, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, bufio.NewReader(conn))
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = framer.WriteSettings()
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	fields := []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "gateway"}, {Name: ":path", Value: path}}
	if header != "" {
		fields = append(fields, hpack.HeaderField{Name: header, Value: value})
	}
	for _, field := range fields {
		_ = encoder.WriteField(field)
	}
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("reading the answer: %v", err)
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			status = frame.PseudoValue("status")
		case *http2.DataFrame:
			body += string(frame.Data())
		case *http2.RSTStreamFrame:
			return "reset ", frame.ErrCode.String()
		case *http2.GoAwayFrame:
			return "reset ", frame.ErrCode.String()
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) && frame.Header().StreamID == 1 {
			return status, body
		}
	}
}
