// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	operatingPage = "../../docs/operating.md"
	miniProgram   = "wxbbbbbbbbbbbbbbbb"
	spentPath     = "/cgi-bin/user/get" // has a quota of two calls a day
)

// The daily questions have the answers that docs/operating.md shows. Its commands run in
// their order against one gateway; before each section happens what the section is about.
func TestOperatingPageShowsWhatCommandsPrint(t *testing.T) {
	o := newOperation(t)
	happens := map[string]func(){
		"Is it well?": o.settle,
		"Which account is broken, why, and since when?": o.loseRefreshToken,
		"Who burns the quota?":                          o.spendQuota,
		"What did shop call at 14:00?":                  o.awaitAudit,
		"Do WeChat's pushes arrive?":                    o.forgePush,
		"What waits for an application?":                o.refuseMessage,
		"What is wrong with the set-up?":                o.leaveWhiteList,
	}
	run := 0
	for _, section := range strings.Split(page(t, operatingPage), "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		blocks := commandBlocks(text)
		happen, known := happens[title]
		if known != (len(blocks) > 0) {
			t.Errorf("section %q has %d blocks of commands, and this test knows of it: %v", title, len(blocks), known)
			continue
		}
		delete(happens, title)
		if known {
			happen()
		}
		for _, each := range blocks {
			o.wantShown(each)
			run++
		}
	}
	if len(happens) > 0 || run < 10 {
		t.Errorf("%d commands are shown, and these sections are missing: %v", run, happens)
	}
}

func page(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shown is a command on a page, and the answer below it.
type shown struct{ command, answer string }

// commandBlocks returns the commands that a text shows, from blocks that begin with "$ ".
func commandBlocks(text string) (all []shown) {
	for _, block := range regexp.MustCompile("(?s)\n```\n(\\$ .*?)\n```").FindAllStringSubmatch(text, -1) {
		for _, part := range regexp.MustCompile(`(?m)^\$ `).Split(block[1], -1)[1:] {
			command, answer, _ := strings.Cut(part, "\n")
			all = append(all, shown{command, strings.TrimSpace(answer)})
		}
	}
	return all
}

// operation is a gateway whose operator reads docs/operating.md.
type operation struct {
	t      *testing.T
	n      caddy.Node
	p      *caddy.Process
	weChat *sandbox.Sandbox
	audit  string // file
	exit   int    // code of the last command

	// What the application has been told, and whether it takes more.
	authorized    atomic.Int32
	lost, refuses atomic.Bool
}

func newOperation(t *testing.T) *operation {
	t.Helper()
	o := &operation{t: t, audit: filepath.Join(t.TempDir(), "audit.log")}
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.refuses.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		body, _ := io.ReadAll(r.Body)
		if regexp.MustCompile(`>authorized</InfoType>|\[authorized\]`).Match(body) {
			o.authorized.Add(1)
		}
		if strings.Contains(string(body), "gateway_needs_authorization") {
			o.lost.Store(true)
		}
	}))
	t.Cleanup(application.Close)
	o.n = caddy.Node{
		Admin: "unix/" + filepath.Join(t.TempDir(), "admin"), Storage: inFolder(t.TempDir()), Platform: caddy.FreeAddress(t), Proxy: caddy.FreeAddress(t),
		Clients: "client shop {\nsecret " + caddy.ClientSecret + "\nauthorizers *\ndeliver " + application.URL + " {\nname main\ntoken SHOPTOKEN\n}\n}\n" +
			"client crm {\nsecret crm-secret-0123456789abcdef0123456789\nauthorizers " + officialAccount + "\n}",
		Wechat: "audit calls",
		Global: fmt.Sprintf("log audit {\ninclude wechat.audit\noutput wechat_buffered file %q\n}\nlog default {\nformat wechat\nexclude wechat.audit\n}", o.audit),
	}
	weChat, err := sandbox.New(sandbox.Config{EventsURL: "http://" + o.n.Platform + "/wechat/events", MessagesURL: "http://" + o.n.Platform + "/wechat/messages/$APPID$"})
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range []sandbox.Account{{AppID: officialAccount, NickName: "杭州一店"}, {AppID: miniProgram, NickName: "会员小程序", MiniProgram: true}} {
		if err := weChat.AddAccount(account); err != nil {
			t.Fatal(err)
		}
	}
	weChat.SetQuota(spentPath, 2)
	api := httptest.NewServer(weChat)
	t.Cleanup(api.Close)
	o.weChat, o.n.WeChat = weChat, api.URL
	o.p = gateway(t, o.n)
	return o
}

