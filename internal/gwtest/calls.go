// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Token fetches a gateway token for an authorizer as an SDK does.
func (g *Gateway) Token(appid string) string {
	g.t.Helper()
	body := g.Get(TokenPath(appid, ClientSecret))
	_, rest, found := strings.Cut(body, `"access_token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	if !found || !strings.HasPrefix(token, "gw1.") {
		g.t.Fatalf("no gateway token: %s\n%s", body, g.Logs())
	}
	return token
}

// Get gets a path from the proxy and returns the body.
func (g *Gateway) Get(path string) string {
	g.t.Helper()
	_, body := g.Do(http.MethodGet, path, "", nil)
	return body
}

// Post posts JSON to a path of the proxy and returns the body.
func (g *Gateway) Post(path, content string) string {
	g.t.Helper()
	_, body := g.Do(http.MethodPost, path, content, http.Header{"Content-Type": {"application/json"}})
	return body
}

// Do makes one call through the proxy.
func (g *Gateway) Do(method, path, content string, header http.Header) (*http.Response, string) {
	g.t.Helper()
	r, err := http.NewRequest(method, g.Proxy+path, strings.NewReader(content))
	if err != nil {
		g.t.Fatal(err)
	}
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return response, string(body)
}

// Reply is an answer in WeChat's shape, with what the gateway adds.
type Reply struct {
	Status  int
	Slug    string `json:"-"` // why the gateway has refused the call; empty if it has not
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	Token   string `json:"access_token"`
	Expires int    `json:"expires_in"`
	Body    string `json:"-"`
}

// Ask makes a call through the proxy and reads the answer as WeChat's. Without
// an answer, the ErrCode is -2 and the Body says why. After a reload net/http's
// Shutdown closes connections of the server before and drops the requests in
// them that it has not read: those are made again.
func (g *Gateway) Ask(method, path, content string, header http.Header) Reply {
	var answer Reply
	var err error
	for range 5 {
		if answer, err = g.Try(http.DefaultClient, method, path, content, header); err == nil {
			return answer
		}
		if answer.Status != 0 {
			break
		}
	}
	return Reply{Body: err.Error(), ErrCode: -2}
}

// AskGet is Ask for a GET without a header.
func (g *Gateway) AskGet(path string) Reply { return g.Ask(http.MethodGet, path, "", nil) }

// Try is Ask with a client of the test's, and makes the call once. The Status
// is 0 if there was no answer at all.
func (g *Gateway) Try(client *http.Client, method, path, content string, header http.Header) (Reply, error) {
	r, err := http.NewRequest(method, g.Proxy+path, strings.NewReader(content))
	if err != nil {
		return Reply{}, err
	}
	if header != nil {
		r.Header = header
	}
	response, err := client.Do(r)
	if err != nil {
		return Reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	answer := Reply{Status: response.StatusCode, Slug: response.Header.Get("Wechat-Gateway-Error"), Body: string(body)}
	_ = json.Unmarshal(body, &answer) // an answer that is not JSON has no errcode
	return answer, err
}

// SendRaw sends bytes to the proxy over a connection of its own and returns all
// that comes back.
func (g *Gateway) SendRaw(t testing.TB, request string) string {
	t.Helper()
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, request) // the answer tells
		answer, err := io.ReadAll(conn)
		conn.Close()
		if len(answer) > 0 {
			return string(answer)
		}
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("reading the answer: %v", err)
		}
	}
}

// WantSuccess fails the test unless a call for an account succeeds.
func (g *Gateway) WantSuccess(t testing.TB, appid string) {
	t.Helper()
	if answer := g.Get("/cgi-bin/get_api_domain_ip?access_token=" + g.Token(appid)); !strings.Contains(answer, "ip_list") {
		t.Errorf("a call for %s answers %s\n%s", appid, answer, g.Logs())
	}
}
