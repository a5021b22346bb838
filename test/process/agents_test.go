// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

const (
	agentsPage  = "../../docs/agents.md"
	agentSecret = "agent-secret-0123456789abcdef0123456789"
)

// draftBox is WeChat with a box of drafts, which the sandbox has not.
type draftBox struct {
	*sandbox.Sandbox
	mu    sync.Mutex
	asked []string // paths, without those of the component API
}

func (d *draftBox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/cgi-bin/component/") {
		d.Sandbox.ServeHTTP(w, r)
		return
	}
	d.mu.Lock()
	d.asked = append(d.asked, r.URL.Path)
	d.mu.Unlock()
	answer := httptest.NewRecorder()
	d.Sandbox.ServeHTTP(answer, r) // knows whether the token is right
	body := answer.Body.String()
	if strings.Contains(body, `"errcode":0`) {
		switch r.URL.Path {
		case "/cgi-bin/draft/add":
			body = `{"media_id":"DRAFT_ID"}`
		case "/cgi-bin/draft/batchget":
			body = `{"total_count":1,"item_count":1,"item":[{"media_id":"DRAFT_ID"}]}`
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body)
}

// An agent with the client that docs/agents.md shows may draft, and may not publish: the
// commands of the page are answered as it shows, and the audit says so.
func TestAgentsPageShowsWhatAnAgentMayDo(t *testing.T) {
	need.Command(t, "apt-get install curl", "curl")
	jq := need.Command(t, "apt-get install jq", "jq")
	weChat, n := newDraftBox(t)
	audit := filepath.Join(t.TempDir(), "audit.log")
	n.Wechat = "audit calls"
	n.Global = fmt.Sprintf("log audit {\ninclude wechat.audit\noutput wechat_buffered file %q\n}\nlog default {\nformat wechat\nexclude wechat.audit\n}", audit)
	n.Clients = agentClient(t, "127.0.0.1")
	p := gateway(t, n)
	authorize(t, weChat.Sandbox)
	p.Until("the account is known", func() bool { return weChat.ValidToken(sandbox.KindRefresh, officialAccount) != "" })

	refused := 0
	for _, each := range commandBlocks(page(t, agentsPage)) {
		if strings.HasPrefix(each.command, "jq ") {
			p.Until("the last call is in the audit", func() bool { return strings.Contains(page(t, audit), "/cgi-bin/component/api_get_authorizer_list") })
			wantAuditLines(t, each, shell(t, strings.ReplaceAll(strings.Replace(each.command, "jq", jq, 1), "/var/log/caddy/audit.log", audit)))
			continue
		}
		got := shell(t, strings.ReplaceAll(each.command, "127.0.0.1:8080", n.Proxy))
		if got != each.answer {
			t.Errorf("%s shows after %q\n%s\nwhich prints\n%s", agentsPage, each.command, each.answer, got)
		}
		if strings.Contains(got, "(gateway)") {
			refused++
		}
	}
	if refused != 4 {
		t.Errorf("%d refusals are shown", refused)
	}
	if want := []string{"/cgi-bin/draft/add", "/cgi-bin/draft/batchget"}; !slices.Equal(weChat.asked, want) {
		t.Errorf("WeChat has got %q, want %q", weChat.asked, want)
	}
	caddy.WantNoCredential(t, weChat.Credentials(), "the audit and what is printed", page(t, audit)+p.Printed())
}

// The secret and the gateway tokens of an agent are worth nothing on other machines.
func TestAnAgentsSecretIsWorthNothingElsewhere(t *testing.T) {
	weChat, n := newDraftBox(t)
	n.Clients = agentClient(t, "10.0.0.7") // as the page has it
	gateway(t, n)
	authorize(t, weChat.Sandbox)
	for _, path := range []string{"/cgi-bin/draft/add?access_token=" + agentSecret, "/cgi-bin/token?grant_type=client_credential&appid=" + officialAccount + "&secret=" + agentSecret} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.Proxy+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+agentSecret)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if slug := response.Header.Get("Wechat-Gateway-Error"); slug != "address" {
			t.Errorf("%s is refused as %q, want address", path, slug)
		}
	}
	if len(weChat.asked) > 0 {
		t.Errorf("WeChat has got %q", weChat.asked)
	}
}

func TestAgentsPageShowsTheSameInChinese(t *testing.T) {
	want, got := commandBlocks(page(t, agentsPage)), commandBlocks(page(t, "../../docs/zh/agents.md"))
	if !slices.Equal(want, got) {
		t.Errorf("docs/zh/agents.md shows\n%q\nwant\n%q", got, want)
	}
}

func newDraftBox(t *testing.T) (*draftBox, caddy.Node) {
	t.Helper()
	weChat, n := newWeChat(t)
	d := &draftBox{Sandbox: weChat}
	api := httptest.NewServer(d)
	t.Cleanup(api.Close)
	n.WeChat = api.URL
	return d, n
}

// agentClient returns the block of the client that the page shows, with the secret in a
// file of the test, for an agent that calls from an address.
func agentClient(t *testing.T, from string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(file, []byte(agentSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("{file./etc/caddy/secrets/agent}", "{file."+file+"}", "10.0.0.7", from).Replace(caddyfileBlock(t, agentsPage, "client agent {"))
}

// caddyfileBlock returns the block of configuration on a page that begins with a line.
func caddyfileBlock(t *testing.T, file, begin string) string {
	t.Helper()
	for _, block := range regexp.MustCompile("(?s)\n *```caddyfile\n(.*?)\n *```").FindAllStringSubmatch(page(t, file), -1) {
		if strings.HasPrefix(strings.TrimSpace(block[1]), begin) {
			return block[1]
		}
	}
	t.Fatalf("%s has no block that begins with %q", file, begin)
	return ""
}

// shell runs a command as its reader types it, and returns what it prints.
func shell(t *testing.T, command string) string {
	t.Helper()
	run := exec.CommandContext(t.Context(), "sh", "-c", command)
	run.Env = append(os.Environ(), "AGENT_SECRET="+agentSecret)
	printed, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, printed)
	}
	return strings.TrimSpace(string(printed))
}

// wantAuditLines checks that the lines of the audit that a page shows are printed, with
// the same fields in the same order.
func wantAuditLines(t *testing.T, each shown, printed string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(printed) {
		got = append(got, audited(t, line))
	}
	for line := range strings.Lines(each.answer) {
		if !slices.Contains(got, audited(t, line)) {
			t.Errorf("%s shows %s\nwhich is not among\n%s", agentsPage, line, printed)
		}
	}
}
