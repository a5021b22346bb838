// SPDX-License-Identifier: Apache-2.0

// Package callers_test calls the gateway with programs as people write them by
// hand, with the HTTP libraries of Python, PHP and Java: these differ in when
// they read an answer, in the connections they keep, and in what they send of
// their own accord. What they are told is a base URL and a secret.
package callers_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	uploadPath    = "/cgi-bin/media/upload"
	forbiddenPath = "/cgi-bin/material/add_material" // uploads, too
	hastyPath     = "/cgi-bin/media/uploadimg"       // WeChat refuses uploads before it has read them, see hasty

	// text has what encodings get wrong.
	text = "您的订单已发货 🎉 <b>&amp;</b>"
)

// client may not call everything, so that a path is left which is forbidden.
const client = `client shop {
	secret      ` + gwtest.ClientSecret + `
	authorizers *
	allow       /cgi-bin/user/* /cgi-bin/message/* /cgi-bin/media/* /sns/*
}`

// setups are the callers. Each has an account of its own: how often a rejected
// token is renewed is bounded for each account.
var setups = []struct {
	name, account string
	command       func(*testing.T) string
	arguments     []string
}{
	{"Python, requests", "wx1111111111111111", python, []string{"testdata/caller.py", "requests"}},
	{"Python, http.client", "wx2222222222222222", python, []string{"testdata/caller.py", "http.client"}},
	{"PHP, curl", "wx3333333333333333", php, []string{"testdata/caller.php"}},
	{"Java, HttpURLConnection", "wx4444444444444444", java, []string{"testdata/Caller.java", "HttpURLConnection"}},
	{"Java, java.net.http", "wx5555555555555555", java, []string{"testdata/Caller.java", "HttpClient"}},
}

// run is one caller on its way through the steps.
type run struct {
	*gwtest.Gateway
	*program
	account string
}

var steps = []struct {
	name string
	take func(*testing.T, *run)
}{
	{"fetches a gateway token", fetchesGatewayToken},
	{"makes a GET", makesGet},
	{"sends Chinese and emoji as JSON", sendsText},
	{"does not notice that WeChat kills the token", doesNotNoticeKilledToken},
	{"uploads 3 MB while WeChat kills the token", uploadsWithKilledToken},
	{"downloads what it has uploaded", downloads},
	{"outlives its gateway token in an upload of 10 MiB", outlivesToken},
	{"outlives a token of a former secret in an upload of 10 MiB", outlivesUnknownToken},
	{"shows that an upload of 10 MiB is forbidden", showsDenial},
	{"shows what WeChat answers before it has read an upload of 10 MiB", showsHastyAnswer},
	{"logs users in", logsIn},
	{"goes on after all that", makesGet},
}

func TestCallers(t *testing.T) {
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: client, Sites: ":18083 {\nroute {\ncallers_record\nwechat_proxy\n}\n}"},
		map[string]http.HandlerFunc{hastyPath: hasty})
	for _, setup := range setups {
		t.Run(setup.name, func(t *testing.T) {
			p := start(t, append([]string{setup.command(t)}, setup.arguments...)...)
			r := &run{g, p, setup.account}
			r.join(t)
			r.must(t, "start", "http://"+g.Sites, setup.account, gwtest.ClientSecret)
			for _, step := range steps {
				t.Run(step.name, func(t *testing.T) {
					r.WeChat.ResetCounts()
					takeRecords("")
					step.take(t, r)
				})
			}
		})
	}
}