// settle lets both accounts authorise, and waits until the gateway knows all of them.
func (o *operation) settle() {
	o.t.Helper()
	authorize(o.t, o.weChat)
	if _, err := o.weChat.Authorize(o.t.Context(), miniProgram); err != nil {
		o.t.Fatal(err)
	}
	o.until("all accounts are known", "accounts --json", func(printed string) bool {
		return strings.Count(printed, `"state":"authorized"`) == 2 && strings.Contains(printed, "会员小程序") && strings.Contains(printed, "杭州一店")
	})
	o.until("all accounts are counted, and the application is told", "status", func(printed string) bool {
		return strings.Contains(printed, "2 authorized") && o.authorized.Load() >= 2 && strings.Contains(printed, " 0 waiting")
	})
}

// loseRefreshToken lets WeChat refuse the refresh token of the mini program.
func (o *operation) loseRefreshToken() {
	o.t.Helper()
	o.weChat.Inject(sandbox.Fault{Path: "/cgi-bin/component/api_authorizer_token", ErrCode: 61023})
	o.weChat.KillTokens(miniProgram)
	o.until("the refresh token is lost", "accounts --state needs_authorization", func(printed string) bool {
		o.call(miniProgram, domainIPPath)
		return strings.Contains(printed, miniProgram)
	})
	o.weChat.ClearFaults()
	o.until("the application is told", "status", func(printed string) bool { return o.lost.Load() && strings.Contains(printed, " 0 waiting") })
}

func (o *operation) spendQuota() {
	for range 5 {
		o.call(officialAccount, spentPath)
	}
	o.call(officialAccount, domainIPPath)
}

// awaitAudit waits for the line of the last call.
func (o *operation) awaitAudit() {
	o.t.Helper()
	last := `"appid":"` + officialAccount + `","method":"GET","path":"` + domainIPPath + `"`
	o.p.Until("the last call is in the audit", func() bool { return strings.Contains(page(o.t, o.audit), last) })
}

func (o *operation) forgePush() {
	o.t.Helper()
	if _, err := o.weChat.Push(o.t.Context(), sandbox.Push{Plain: "<xml></xml>", ForgedSignature: true, Attempts: 1}); err == nil {
		o.t.Error("a forged push is taken")
	}
}

// refuseMessage pushes a message that the application does not take.
func (o *operation) refuseMessage() {
	o.t.Helper()
	o.refuses.Store(true)
	if _, err := o.weChat.Push(o.t.Context(), o.weChat.Text(officialAccount, "o123", "hi")); err != nil {
		o.t.Fatal(err)
	}
	o.until("the message waits", "events", func(printed string) bool { return strings.Contains(printed, "answered with status 500") })
}

// leaveWhiteList lets WeChat refuse the address of the gateway.
func (o *operation) leaveWhiteList() { o.weChat.SetAllowIPs("203.0.113.9") }

func (o *operation) call(appid, path string) {
	o.t.Helper()
	if err := callAs(o.t.Context(), o.n.Proxy, appid, path); err != nil {
		o.t.Fatal(err)
	}
}

// run runs caddy wechat and returns what it prints.
func (o *operation) run(arguments string) string {
	o.t.Helper()
	p := caddy.Launch(o.t, slices.Concat([]string{"wechat"}, strings.Fields(arguments), []string{"--address", o.n.Admin})...)
	o.exit = p.Wait()
	return strings.TrimSpace(p.Printed())
}

