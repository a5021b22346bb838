// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// rejecting answers the first request with rejection, later ones with success.
type rejecting struct {
	mu        sync.Mutex
	seen      []gwtest.SeenRequest
	rejection http.HandlerFunc
}

func (u *rejecting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.seen) == 0 {
		gwtest.Record(&u.seen, u.rejection)(w, r)
	} else {
		gwtest.Record(&u.seen, gwtest.AnswerOK)(w, r)
	}
}

func (u *rejecting) next(rejection http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen, u.rejection = nil, rejection
}

func tokenIn(t *testing.T, r gwtest.SeenRequest) string {
	t.Helper()
	u, err := url.ParseRequestURI(r.URI)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("access_token")
}

// byteByByte answers with a body whose length is announced.
func byteByByte(contentType, body string) http.HandlerFunc {
	chunked := gwtest.Answer(contentType, body, true)
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		chunked(w, r)
	}
}

// WeChat rejects the real token, in whatever form: the client never learns of
// it. The token is renewed once, and the same call made once more.
func TestRejectedTokenIsRenewed(t *testing.T) {
	body := `{"touser":"o1","pad":"` + strings.Repeat("x", 5<<10) + `"}`
	const json, errmsg = "application/json; encoding=utf-8", `"errmsg":"invalid credential rid: 1-2-3"}`
	for _, row := range []struct {
		name      string
		rejection http.HandlerFunc
	}{
		{"40001", gwtest.Answer(json, `{"errcode":40001,`+errmsg, false)},
		{"40014", gwtest.Answer(json, `{"errcode":40014,`+errmsg, false)},
		{"42001", gwtest.Answer(json, `{"errcode":42001,`+errmsg, false)},
		{"42006", gwtest.Answer(json, `{"errcode":42006,`+errmsg, false)},
		{"as a string", gwtest.Answer(json, `{"errcode":"40001",`+errmsg, false)},
		{"as text/plain", gwtest.Answer("text/plain", `{"errcode":42001,`+errmsg, false)},
		{"as no type at all", gwtest.Answer("", `{"errcode":42001,`+errmsg, false)},
		{"with spaces", gwtest.Answer(json, "\uFEFF {\n \"errcode\" : 40014 ,"+errmsg, false)},
		{"behind the text", gwtest.Answer(json, `{"errmsg":"invalid \"credential\", {","errcode":40001}`, false)},
		{"compressed", gwtest.Answer(json, gwtest.Gzipped(`{"errcode":40001,`+errmsg), false)},
		{"as a string, in text, compressed", gwtest.Answer("text/plain", gwtest.Gzipped(`{"errcode":"42001",`+errmsg), false)},
		{"chunked, byte by byte", gwtest.Answer(json, `{"errcode":40001,`+errmsg, true)},
		{"compressed and chunked", gwtest.Answer(json, gwtest.Gzipped(`{"errcode":40001,`+errmsg), true)},
		{"with nothing behind the number", gwtest.Answer(json, `{"errcode":40001`, true)},
		{"as a type that is none", gwtest.Answer("application/json:UTF-8", `{"errcode":40001,`+errmsg, false)},
		{"as a picture", gwtest.Answer("image/jpeg", `{"errcode":40001,`+errmsg, false)},
		{"as a file", gwtest.Answer("application/octet-stream", `{"errcode":42001,`+errmsg, true)},
		{"as a page", gwtest.Answer("text/html; charset=utf-8", `{"errcode":42001,`+errmsg, false)},
		{"as a picture, compressed, behind the text", gwtest.Answer("image/png", gwtest.Gzipped(`{"errmsg":"invalid credential","errcode":40001}`), false)},
		{"compressed, behind the text", gwtest.Answer(json, gwtest.Gzipped(`{"errmsg":"invalid credential","errcode":40001}`), false)},
		{"compressed and chunked, behind the text", gwtest.Answer(json, gwtest.Gzipped(`{"errmsg":"invalid credential","errcode":40001}`), true)},
		{"chunked, byte by byte, behind the text", gwtest.Answer(json, `{"rid":"1-2","errmsg":"{\"a\":[","errcode":40001}`, true)},
		{"compressed, behind an object", gwtest.Answer(json, gwtest.Gzipped(`{"data":{"a":[1]},"errcode":40001}`), false)},
		{"byte by byte, behind an object", byteByByte(json, `{"data":{"a":[1]},"errcode":40001}`)},
		{"compressed, with a byte order mark", gwtest.Answer("image/jpeg", gwtest.Gzipped("\uFEFF"+`{"errmsg":"x","errcode":"40014"}`), true)},
	} {
		t.Run(row.name, func(t *testing.T) {
			upstream := &rejecting{rejection: row.rejection}
			g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: upstream.ServeHTTP})
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			header.Set("Accept-Encoding", "gzip")
			if answer := g.Ask(http.MethodPost, gwtest.SendPath, body, header); answer.ErrCode != 0 || answer.Status != 200 {
				t.Fatalf("answered %d %s", answer.Status, answer.Body)
			}
			if len(upstream.seen) != 2 {
				t.Fatalf("WeChat saw %d requests, want 2", len(upstream.seen))
			}
			first, second := upstream.seen[0], upstream.seen[1]
			if first.Body != body || second.Body != body {
				t.Errorf("bodies of %d and %d bytes, want twice %d", len(first.Body), len(second.Body), len(body))
			}
			if current := g.WeChat.ValidToken(sandbox.KindAuthorizer, gwtest.OfficialAccount); tokenIn(t, second) != current || tokenIn(t, first) == current {
				t.Errorf("the second request has not the new token, or the first had it")
			}
			if n := g.WeChat.Count(gwtest.RenewalPath); n != 1 {
				t.Errorf("%d renewals, want 1", n)
			}
		})
	}
}

