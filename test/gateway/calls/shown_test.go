// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// shownSite is a site for applications that puts the placeholders of a call into a header
// of its answer, and writes an access log.
func shownSite(log string) string {
	return `:18083 {
		log {
			output file ` + log + `
		}
		log_append appended {http.wechat.outcome}
		header >X-Wechat "{http.wechat.client} {http.wechat.appid} {http.wechat.errcode} {http.wechat.outcome}"
		wechat_proxy
	}`
}

// What a call was, and what came of it, stands in placeholders when the answer is
// written, and in the access log: also of calls that are refused.
func TestCallIsShown(t *testing.T) {
	log := filepath.Join(t.TempDir(), "access.log")
	g := gwtest.StartWithRoutes(t, gwtest.Options{Clients: gwtest.ManyClients(), Sites: shownSite(log)}, map[string]http.HandlerFunc{
		"/shown/ok":    says(`{"errcode":0,"errmsg":"ok"}`),
		"/shown/quota": says(`{"errcode":45009,"errmsg":"reach max api daily quota limit rid: 5f2a-1-2"}`),
	})
	g.Proxy = "http://" + g.Sites
	g.WeChat.Inject(sandbox.Fault{Path: gwtest.InfoPath, ErrCode: 45009})
	component, official := g.WeChat.Component(), gwtest.OfficialAccount
	shop := gwtest.Bearer(gwtest.ClientSecret, official)
	shown := make(map[string]string) // what is expected of the access log
	for _, row := range []struct {
		path   string
		header http.Header
		want   string
		rid    string
	}{
		{"/shown/ok", shop, "shop " + official + " 0 relayed", ""},
		{"/shown/quota", shop, "shop " + official + " 45009 relayed", "5f2a-1-2"},
		{gwtest.TokenPath(official, gwtest.SoloSecret), nil, "solo " + official + " 0 answered", ""},
		{"/cgi-bin/component/api_get_authorizer_list", gwtest.Bearer(gwtest.PlatformSecret, ""), "platform " + component + " 0 answered", ""},
		{"/cgi-bin/component/not_allowed", shop, "shop " + component + " 48001 not_allowed", ""},
		{gwtest.InfoPath + "?authorizer_appid=" + official, gwtest.Bearer(gwtest.PlatformSecret, ""), "platform " + official + " 45009 answered", "any"},
		{"/shown/ok", nil, "none  41001 token_missing", ""},
		{"/shown//ok", shop, "none  48001 not_allowed", ""},
		{"/shown/ok", http.Header{openapi.HopHeader: {"1"}}, "none  -1 loop", "-"}, // whose address has a real token, so the access log leaves it out
	} {
		response, body := g.Do(http.MethodGet, row.path, "", row.header)
		if got := response.Header.Get("X-Wechat"); got != row.want {
			t.Errorf("%s shows %q, want %q, with %s", row.path, got, row.want, body)
		}
		if row.rid != "-" {
			shown[row.want] = row.rid
		}
	}
	want := slices.Sorted(maps.Keys(shown))
	var got []string
	wantSoon(t, "the access log is written", func() bool {
		got = accessLog(t, log, shown)
		return len(got) >= len(want)
	})
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the access log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// accessLog reads what an access log says of calls, as the header of shownSite has it,
// and compares their rid.
func accessLog(t *testing.T, file string, rids map[string]string) (all []string) {
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		var entry struct {
			Appended string
			Wechat   struct {
				Client, AppID, Outcome string
				Errcode                json.Number
				RID                    string
			}
		}
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		call := entry.Wechat
		text := call.Client + " " + call.AppID + " " + call.Errcode.String() + " " + call.Outcome
		if entry.Appended != call.Outcome || call.RID != rids[text] && (rids[text] != "any" || call.RID == "") {
			t.Errorf("log_append and rid are wrong in %s", line)
		}
		all = append(all, text)
	}
	return all
}