func (o *operation) until(what, arguments string, yes func(printed string) bool) {
	o.t.Helper()
	o.p.Until(what, func() bool { return yes(o.run(arguments)) })
}

// wantShown checks that a page shows what a command prints, but for what is another one
// each time. A line … on the page stands for any lines.
func (o *operation) wantShown(each shown) {
	o.t.Helper()
	got := ""
	switch arguments, ours := strings.CutPrefix(each.command, "caddy wechat "); {
	case ours:
		// A storage that is slow is a busy machine's, and looked at again.
		o.until(each.command+" finds the storage fast enough", arguments, func(printed string) bool {
			got = printed
			return !strings.Contains(printed, "it is slow")
		})
	case each.command == "echo $?":
		got = fmt.Sprint(o.exit)
	case strings.HasPrefix(each.command, "jq -c "):
		o.wantAudited(each)
		return
	default:
		o.t.Errorf("%s: this test cannot run %q", operatingPage, each.command)
		return
	}
	want := strings.ReplaceAll(regexp.QuoteMeta(shape(each.answer)), "\n…", "(\n.*)*?")
	if got = shape(got); !regexp.MustCompile("^" + want + "$").MatchString(got) {
		o.t.Errorf("%s shows after %q\n%s\nwhich prints\n%s", operatingPage, each.command, shape(each.answer), got)
	}
}

// wantAudited checks that the lines of the audit that a page shows are in the file, with
// the same fields in the same order.
func (o *operation) wantAudited(each shown) {
	o.t.Helper()
	written := strings.Split(strings.TrimSpace(page(o.t, o.audit)), "\n")
	for _, line := range strings.Split(each.answer, "\n") {
		want := audited(o.t, line)
		if !slices.ContainsFunc(written, func(w string) bool { return audited(o.t, w) == want }) {
			o.t.Errorf("%s shows %s\nwhich is not among\n%s", operatingPage, line, strings.Join(written, "\n"))
		}
	}
}

// audited returns the fields of a line of the audit in their order, and the values of
// those that are the same each time.
func audited(t *testing.T, line string) string {
	t.Helper()
	var values map[string]any
	if err := json.Unmarshal([]byte(line), &values); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	text := ""
	for _, field := range regexp.MustCompile(`"(\w+)":`).FindAllStringSubmatch(line, -1) {
		text += " " + field[1]
		if !slices.Contains([]string{"ts", "rid", "upstream_ms", "bytes", "remote", "request_id"}, field[1]) {
			text += fmt.Sprintf("=%v", values[field[1]])
		}
	}
	return text
}

// What is another one each time, in what commands print.
var changing = []struct {
	what *regexp.Regexp
	into string
}{
	{regexp.MustCompile(`(\d{4}-)?\d\d-\d\d[ T]\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`node \S+?([,;]|$)`), "node NODE$1"},
	{regexp.MustCompile(`version \S+?(;|$)`), "version VERSION$1"},
	{regexp.MustCompile(`rid [0-9a-f-]+`), "rid RID"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "ID"},
	{regexp.MustCompile(`\bnow\b`), "0s"},
	{regexp.MustCompile(`\b(in )?(\d+(\.\d+)?(µs|ms|s|m|h|d))+\b`), "DURATION"},
	{regexp.MustCompile(`(less than two seconds off|DURATION (ahead of|behind)) WeChat's`), "about WeChat's"},
	{regexp.MustCompile(`slowest was \w+,`), "slowest was OPERATION,"},
	{regexp.MustCompile(`dns +\S+( and \S+)* answers?`), "dns HOSTS answer"},
	{regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b`), "ADDRESS"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(B|KiB|MiB)\b`), "SIZE"},
	{regexp.MustCompile(` +`), " "},
	{regexp.MustCompile(`DURATION \d+ ID`), "DURATION TRIES ID"},
}

// shape returns a text without what is another one each time.
func shape(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		for _, each := range changing {
			line = each.what.ReplaceAllString(line, each.into)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