// What only looks like a rejection costs no renewal and passes as it is: else
// an application could be made to burn tokens with the content it stores.
func TestOtherAnswersPass(t *testing.T) {
	upstream := new(rejecting)
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: upstream.ServeHTTP})
	const json = "application/json"
	pad := strings.Repeat("x", 5<<10)
	for _, row := range []struct {
		name, contentType, body string
		chunked                 bool
		status                  int
	}{
		{"another errcode", json, `{"errcode":40003,"errmsg":"invalid openid"}`, false, 200},
		{"an errcode that begins alike", json, `{"errcode":400010}`, false, 200},
		{"no errcode", json, `{"errmsg":"\"errcode\":40001"}`, false, 200},
		{"in a nested field", json, `{"data":{"errcode":40001},"list":[{"errcode":40001}]}`, false, 200},
		{"in a list", json, `[{"errcode":40001}]`, false, 200},
		{"in a large answer", json, `{"errcode":40001,"pad":"` + pad + `"}`, false, 200},
		{"in the middle of a large answer", json, `{"list":[],"errcode":40001,"pad":"` + pad + `"}`, true, 200},
		{"in a picture", "image/png", "\x89PNG" + `{"errcode":40001}`, false, 200},
		{"in a list, as a download", "application/octet-stream", `[{"errcode":40001}]`, true, 200},
		{"in a file that begins like one", "application/octet-stream", `{"a":{"errcode":40001}}`, false, 200},
		{"behind a list of unknown length", json, `{"list":[],"errcode":0}`, true, 200},
		{"in a large download", "image/jpeg", `{"errcode":40001,"pad":"` + pad + `"}`, false, 200},
		{"in a page", "text/html", `<html>{"errcode":40001}</html>`, false, 200},
		{"with another status", json, `{"errcode":40001}`, false, 500},
		{"nothing", json, "", false, 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			upstream.next(func(w http.ResponseWriter, r *http.Request) {
				if row.status != 200 {
					w.WriteHeader(row.status)
				}
				gwtest.Answer(row.contentType, row.body, row.chunked)(w, r)
			})
			g.WeChat.ResetCounts()
			header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			header.Set("Accept-Encoding", "gzip")
			answer := g.Ask(http.MethodPost, gwtest.SendPath, "{}", header)
			if answer.Status != row.status || answer.Body != row.body || answer.Slug != "" {
				t.Errorf("answered %d %.100q, want %d %.100q", answer.Status, answer.Body, row.status, row.body)
			}
			if len(upstream.seen) != 1 || g.WeChat.Count(gwtest.RenewalPath) != 0 {
				t.Errorf("WeChat saw %d requests and %d renewals", len(upstream.seen), g.WeChat.Count(gwtest.RenewalPath))
			}
		})
	}
}