// join lets the account authorise, and waits until the work of that is done.
func (r *run) join(t *testing.T) {
	t.Helper()
	if err := r.WeChat.AddAccount(sandbox.Account{AppID: r.account}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.WeChat.Authorize(t.Context(), r.account); err != nil {
		t.Fatal(err)
	}
	r.Token(r.account)
}

// calls is what WeChat saw of the caller's calls to a path.
func (r *run) calls(path string) []sandbox.Call {
	return slices.DeleteFunc(r.WeChat.Calls(), func(c sandbox.Call) bool { return c.Path != path })
}

// wantIntact fails the test unless WeChat has accepted one call to a path, of
// so many, with the account's valid token and with the very bytes that the
// caller sent last.
func (r *run) wantIntact(t *testing.T, path string, want int) record {
	t.Helper()
	calls, sent := r.calls(path), takeRecords(path)
	if len(calls) != want || len(sent) == 0 {
		t.Fatalf("WeChat saw %d calls, want %d; the caller sent %d", len(calls), want, len(sent))
	}
	last, body := calls[want-1], sent[len(sent)-1].body
	if digest := sha256.Sum256(body); last.BodySize != int64(len(body)) || len(body) > 0 && last.BodySHA256 != hex.EncodeToString(digest[:]) {
		t.Errorf("of %d bytes that were sent, %d arrived, or others", len(body), last.BodySize)
	}
	if valid := r.WeChat.ValidToken(sandbox.KindAuthorizer, r.account); !strings.Contains(last.RawQuery, "access_token="+valid) {
		t.Error("WeChat saw another token than the one that is valid now")
	}
	for i, call := range calls {
		if accepted := call.ErrCode == 0; accepted != (i == want-1) {
			t.Errorf("WeChat answered %d to call %d", call.ErrCode, i+1)
		}
	}
	return sent[len(sent)-1]
}

// wantFile fails the test unless a body is a form with this file alone.
func wantFile(t *testing.T, sent record, content []byte) {
	t.Helper()
	_, parameters, err := mime.ParseMediaType(sent.contentType)
	if err != nil {
		t.Fatal(err)
	}
	form := multipart.NewReader(bytes.NewReader(sent.body), parameters["boundary"])
	part, err := form.NextPart()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(part)
	if err != nil || part.FormName() != "media" || part.FileName() != "图片.jpg" || !bytes.Equal(got, content) {
		t.Errorf("the caller sent %d bytes as %q (%v), want the file's %d", len(got), part.FileName(), err, len(content))
	}
	if _, err := form.NextPart(); err != io.EOF {
		t.Errorf("after the file: %v, want the end", err)
	}
}

// picture returns n bytes that repeat nowhere near.
func picture(n int) []byte {
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(i*7 ^ i>>8)
	}
	return content
}

func fetchesGatewayToken(t *testing.T, r *run) {
	if token := r.must(t, "token"); !strings.HasPrefix(token, "gw1.") {
		t.Errorf("the caller holds %.8s…, want a gateway token", token)
	}
}

func makesGet(t *testing.T, r *run) {
	if answer := r.must(t, "get"); !strings.Contains(answer, r.WeChat.OpenID(r.account, "alice")) {
		t.Errorf("the caller was answered %s", answer)
	}
	r.wantIntact(t, gwtest.AuthorizerPath, 1)
}

func sendsText(t *testing.T, r *run) {
	r.must(t, "send", text)
	r.wantMessage(t, 1)
}

func (r *run) wantMessage(t *testing.T, calls int) {
	t.Helper()
	sent := r.wantIntact(t, gwtest.SendPath, calls)
	var message struct{ Text struct{ Content string } }
	if err := json.Unmarshal(sent.body, &message); err != nil || message.Text.Content != text {
		t.Errorf("the caller sent %s (%v), want %q", sent.body, err, text)
	}
	if n := len(r.WeChat.SentMessages()); n != 1 {
		t.Errorf("WeChat took %d messages, want 1", n)
	}
}

// unnoticed takes a step during which WeChat kills the token: it is renewed
// once, and the caller's own stays.
func (r *run) unnoticed(t *testing.T, take func()) {
	t.Helper()
	before := r.must(t, "token")
	r.WeChat.KillTokens(r.account)
	take()
	if after := r.must(t, "token"); after != before {
		t.Error("the caller's token changed")
	}
	if n := r.WeChat.Count(gwtest.RenewalPath); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
}

func doesNotNoticeKilledToken(t *testing.T, r *run) {
	r.unnoticed(t, func() { r.must(t, "send", text) })
	r.wantMessage(t, 2)
}

