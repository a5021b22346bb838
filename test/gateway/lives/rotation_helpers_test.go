// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	wechat "github.com/caddy-wechat/caddy-wechat"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	// The account of the trap: it has authorised, and nobody calls for it.
	idleAccount = "wx1d1e1d1e1d1e1d1e"
	// It has authorised and withdrawn.
	goneAccount = "wx60e060e060e060e0"
	// It authorises in the middle of everything.
	newAccount = "wx9e39e39e39e39e3f"

	startPush      = "/cgi-bin/component/api_start_push_ticket"
	componentToken = "/cgi-bin/component/api_component_token"
	authorizerInfo = "/cgi-bin/component/api_get_authorizer_info"

	deliveryToken = "SHOPDELIVERYTOKEN"

	rotationDeadline = time.Minute
)

// rotation is a gateway whose operator follows docs/rotation.md while
// applications call, and while WeChat pushes.
type rotation struct {
	*testing.T
	*gwtest.Gateway
	app    *gwtest.Application // takes delivery of messages and events
	dir    string              // where the secrets stand
	config string              // the Caddyfile
	secret atomic.Value        // the client secret that applications have been given

	client  *http.Client
	stop    context.CancelFunc
	work    sync.WaitGroup
	calls   atomic.Int64 // answered well
	sent    atomic.Int64 // of these, to sendPath
	pushes  atomic.Int64 // taken
	renewed atomic.Int64 // gateway tokens fetched because one was refused
	faults  chan string
}

// newRotation starts a gateway that has all it needs in storage, and what it
// has been called for in memory. WeChat and the applications repeat nothing, and
// take a connection for each call: one that is kept alive may be closed just
// when it is used, by any server. How reloads deal with these, TestReloadUnderLoad
// shows.
func newRotation(t *testing.T, wechatLines string) *rotation {
	r := &rotation{T: t, dir: t.TempDir(), app: gwtest.NewApplication(), faults: make(chan string, 100)}
	r.secret.Store(gwtest.ClientSecret)
	transport := &http.Transport{DisableKeepAlives: true}
	r.client = &http.Client{Timeout: rotationDeadline, Transport: transport}
	r.Gateway = gwtest.StartWithTokens(t, gwtest.Options{
		Sandbox: sandbox.Config{
			Switches:  sandbox.Switches{PushAttempts: 1},
			Transport: transport,
		},
		Wechat: wechatLines,
		Clients: fmt.Sprintf(`client shop {
			secret %s
			authorizers *
			deliver %s {
				token %s
			}
		}
		client console {
			secret %s
			authorizers *
			component_api
		}`, gwtest.ClientSecret, gwtest.Serve(t, r.app), deliveryToken, gwtest.PlatformSecret),
	})
	r.config = r.Caddyfile()
	r.authorizes(idleAccount)
	r.authorizes(goneAccount)
	if err := r.WeChat.Revoke(t.Context(), goneAccount); err != nil {
		t.Fatal(err)
	}
	r.WeChat.ResetCounts()
	return r
}

// authorizes lets an account authorise, and waits until the gateway has its tokens and
// knows its profile.
func (r *rotation) authorizes(appid string) {
	r.Helper()
	r.agrees(appid)
	r.until("the tokens of "+appid+" are stored", func() bool { return r.logged(`"authorizer authorized"`, appid) })
	r.until("the profile of "+appid+" is stored", func() bool { return r.HasProfile(appid) })
}

// agrees lets an account authorise.
func (r *rotation) agrees(appid string) {
	r.Helper()
	if err := r.WeChat.AddAccount(sandbox.Account{AppID: appid}); err != nil {
		r.Fatal(err)
	}
	if _, err := r.WeChat.Authorize(r.Context(), appid); err != nil {
		r.Fatal(err)
	}
}

// until waits for a condition.
func (r *rotation) until(what string, condition func() bool) {
	r.Helper()
	for end := time.Now().Add(rotationDeadline); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			logs := r.Logs()
			r.Fatalf("in vain: %s\n%s", what, logs[max(0, len(logs)-4000):])
		}
	}
}

// logged reports whether one line of the log has all of these.
func (r *rotation) logged(parts ...string) bool {
	r.Helper()
	for line := range strings.Lines(r.Logs()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			return true
		}
	}
	return false
}

