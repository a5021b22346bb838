// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A path of each level.
const (
	authorizerPath = "/cgi-bin/user/get"
	componentPath  = "/wxa/gettemplatelist"
	eitherPath     = "/cgi-bin/getcallbackip"
	sendPath       = "/cgi-bin/message/custom/send"
)

// upstream is WeChat with some paths answered by the test.
type upstream struct {
	wechat  atomic.Pointer[sandbox.Sandbox]
	routes  map[string]http.HandlerFunc
	waiting atomic.Bool   // the routes are WeChat's still
	asked   chan struct{} // the gateway has asked for a ticket, as it does at its start
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wechat := u.wechat.Load()
	switch route := u.routes[r.URL.Path]; {
	case route != nil && !u.waiting.Load():
		route(w, r)
	case wechat == nil:
		w.WriteHeader(http.StatusServiceUnavailable)
		close(u.asked)
	default:
		wechat.ServeHTTP(w, r)
	}
}

// start starts a gateway that has the tokens of both accounts in memory.
func start(t testing.TB, o gwtest.Options) *gwtest.Gateway {
	t.Helper()
	return startUpstream(t, o, nil)
}

// startUpstream starts a gateway whose upstream answers some paths as the test
// wants and all others as WeChat does.
func startUpstream(t testing.TB, o gwtest.Options, routes map[string]http.HandlerFunc) *gwtest.Gateway {
	t.Helper()
	return startWith(t, o, &upstream{routes: routes})
}

// startThenUpstream is startUpstream for paths that the gateway itself needs in
// order to start: the test answers them from then on.
func startThenUpstream(t testing.TB, o gwtest.Options, routes map[string]http.HandlerFunc) *gwtest.Gateway {
	t.Helper()
	u := &upstream{routes: routes}
	u.waiting.Store(true)
	g := startWith(t, o, u)
	u.waiting.Store(false)
	return g
}

func startWith(t testing.TB, o gwtest.Options, u *upstream) *gwtest.Gateway {
	t.Helper()
	u.asked = make(chan struct{})
	o.Upstream, o.Quiet = u, true
	g := gwtest.Start(t, o)
	<-u.asked
	u.wechat.Store(g.WeChat)
	g.Authorize()
	for _, appid := range []string{gwtest.OfficialAccount, gwtest.MiniProgram} {
		if answer := ask(g, http.MethodGet, authorizerPath, "", bearer(gwtest.ClientSecret, appid)); answer.ErrCode != 0 {
			t.Fatalf("first call for %s: %s\n%s", appid, answer.Body, g.Logs())
		}
	}
	g.WeChat.ResetCounts()
	return g
}

// reply is an answer in WeChat's shape, with what the gateway adds.
type reply struct {
	Status  int
	Slug    string `json:"-"`
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	Token   string `json:"access_token"`
	Expires int    `json:"expires_in"`
	Body    string `json:"-"`
}

// ask makes a call through the proxy and reads the answer as WeChat's. After a
// reload net/http's Shutdown closes connections of the server before and drops
// the requests in them that it has not read: those are made again.
func ask(g *gwtest.Gateway, method, path, content string, header http.Header) reply {
	var answer reply
	var err error
	for range 5 {
		if answer, err = try(http.DefaultClient, g, method, path, content, header); err == nil {
			return answer
		}
		if answer.Status != 0 {
			break
		}
	}
	return reply{Body: err.Error(), ErrCode: -2}
}

// try makes a call once. The status is 0 if there was no answer at all.
func try(client *http.Client, g *gwtest.Gateway, method, path, content string, header http.Header) (reply, error) {
	r, err := http.NewRequest(method, g.Proxy+path, strings.NewReader(content))
	if err != nil {
		return reply{}, err
	}
	if header != nil {
		r.Header = header
	}
	response, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	answer := reply{Status: response.StatusCode, Slug: response.Header.Get("Wechat-Gateway-Error"), Body: string(body)}
	_ = json.Unmarshal(body, &answer) // an answer that is not JSON has no errcode
	return answer, err
}

func get(g *gwtest.Gateway, path string) reply { return ask(g, http.MethodGet, path, "", nil) }

// bearer is what a hand-written caller sends; appid may be empty.
func bearer(clientSecret, appid string) http.Header {
	header := http.Header{"Authorization": {"Bearer " + clientSecret}}
	if appid != "" {
		header.Set("Wechat-Appid", appid)
	}
	return header
}

// tokenPath asks for a gateway token as SDKs do.
func tokenPath(appid, clientSecret string) string {
	return "/cgi-bin/token?" + url.Values{
		"grant_type": {"client_credential"}, "appid": {appid}, "secret": {clientSecret},
	}.Encode()
}

func tokenOf(t testing.TB, g *gwtest.Gateway, appid, clientSecret string) string {
	t.Helper()
	answer := get(g, tokenPath(appid, clientSecret))
	if answer.Token == "" {
		t.Fatalf("no gateway token: %s", answer.Body)
	}
	return answer.Token
}

// issue makes a gateway token that nobody has asked for; an empty appid makes
// it the component's.
func issue(t testing.TB, g *gwtest.Gateway, client, clientSecret, appid string, expires time.Time) string {
	t.Helper()
	appSecret, _, _ := g.WeChat.Keys()
	key, err := gwtoken.NewKey(secret.New(appSecret), sha256.Sum256([]byte(clientSecret)))
	if err != nil {
		t.Fatal(err)
	}
	return key.Issue(gwtoken.Claims{Client: client, Subject: subject.Of(g.WeChat.Component(), appid), Expires: expires})
}

// callsOf is what WeChat saw of a path.
func callsOf(g *gwtest.Gateway, path string) []sandbox.Call {
	return slices.DeleteFunc(g.WeChat.Calls(), func(c sandbox.Call) bool { return c.Path != path })
}

// onlyCall is the only call of a path since the last ResetCounts.
func onlyCall(t testing.TB, g *gwtest.Gateway, path string) sandbox.Call {
	t.Helper()
	calls := callsOf(g, path)
	if len(calls) != 1 {
		t.Fatalf("WeChat saw %d calls to %s, want 1", len(calls), path)
	}
	return calls[0]
}

// raw sends bytes to the proxy over a connection of its own and returns all
// that comes back.
func raw(t testing.TB, g *gwtest.Gateway, request string) string {
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

// refusing is the address of a host that refuses connections.
func refusing(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

// startListener serves handler on an address of its own.
func startListener(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// breakStorage puts a file where the folder of all records must be, so that
// nothing can be stored or loaded until it is repaired. The gateway, which may
// be storing something, is more than once in the way.
func breakStorage(t testing.TB, g *gwtest.Gateway) (repair func()) {
	t.Helper()
	folder := filepath.Join(g.Storage, "wechat")
	var err error
	for range 1000 {
		_ = os.RemoveAll(folder)
		if err = os.WriteFile(folder, nil, 0o600); err == nil {
			return func() {
				if err := os.Remove(folder); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Fatal(err)
	return nil
}
