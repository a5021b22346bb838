// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// Somebody who knows no secret posts to an endpoint that the gateway answers
// itself, and sends a byte now and then. Ten seconds later he is answered, so he
// holds neither a connection nor a stopping process. The same over HTTP/2, where
// one connection has many requests.
func TestEndpointBodyOfAStrangerMustArriveInTime(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{
		Global: "skip_install_trust\nauto_https disable_redirects\nservers {\nprotocols h1 h2\n}",
		Sites:  "https://localhost:18083 {\ntls internal\nwechat_proxy\n}",
	})
	overTLS := &http.Client{Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, g.Sites)
		},
	}}
	t.Cleanup(overTLS.CloseIdleConnections)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // Caddy makes the certificate in the background
		response, err := overTLS.Get("https://localhost/cgi-bin/token")
		if err == nil {
			response.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}

	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, path := range []string{
		"/cgi-bin/token", "/cgi-bin/stable_token", "/cgi-bin/component/api_component_token", "/cgi-bin/component/api_start_push_ticket",
		"/sns/jscode2session", "/sns/oauth2/refresh_token",
	} {
		for _, to := range []struct {
			base   string
			client *http.Client
			proto  string
		}{{g.Proxy, http.DefaultClient, "HTTP/1.1"}, {"https://localhost", overTLS, "HTTP/2.0"}} {
			waiting.Go(func() {
				began := time.Now()
				proto, answer, err := trickle(t.Context(), to.client, to.base+path)
				if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
					// net/http leaves a client that still writes half a second to read the answer.
					proto, answer, err = trickle(t.Context(), to.client, to.base+path)
				}
				if err != nil || !strings.Contains(answer, `"errcode":47001`) || !strings.Contains(answer, "in time") || proto != to.proto {
					t.Errorf("%s %s: answered over %s after %v: %s, %v", to.proto, path, proto, time.Since(began), answer, err)
				}
			})
		}
	}
}

// trickle posts a body without end, of which a byte comes now and then, and returns what
// it is answered within 30 seconds, and over which HTTP.
func trickle(ctx context.Context, client *http.Client, address string) (proto, answer string, err error) {
	body, into := io.Pipe()
	defer body.Close()
	go func() {
		for {
			if _, err := into.Write([]byte(" ")); err != nil {
				return
			}
			time.Sleep(300 * time.Millisecond)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, body)
	if err != nil {
		return "", "", err
	}
	response, err := client.Do(r)
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.Proto, string(text), err
}

// A stranger whose credential stands in the header or in the query is refused
// before his body is read: the gateway does not tell him to send it.
func TestBodyOfAStrangerIsNotReadWhereItDecidesNothing(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for name, head := range map[string]string{
		"a wrong bearer secret":            "POST /cgi-bin/component/api_query_auth HTTP/1.1\r\nAuthorization: Bearer " + gwtest.UnknownSecret + "\r\n",
		"a login with a wrong secret":      "POST /sns/jscode2session?secret=" + gwtest.UnknownSecret + " HTTP/1.1\r\n",
		"a login with a forged token":      "POST /sns/jscode2session?access_token=gw1.forged HTTP/1.1\r\n",
		"a refresh with a wrong secret":    "POST /sns/oauth2/refresh_token?secret=" + gwtest.UnknownSecret + " HTTP/1.1\r\n",
		"a path of the platform, no token": "POST /wxa/gettemplatelist HTTP/1.1\r\n",
		"a forged gateway token":           "POST /cgi-bin/component/api_query_auth?component_access_token=gw1.forged HTTP/1.1\r\n",
		"no token":                         "POST /cgi-bin/component/api_authorizer_token HTTP/1.1\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		waiting.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "%sHost: gateway\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n", head)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode == http.StatusContinue || response.Header.Get("Wechat-Gateway-Error") == "" {
				t.Errorf("%s: answered %v, %v", name, response, err)
			}
		})
	}
}