// give puts the values of an option into files, names these in the Caddyfile,
// and reloads. For a moment longer, the configuration before answers what comes
// over connections that were kept alive.
func (r *rotation) give(option string, values ...string) {
	r.Helper()
	line := option
	for i, value := range values {
		file := filepath.Join(r.dir, fmt.Sprintf("%s.%d", option, i+1))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			r.Fatal(err)
		}
		line += " {file." + file + "}"
	}
	old := regexp.MustCompile(`(?m)^\s*` + option + `\s.*$`).FindString(r.config)
	r.config = strings.Replace(r.config, old, line, 1)
	r.LoadCaddyfile(r.config)
	http.DefaultClient.CloseIdleConnections()
}

// oldPush is WeChat pushing with a token and a key of before.
func (r *rotation) oldPush(token, aesKey string) (status int) {
	r.Helper()
	answer, _ := r.WeChat.Push(r.Context(), sandbox.Push{
		Plain:    r.WeChat.Text(gwtest.OfficialAccount, "follower", "hello").Plain,
		AppID:    gwtest.OfficialAccount,
		Token:    token,
		Attempts: 1, EncodingAESKey: aesKey,
	})
	return answer.Status
}

// reseal does what caddy wechat reseal does, and returns how many files that
// concerned.
func (r *rotation) reseal() (anew int) {
	r.Helper()
	for part := 0; part < vault.Parts; {
		w := httptest.NewRecorder()
		if err := admin("/wechat/reseal").ServeHTTP(w, httptest.NewRequest(http.MethodPost, fmt.Sprintf("/wechat/reseal?offset=%d", part), nil)); err != nil {
			r.Fatal(err)
		}
		var page struct {
			Next, Total, Resealed int
			Unreadable            []string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || page.Next != part+1 || page.Total != vault.Parts || len(page.Unreadable) != 0 {
			r.Fatalf("part %d: %s", part, w.Body)
		}
		part, anew = page.Next, anew+page.Resealed
	}
	return anew
}

// admin is a route of the admin API.
func admin(pattern string) caddy.AdminHandler {
	for _, route := range (wechat.Admin{}).Routes() {
		if route.Pattern == pattern {
			return route.Handler
		}
	}
	return nil
}

// wantNothingLost restarts the gateway, so that it knows only what is stored,
// and lets every account be called for: first with the tokens in storage, then
// with the app secret and the refresh tokens.
func (r *rotation) wantNothingLost(accounts ...string) {
	r.Helper()
	if err := caddy.Stop(); err != nil {
		r.Fatal(err)
	}
	r.WeChat.ResetCounts()
	r.LoadCaddyfile(r.config)
	accounts = append(accounts, gwtest.OfficialAccount, gwtest.MiniProgram, idleAccount)
	call := func(want map[string]int) {
		r.Helper()
		for _, appid := range accounts {
			if answer := r.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(r.secret.Load().(string), appid)); answer.ErrCode != 0 {
				r.Errorf("%s: %s", appid, answer.Body)
			}
		}
		if answer := r.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(r.secret.Load().(string), goneAccount)); answer.ErrCode != 61003 {
			r.Errorf("%s, which has withdrawn: %s", goneAccount, answer.Body)
		}
		r.wantAsked(want)
	}
	call(nil)
	r.WeChat.KillTokens("")
	// One renewal is refused for the component's token, which is dead as well.
	call(map[string]int{gwtest.RenewalPath: len(accounts) + 1, componentToken: 1})
}

// wantAsked compares how often WeChat was asked for what costs quota.
func (r *rotation) wantAsked(want map[string]int) {
	r.Helper()
	for _, path := range []string{gwtest.RenewalPath, componentToken, authorizerInfo, startPush, "/cgi-bin/component/api_query_auth", "/cgi-bin/component/api_get_authorizer_list"} {
		if n := r.WeChat.Count(path); n != want[path] {
			r.Errorf("%d calls of %s, want %d", n, path, want[path])
		}
	}
}

// files returns what is stored, of which some may be deleted at any moment.
func (r *rotation) files() map[string]string {
	r.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(r.Storage, "wechat"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var content []byte
			if content, err = os.ReadFile(path); err == nil {
				files[strings.TrimPrefix(path, r.Storage+"/wechat/"+r.WeChat.Component()+"/")] = string(content)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	return files
}

// sealKeys returns the ids of the keys that have sealed what is stored, and one
// file of each.
func (r *rotation) sealKeys() map[string]string {
	r.Helper()
	ids := make(map[string]string)
	for name, content := range r.files() {
		var file struct{ Key string }
		if json.Unmarshal([]byte(content), &file) == nil && file.Key != "" {
			ids[file.Key] = name
		}
	}
	return ids
}