// A body that was not kept is not sent again, and the client is not told that its
// token is bad, which would be wrong. Its own next attempt meets the new token.
func TestBodiesAreReplayedUpToTheLimit(t *testing.T) {
	rejection := gwtest.Answer("application/json", `{"errcode":40001,"errmsg":"invalid credential"}`, false)
	const limit = 20 << 10
	fileType, file := gwtest.UploadForm(t, 12<<10)
	for _, row := range []struct {
		name, contentType, body string
		chunked, replayed       bool
	}{
		{"none", "", "", false, true},
		{"an upload below the limit", fileType, file, false, true},
		{"as long as the limit", "text/plain", strings.Repeat("x", limit), false, true},
		{"one byte longer", "text/plain", strings.Repeat("x", limit+1), false, false},
		{"far longer", "text/plain", strings.Repeat("x", 10*limit), false, false},
		{"of unknown length, as long as the limit", "text/plain", strings.Repeat("x", limit), true, true},
		{"of unknown length, one byte longer", "text/plain", strings.Repeat("x", limit+1), true, false},
		{"of unknown length, far longer", "text/plain", strings.Repeat("x", 10*limit), true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			upstream := &rejecting{rejection: rejection}
			g := gwtest.StartWithRoutes(t, gwtest.Options{Proxy: "max_replay_body 20KiB"}, map[string]http.HandlerFunc{gwtest.SendPath: upstream.ServeHTTP})
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			send := func() gwtest.Reply {
				var body io.Reader = strings.NewReader(row.body)
				if row.chunked {
					body = io.MultiReader(body) // hides the length
				}
				r, err := http.NewRequest(http.MethodPost, g.Proxy+gwtest.SendPath, body)
				if err != nil {
					t.Fatal(err)
				}
				r.Header = gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
				r.Header.Set("Content-Type", row.contentType)
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				text, _ := io.ReadAll(response.Body)
				return gwtest.Reply{Status: response.StatusCode, Slug: response.Header.Get("Wechat-Gateway-Error"), Body: string(text)}
			}
			answer := send()
			want := gwtest.Reply{Status: 200}
			if !row.replayed {
				want = gwtest.Reply{Status: 503, Slug: "not_kept"}
			}
			if answer.Status != want.Status || answer.Slug != want.Slug || strings.Contains(answer.Body, `"errcode":0`) != row.replayed || strings.Contains(answer.Body, "40001") {
				t.Errorf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
			}
			if !row.replayed {
				if !strings.Contains(answer.Body, `"errcode":-1,`) {
					t.Errorf("answered %s", answer.Body)
				}
				if answer := send(); !strings.Contains(answer.Body, `"errcode":0`) {
					t.Errorf("the next call: %s", answer.Body)
				}
			}
			if len(upstream.seen) != 2 {
				t.Fatalf("WeChat saw %d requests, want 2", len(upstream.seen))
			}
			for _, seen := range upstream.seen {
				if seen.Body != row.body {
					t.Errorf("WeChat saw a body of %d bytes, want %d", len(seen.Body), len(row.body))
				}
			}
			if tokenIn(t, upstream.seen[0]) == tokenIn(t, upstream.seen[1]) {
				t.Error("both requests have the same token")
			}
		})
	}
}