// A secret or a gateway token that was stolen is worth nothing elsewhere: not at
// an endpoint that issues tokens, not at a login, not at any call. What WeChat
// saw is nothing, and what the log says names the client and the address.
func TestStolenSecretIsWorthNothingElsewhere(t *testing.T) {
	const code = "/sns/jscode2session?appid=" + gwtest.OfficialAccount + "&js_code=x&grant_type=authorization_code"
	client := func(from string) string {
		return "client shop {\nsecret " + gwtest.ClientSecret + "\nauthorizers *\ncomponent_api\n" + from + "\n}\n"
	}
	g := gwtest.StartWithTokens(t, gwtest.Options{
		Clients: client(""),
		Global:  "servers {\ntrusted_proxies static 127.0.0.1/32\ntrusted_proxies_strict\n}",
	})
	token, component := g.Token(gwtest.OfficialAccount), g.Issue(t, "shop", gwtest.ClientSecret, "", time.Now().Add(time.Hour))
	bearer := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	secretJSON := func(name string) string {
		return fmt.Sprintf(`{%q:%q,"appid":%q}`, name, gwtest.ClientSecret, gwtest.OfficialAccount)
	}
	calls := []struct {
		name, method, path, body string
		header                   http.Header
	}{
		{"token endpoint, query", "GET", gwtest.TokenPath(gwtest.OfficialAccount, gwtest.ClientSecret), "", nil},
		{"token endpoint, JSON", "POST", "/cgi-bin/stable_token", secretJSON("secret"), nil},
		{"token endpoint, form", "POST", "/cgi-bin/token", url.Values{"secret": {gwtest.ClientSecret}, "appid": {gwtest.OfficialAccount}}.Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}},
		{"token endpoint, bearer", "POST", "/cgi-bin/token", `{"appid":"` + gwtest.OfficialAccount + `"}`, bearer},
		{"component token endpoint", "POST", "/cgi-bin/component/api_component_token", secretJSON("component_appsecret"), nil},
		{"call for a ticket", "POST", "/cgi-bin/component/api_start_push_ticket", secretJSON("component_secret"), nil},
		{"quota", "POST", "/cgi-bin/clear_quota/v2", secretJSON("appsecret"), nil},
		{"endpoint, gateway token", "POST", "/cgi-bin/component/api_get_authorizer_list?access_token=" + component, "{}", nil},
		{"endpoint for either token", "POST", "/cgi-bin/openapi/rid/get?access_token=" + token, "{}", nil},
		{"call, gateway token", "GET", gwtest.AuthorizerPath + "?access_token=" + token, "", nil},
		{"call, bearer", "GET", gwtest.AuthorizerPath, "", bearer},
		{"component-level call", "GET", gwtest.ComponentPath + "?access_token=" + component, "", nil},
		{"login, secret", "GET", code + "&secret=" + gwtest.ClientSecret, "", nil},
		{"login, form", "POST", "/sns/jscode2session", "appid=" + gwtest.OfficialAccount + "&js_code=x&secret=" + gwtest.ClientSecret, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}},
		{"login, JSON", "POST", "/sns/oauth2/access_token", secretJSON("secret"), nil},
		{"login, gateway token in a body", "POST", "/sns/jscode2session", fmt.Sprintf(`{"appid":%q,"access_token":%q}`, gwtest.OfficialAccount, token), nil},
		{"login, bearer", "GET", code, "", gwtest.Bearer(gwtest.ClientSecret, "")},
		{"login, gateway token", "GET", code + "&access_token=" + token, "", nil},
	}
	ask := func(i int, forwarded string) gwtest.Reply {
		header := calls[i].header.Clone()
		if header == nil {
			header = make(http.Header)
		}
		if forwarded != "" {
			header.Set("X-Forwarded-For", forwarded)
		}
		return g.Ask(calls[i].method, calls[i].path, calls[i].body, header)
	}
	for _, row := range []struct {
		from, forwarded string
		admitted        bool
	}{
		{"from 127.0.0.1", "", true},
		{"from 10.0.0.0/8 127.0.0.0/8", "", true},
		{"from 198.51.100.7", "198.51.100.7", true},
		{"from 2001:db8::/32", "2001:db8:1::7", true},
		{"from 198.51.100.0/24", "::ffff:198.51.100.7", true},
		{"from ::ffff:198.51.100.0/120", "198.51.100.7", true},
		{"from 10.0.0.0/8", "", false},
		{"from 127.0.0.1", "198.51.100.7", false}, // the proxy's own address is not the caller's
		{"from 198.51.100.7", "198.51.100.7, 203.0.113.5", false},
		{"from ::/0", "198.51.100.7", false},
	} {
		g.Change(func(o *gwtest.Options) { o.Clients = client(row.from) })
		g.WeChat.ResetCounts()
		for i := range calls {
			answer := ask(i, row.forwarded)
			if refused := answer.Slug == "address"; refused == row.admitted || refused && (answer.Status != 200 || answer.ErrCode != 40164) {
				t.Errorf("%s, from %q: %s is answered %d %s", row.from, row.forwarded, calls[i].name, answer.Status, answer.Body)
			}
		}
		if seen := g.WeChat.Calls(); !row.admitted && len(seen) != 0 {
			t.Errorf("%s: WeChat saw a call to %s", row.from, seen[0].Path)
		}
	}
	for _, part := range []string{`"msg":"credential refused"`, `"slug":"address"`, `"address":"198.51.100.7"`, "client shop: "} {
		if !strings.Contains(g.Logs(), part) {
			t.Errorf("the log does not have %s", part)
		}
	}
}