func uploadsWithKilledToken(t *testing.T, r *run) {
	content := picture(3<<20 + 1)
	r.unnoticed(t, func() { r.must(t, "upload", uploadPath, r.write(t, "图片.jpg", content)) })
	wantFile(t, r.wantIntact(t, uploadPath, 2), content)
}

func downloads(t *testing.T, r *run) {
	content := picture(3<<20 + 1)
	id := r.must(t, "upload", uploadPath, r.write(t, "图片.jpg", content))
	r.wantIntact(t, uploadPath, 1)
	file := filepath.Join(r.folder, "downloaded")
	r.must(t, "download", id, file)
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, content) {
		t.Errorf("downloaded %d bytes (%v), want the %d that were uploaded", len(got), err, len(content))
	}
}

// A gateway token that has expired is refused in the midst of an upload. The
// caller reads the errcode, although it has not sent all, and renews.
func outlivesToken(t *testing.T, r *run) {
	r.outlives(t, r.Issue(t, "shop", gwtest.ClientSecret, r.account, time.Now().Add(-time.Minute)), "token_expired")
}

func outlivesUnknownToken(t *testing.T, r *run) {
	const former = "former-secret-0123456789abcdef0123456789"
	r.outlives(t, r.Issue(t, "shop", former, r.account, time.Now().Add(time.Hour)), "token_unknown")
}

func (r *run) outlives(t *testing.T, token, slug string) {
	t.Helper()
	content, before := picture(10<<20), r.refused(slug)
	r.must(t, "hold", token)
	r.must(t, "upload", uploadPath, r.write(t, "图片.jpg", content))
	wantFile(t, r.wantIntact(t, uploadPath, 1), content)
	if n := r.refused(slug) - before; n != 1 {
		t.Errorf("the gateway refused %d calls as %s, want 1", n, slug)
	}
}

// refused is how many calls the gateway has refused for this reason.
func (r *run) refused(slug string) int { return strings.Count(r.Logs(), `"call refused: `+slug+`"`) }

func showsDenial(t *testing.T, r *run) {
	r.showsError(t, forbiddenPath, "48001")
	if n := len(r.calls(forbiddenPath)); n != 0 {
		t.Errorf("WeChat saw %d calls", n)
	}
}

func showsHastyAnswer(t *testing.T, r *run) { r.showsError(t, hastyPath, "45001") }

// hasty answers before it has read the body; the server then closes the connection.
func hasty(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"errcode":45001,"errmsg":"media size out of limit"}`)
}

// showsError fails the test unless an upload of 10 MiB shows this errcode.
func (r *run) showsError(t *testing.T, path, errcode string) {
	t.Helper()
	_, err := r.do("upload", path, r.write(t, "图片.jpg", picture(10<<20)))
	if err == nil || !strings.Contains(err.Error(), errcode) {
		t.Errorf("the caller says: %v, want %s", err, errcode)
	}
}

// People write the login as GET and as POST, and some libraries make a POST of
// a GET that has a body.
func logsIn(t *testing.T, r *run) {
	for i, how := range []string{"query", "form", "json", "empty", "stray"} {
		for _, row := range []struct{ path, name, upward string }{
			{"/sns/oauth2/access_token", "code", "/sns/oauth2/component/access_token"},
			{"/sns/jscode2session", "js_code", "/sns/component/jscode2session"},
		} {
			t.Run(how+" "+row.name, func(t *testing.T) {
				user := fmt.Sprint("user", i)
				openid := r.must(t, "login", how, row.path, row.name, r.WeChat.NewUserCode(r.account, user))
				if openid != r.WeChat.OpenID(r.account, user) {
					t.Errorf("logged %q in", openid)
				}
				calls := r.calls(row.upward)
				if last := calls[len(calls)-1]; last.Method != "GET" || last.TokenKind != sandbox.KindComponent || last.BodySize != 0 {
					t.Errorf("WeChat saw a %s with a token of the kind %q and %d bytes", last.Method, last.TokenKind, last.BodySize)
				}
			})
		}
	}
}