// WeChat rejects the new token as well: there is no third call, and the client is not
// sent for another gateway token, which would not help.
func TestSecondRejectionIsTheEnd(t *testing.T) {
	var seen []gwtest.SeenRequest
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{
		gwtest.SendPath: gwtest.Record(&seen, gwtest.Answer("application/json", `{"errcode":40001,"errmsg":"of WeChat's own"}`, false)),
	})
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	answer := g.Ask(http.MethodPost, gwtest.SendPath, "{}", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if answer.Status != 503 || answer.ErrCode != -1 || answer.Slug != "rejected" || strings.Contains(answer.Body, "of WeChat's own") {
		t.Errorf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
	}
	if len(seen) != 2 {
		t.Errorf("WeChat saw %d requests, want 2", len(seen))
	}
}

// Where no new token can be had the client learns why. A 40001 would send it
// for a gateway token in vain, for ever.
func TestRenewalImpossible(t *testing.T) {
	for name, row := range map[string]struct {
		fault  sandbox.Fault
		status int
		code   int
	}{
		"the account has withdrawn":     {sandbox.Fault{Path: gwtest.RenewalPath, ErrCode: 61003}, 200, 61003},
		"WeChat is out of order":        {sandbox.Fault{Path: gwtest.RenewalPath, Status: 502}, 503, -1},
		"WeChat says it is busy":        {sandbox.Fault{Path: gwtest.RenewalPath, ErrCode: -1}, 503, -1},
		"the daily quota is spent":      {sandbox.Fault{Path: gwtest.RenewalPath, ErrCode: 45009}, 503, -1},
		"our address is not registered": {sandbox.Fault{Path: gwtest.RenewalPath, ErrCode: 61004}, 503, -1},
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartWithTokens(t, gwtest.Options{})
			token := g.Token(gwtest.OfficialAccount)
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			g.WeChat.Inject(row.fault)
			for _, attempt := range []string{"first", "second"} {
				answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token)
				if answer.Status != row.status || answer.ErrCode != row.code || answer.Slug == "" {
					t.Errorf("%s call: answered %d %q %s, want %d with errcode %d", attempt, answer.Status, answer.Slug, answer.Body, row.status, row.code)
				}
			}
		})
	}
}

// A thousand calls in flight meet one dead token. One of them renews it, and
// every one is answered.
func TestThousandCallsOneRenewal(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Sandbox: sandbox.Config{Overlap: -1}})
	token := g.Token(gwtest.OfficialAccount)
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 200, MaxIdleConnsPerHost: 200}}
	defer client.CloseIdleConnections()
	var callers sync.WaitGroup
	faults := make(chan string, 1000)
	for i := range 1000 {
		callers.Go(func() {
			response, err := client.Post(g.Proxy+gwtest.SendPath+"?access_token="+token, "application/json",
				strings.NewReader(fmt.Sprintf(`{"touser":"o%d","msgtype":"text","text":{"content":"x"}}`, i)))
			if err != nil {
				faults <- err.Error()
				return
			}
			defer response.Body.Close()
			if body, _ := io.ReadAll(response.Body); !bytes.Contains(body, []byte(`"errcode":0`)) {
				faults <- string(body)
			}
		})
	}
	callers.Wait()
	close(faults)
	for fault := range faults {
		t.Fatalf("%d calls failed, such as: %s", len(faults)+1, fault)
	}
	if n := g.WeChat.Count(gwtest.RenewalPath); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
	sent := make(map[string]int)
	for _, message := range g.WeChat.SentMessages() {
		sent[message.ToUser]++
	}
	if len(sent) != 1000 || len(g.WeChat.SentMessages()) != 1000 {
		t.Errorf("%d messages to %d users were sent, want 1000 each", len(g.WeChat.SentMessages()), len(sent))
	}
}