// Somebody tries secrets, or an application was forgotten when its secret was
// replaced: the operator sees it, once a minute for each address and kind. What
// was tried stands nowhere.
func TestRefusedSecretsAreALineAMinute(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Global: "servers {\ntrusted_proxies static 127.0.0.1/32\n}"})
	const guess = "guess-secret-0123456789abcdef0123456"
	began := time.Now()
	for i := range 200 {
		secret := fmt.Sprintf("%s%03d", guess, i)
		from := func(address string) http.Header { return http.Header{"X-Forwarded-For": {address}} }
		bearer := gwtest.Bearer(secret, "")
		bearer.Set("X-Forwarded-For", fmt.Sprintf("2001:db8::%x", i+1))
		for want, answer := range map[string]gwtest.Reply{
			"client_secret": g.Ask("GET", gwtest.TokenPath(gwtest.OfficialAccount, secret), "", from("198.51.100.1")),
			"bearer":        g.Ask("GET", gwtest.AuthorizerPath, "", bearer),
			"token_unknown": g.Ask("GET", gwtest.AuthorizerPath+"?access_token=gw1."+secret, "", from("198.51.100.2")),
		} {
			if answer.Slug != want {
				t.Fatalf("want %s, answered %s", want, answer.Body)
			}
		}
	}
	lines := make(map[string]int)
	for line := range strings.Lines(g.Logs()) {
		if strings.Contains(line, guess) {
			t.Fatalf("a secret that was tried is logged: %s", line)
		}
		if strings.Contains(line, `"credential refused"`) && strings.Contains(line, `"level":"warn"`) {
			for _, part := range []string{`"slug":"client_secret","address":"198.51.100.1"`, `"slug":"bearer","address":"2001:db8::/64"`, `"slug":"token_unknown","address":"198.51.100.2"`} {
				if strings.Contains(line, part) {
					lines[part]++
				}
			}
		}
	}
	if len(lines) != 3 {
		t.Errorf("lines %v, want one of each kind\n%s", lines, g.Logs())
	}
	most := 1 + int(time.Since(began)/time.Minute)
	for part, n := range lines {
		if n > most {
			t.Errorf("%d lines with %s, want %d", n, part, most)
		}
	}
}

