// SPDX-License-Identifier: Apache-2.0

package lives_test

import (
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The faults of a real folder, met by a whole gateway. A read-only one does not
// stop root, so a file stands where a folder must be.
func TestStorageFaultsOfAFolder(t *testing.T) {
	for name, row := range map[string]struct {
		folder    string // below the storage's
		operation string // that fails
	}{
		"records can be neither read nor written": {"wechat", "load"},
		"locks cannot be taken":                   {"locks", "lock"},
		"nothing is there any more":               {".", "load"},
	} {
		t.Run(name, func(t *testing.T) {
			g := gwtest.StartWithTokens(t, gwtest.Options{Sites: ":18083 {\nmetrics\n}"})
			token := g.Token(gwtest.OfficialAccount)
			before := g.StoredRecords(t)
			folder := filepath.Join(g.Storage, row.folder)
			call := func() gwtest.Reply { return g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token) }
			var answer gwtest.Reply
			for range 3 { // memory may lose what was just put into it: then the next call with storage puts it there
				replace(t, folder)
				if answer = call(); answer.ErrCode == 0 {
					break
				}
				restore(t, folder)
				call()
			}
			if answer.ErrCode != 0 {
				t.Fatalf("with a live token in memory: answered %s", answer.Body)
			}
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			for range 4 {
				answer := call()
				if answer.Status != http.StatusServiceUnavailable || answer.Slug != "rejected" || answer.ErrCode != -1 {
					t.Fatalf("answered %d %q %s", answer.Status, answer.Slug, answer.Body)
				}
			}
			for _, path := range []string{gwtest.RenewalPath, "/cgi-bin/component/api_get_authorizer_info"} {
				if n := g.WeChat.Count(path); n != 0 {
					t.Errorf("%d calls of %s", n, path)
				}
			}
			saidOnce(t, g, `"error"`, "storage fails", `"operation":"`+row.operation+`"`)
			saidOnce(t, g, `"warn"`, "call refused: rejected")
			if shown := shownMetrics(t, g); !strings.Contains(shown, `caddy_wechat_storage_failures_total{operation="`+row.operation+`"}`) {
				t.Errorf("%s failures are not counted:\n%s", row.operation, shown)
			}

			restore(t, folder)
			if after := g.StoredRecords(t); !maps.Equal(after, before) {
				t.Errorf("stored are %d files, before %d, or they have changed", len(after), len(before))
			}
			if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.ErrCode != 0 {
				t.Errorf("afterwards: answered %s", answer.Body)
			}
		})
	}
}

// replace puts a file in the place of a folder, until restore.
func replace(t *testing.T, folder string) {
	t.Helper()
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	gwtest.Instead(t, folder, func() error { return os.WriteFile(folder, nil, 0o600) })
}

func restore(t *testing.T, folder string) {
	t.Helper()
	gwtest.Instead(t, folder, func() error { return os.Rename(folder+".away", folder) })
}

// saidOnce checks that one line of the log holds all the texts.
func saidOnce(t *testing.T, g *gwtest.Gateway, texts ...string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(g.Logs()) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d lines say %q, want one", n, texts)
	}
}

// shownMetrics is what Caddy's metrics handler shows of the gateway's.
func shownMetrics(t *testing.T, g *gwtest.Gateway) string {
	t.Helper()
	response, err := http.Get("http://" + g.Sites + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	shown, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(shown)
}

// What fails for every call is said once a minute, whatever fails beside it. At
// debug level each call is there.
func TestFaultOfEveryCallIsSaidOnce(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	const calls = 5
	wantSaidOnce := func(slug string, fault sandbox.Fault) {
		t.Helper()
		fault.Path = gwtest.AuthorizerPath
		g.WeChat.Inject(fault)
		defer g.WeChat.ClearFaults()
		for range calls {
			if answer := g.AskGet(gwtest.AuthorizerPath + "?access_token=" + token); answer.Slug != slug {
				t.Errorf("answered %q %s, want %s", answer.Slug, answer.Body, slug)
			}
		}
		saidOnce(t, g, `"warn"`, "call refused: "+slug, gwtest.AuthorizerPath)
		if n := strings.Count(g.Logs(), "call refused: "+slug); n != calls {
			t.Errorf("%d lines at any level, want %d", n, calls)
		}
	}
	wantSaidOnce("unreachable", sandbox.Fault{Reset: true})
	// No call that is to be answered may meet this limit: a busy machine could exceed it.
	g.Change(func(o *gwtest.Options) { o.Proxy = "transport http {\nresponse_header_timeout 500ms\n}" })
	wantSaidOnce("timeout", sandbox.Fault{Never: true})
}