// An SDK, or a library for tracing, repeats the token of a call or the secret of
// any client in a header or a trailer. WeChat, and whoever reads its logs, does
// not get it; headers without one arrive as they were sent.
func TestCredentialsInHeadersAreNotPassedOn(t *testing.T) {
	var seen []gwtest.SeenRequest
	record := gwtest.Record(&seen, gwtest.AnswerOK)
	const userPath = "/sns/userinfo"
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: gwtest.ManyClients()}, map[string]http.HandlerFunc{gwtest.SendPath: record, userPath: record})
	token := g.Token(gwtest.OfficialAccount)
	byToken, byBearer, byHashed := http.Header{}, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount), gwtest.Bearer(gwtest.HashedSecret, "")
	for _, row := range []struct {
		name, path string
		header     http.Header
		values     map[string]string
	}{
		{"gateway token", gwtest.SendPath + "?access_token=" + token, byToken, map[string]string{
			"Referer": "https://app.example.com/?access_token=" + token, "X-Token": token, "X-Debug": "a=" + token + "; b", "User-Agent": "app/1 " + token,
			"X-Code": "gwc1." + strings.TrimPrefix(token, "gw1."), "X-Ticket": "a=gwk1.q83vEjRWeJCrze8SNFZ4",
			"X-Escaped": url.QueryEscape("?t=" + token), "X-Embedded": "x" + gwtest.PlatformSecret + "x", "X-Other": gwtest.SoloNextSecret, "X-Digest": "Bearer " + gwtest.HashedSecret,
		}},
		{"bearer", gwtest.SendPath, byBearer, map[string]string{
			"X-Secret": gwtest.ClientSecret, "X-Api-Key": "Bearer " + gwtest.ClientSecret, "X-Embedded": "x" + gwtest.ClientSecret + "x",
			"Cookie": "session=" + gwtest.ClientSecret, "Baggage": "secret=" + gwtest.ClientSecret + ",a=b",
		}},
		{"bearer that is known by its digest alone", gwtest.SendPath, byHashed, map[string]string{"X-Embedded": "x" + gwtest.HashedSecret + "x"}},
		{"no client", userPath + "?access_token=user&openid=o1", byToken, map[string]string{"X-Secret": gwtest.ClientSecret, "X-Token": token}},
	} {
		t.Run(row.name, func(t *testing.T) {
			seen = nil
			header := row.header.Clone()
			for name, value := range row.values {
				header[name] = []string{value}
			}
			header["X-Two"] = []string{"harmless", token}
			header["Traceparent"] = []string{"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
			header["Tracestate"] = []string{"a=b"}
			header["X-Kept"] = []string{"gwr1.label", "one", "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ"}
			header["Wechatmp-Signature"] = []string{strings.Repeat("q83vEjRWeJCr/e8SNFZ4kKvN7xI0Vni+", 10) + "=="}
			if answer := g.Ask(http.MethodGet, row.path, "", header); answer.Slug != "" || len(seen) != 1 {
				t.Fatalf("answered %s, WeChat saw %d calls", answer.Body, len(seen))
			}
			got := seen[0].Header
			for name := range row.values {
				if got[name] != nil && (name != "User-Agent" || got.Get(name) != "") {
					t.Errorf("WeChat saw %s: %q", name, got[name])
				}
			}
			for _, name := range []string{"X-Two", "Traceparent", "Tracestate"} {
				if got[name] != nil {
					t.Errorf("WeChat saw %s: %q", name, got[name])
				}
			}
			for _, name := range []string{"X-Kept", "Wechatmp-Signature"} {
				if fmt.Sprint(got[name]) != fmt.Sprint(header[name]) {
					t.Errorf("WeChat saw %s: %q, want %q", name, got[name], header[name])
				}
			}
		})
	}
	t.Run("trailer", func(t *testing.T) {
		seen = nil
		g.SendRaw(t, "POST "+gwtest.SendPath+"?access_token="+token+" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Token\r\n\r\n2\r\n{}\r\n0\r\nX-Token: "+token+"\r\n\r\n")
		if len(seen) != 1 || seen[0].Header["Trailer"] != nil || seen[0].Header["X-Token"] != nil {
			t.Errorf("WeChat saw %v", seen)
		}
	})
}
