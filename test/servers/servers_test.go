// SPDX-License-Identifier: Apache-2.0

// Package servers_test lets a whole gateway deliver to the message servers of published
// SDKs, unmodified, in both forms of a target. The table in docs/delivery.md says which
// form is for which SDK: it is checked, and with -update written, by TestServers.
package servers_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

var update = flag.Bool("update", false, "write the table in "+docsFile+" anew")

const (
	clientSecret = gwtest.ClientSecret
	pushToken    = "SERVERSTOKEN"
	aesKey       = "SERVERSAESKEY000000000000000000000000000000"
	quiet        = "quiet" // the text to which applications do not reply
)

// server is a message server of an SDK.
type server struct {
	name     string // as in the table
	platform bool   // it is given the appid of the component, and gets events of the platform
	start    func(*testing.T, told) *application
}

// servers are all of them.
var servers = []server{
	{"silenceper/wechat v2.1.10, official account", false, startSilenceper},
	{"silenceper/wechat v2.1.10, open platform", true, startSilenceperPlatform},
	{"fastwego/offiaccount v1.0.1", false, startFastwego},
	{"fastwego/wxopen v1.0.0-beta.3", true, startWxopen},
	{"node-easywechat 3.6.2, OfficialAccount", false, startNode("node-easywechat", "3.6.2", "OfficialAccount")},
	{"node-easywechat 3.6.2, OpenPlatform", true, startNode("node-easywechat", "3.6.2", "OpenPlatform")},
	{"nest-wechat 0.2.50, WeChatService", false, startNode("nest-wechat", "0.2.50", "WeChatService")},
	{"nest-wechat 0.2.50, ComponentService", true, startNode("nest-wechat", "0.2.50", "ComponentService")},
	{"wechat 2.1.0", false, startNode("wechat", "2.1.0", "official account")},
	{"wechat 2.1.0, for a platform", true, startNode("wechat", "2.1.0", "platform")},
	{"co-wechat 2.4.0", false, startNode("co-wechat", "2.4.0", "official account")},
	{"co-wechat 2.4.0, for a platform", true, startNode("co-wechat", "2.4.0", "platform")},
}

// forms are the values of as.
var forms = []string{"account", "platform"}

// right returns the form that is for the server.
func (s server) right() string {
	if s.platform {
		return "platform"
	}
	return "account"
}

func TestServers(t *testing.T) {
	table := readTable(t)
	rows := make(map[string]string)
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			cells := make([]string, len(forms))
			for i, form := range forms {
				t.Run("as "+form, func(t *testing.T) { cells[i] = start(t, s, form).outcome(t) })
				if cells[i] == "" {
					return // it has failed, or was skipped
				}
			}
			appid := "the account's"
			if s.platform {
				appid = "the component's"
			}
			rows[s.name] = fmt.Sprintf("| %s | %s | %s |\n", s.name, appid, strings.Join(cells, " | "))
			if !*update && !strings.Contains(table, rows[s.name]) {
				t.Errorf("the table in %s lacks\n%sif that is as it should be, run this test with -update", docsFile, rows[s.name])
			}
		})
	}
	if *update && !t.Failed() {
		writeTable(t, rows)
	}
	if lines := strings.Count(table, "\n"); !*update && lines != len(servers) {
		t.Errorf("the table in %s has %d rows for %d servers", docsFile, lines, len(servers))
	}
}

// The versions of SDKs in Go are those of go.mod; of the others, startNode compares them.
func TestVersions(t *testing.T) {
	goMod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		sdk, _, _ := strings.Cut(s.name, ",")
		if module, version, _ := strings.Cut(sdk, " "); strings.HasPrefix(version, "v") &&
			!regexp.MustCompile(regexp.QuoteMeta(module)+`(/v\d+)? `+regexp.QuoteMeta(version)+`\n`).Match(goMod) {
			t.Errorf("%s is not in go.mod", sdk)
		}
	}
}

// world is a gateway that delivers to one application.
type world struct {
	*gwtest.Gateway
	server server
	form   string
	app    *application
}

func start(t *testing.T, s server, form string) *world {
	t.Helper()
	w := &world{Gateway: gwtest.Start(t, gwtest.Options{Quiet: true}), server: s, form: form}
	appid := gwtest.OfficialAccount
	if s.platform {
		appid = w.WeChat.Component()
	}
	w.app = s.start(t, told{w.Proxy, appid})
	w.Change(func(o *gwtest.Options) { o.Clients = w.clients() })
	return w
}

// clients returns a client without component_api: a code of the gateway needs none. The
// server gets each kind of delivery at a path of its own, as some SDKs want it, and those
// for accounts get no events of the platform.
func (w *world) clients() string {
	kinds := map[string]string{"messages": "match msg_type text event"}
	if w.server.platform {
		kinds["tickets"], kinds["events"] = "match info_type component_verify_ticket", "match info_type authorized"
	}
	var targets strings.Builder
	for path, match := range kinds {
		fmt.Fprintf(&targets, "deliver %s/%s {\ntoken %s\nencoding_aes_key %s\nas %s\n%s\n}\n", w.app.url, path, pushToken, aesKey, w.form, match)
	}
	return fmt.Sprintf("client shop {\nsecret %s\nauthorizers *\n%s}", clientSecret, &targets)
}

// outcome lets WeChat push everything, and returns the cell of the table: what of it
// works, or why nothing does. In the form that is for the server all has to work.
func (w *world) outcome(t *testing.T) string {
	ticket, code := w.authorizes(t)
	read, replied := w.writes(t)
	var works []string
	for _, part := range []struct {
		name string
		ok   bool
	}{{"messages", read}, {"replies", replied}, {"tickets", ticket}, {"codes", code}} {
		if part.ok {
			works = append(works, part.name)
		}
	}
	cell, warned := strings.Join(works, ", "), strings.Contains(w.Logs(), warning)
	if w.form == w.server.right() {
		wanted := "messages, replies"
		if w.server.platform {
			wanted += ", tickets, codes"
		}
		if cell != wanted || warned || w.app.said("failed ") != "" {
			t.Errorf("in the form for it, it gets %q: %s\n%s", cell, w.app.said("failed "), w.Logs())
		}
		return cell
	}
	if cell == "" {
		cell = "nothing: `" + strings.TrimPrefix(w.app.said("failed /messages "), "failed /messages ") + "`"
	}
	if warned {
		cell += "; the gateway warns"
	}
	return cell
}

// warning is what the log says of an application in the wrong form.
const warning = "compare as of deliver"

// authorizes pushes a ticket and lets the account authorise, and reports whether the
// SDK has read the ticket, and exchanged the code of the event at the gateway.
func (w *world) authorizes(t *testing.T) (ticket, code bool) {
	t.Helper()
	if err := w.WeChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.server.platform && w.form == "platform" {
		w.awaits(t, "ticket ", "failed /tickets ")
	}
	if _, err := w.WeChat.Authorize(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	if !w.server.platform {
		return false, false
	}
	w.awaits(t, "authorized ", "failed /events ")
	token, ok := strings.CutPrefix(w.app.said("authorized "), "authorized "+gwtest.OfficialAccount+" ")
	if ok && strings.HasPrefix(token, "gw1.") {
		answer := w.Get(gwtest.AuthorizerPath + "?access_token=" + token)
		code = strings.Contains(answer, `"total"`)
	}
	return strings.HasPrefix(w.app.said("ticket "), "ticket gwk1."), code
}

// writes lets a follower subscribe and write, and reports whether the SDK has read that,
// and whether the follower sees its reply where there is one.
func (w *world) writes(t *testing.T) (read, replied bool) {
	t.Helper()
	const text = "您好 🎉 <b>&amp;</b>"
	if subscribed := w.pushes(t, "subscribe", ""); subscribed.Shown != sandbox.ShownSilence {
		t.Errorf("on subscribing the follower sees %q %q", subscribed.Shown, subscribed.Reply)
	}
	answer := w.pushes(t, "text", text)
	if silence := w.pushes(t, "text", quiet); silence.Shown != sandbox.ShownSilence {
		t.Errorf("without a reply the follower sees %q %q", silence.Shown, silence.Reply)
	}
	w.awaits(t, "text "+quiet, "failed /messages ")
	read = w.app.said("event subscribe") != "" && w.app.said("text "+text) != "" && w.app.said("text "+quiet) != ""
	replied = answer.Shown == sandbox.ShownReply && answer.Attempts == 1 &&
		strings.Contains(answer.Reply, "You wrote: "+text) && strings.Contains(answer.Reply, "o123")
	if !replied && answer.Shown != sandbox.ShownSilence {
		t.Errorf("the follower sees %q %q", answer.Shown, answer.Reply)
	}
	return read, replied
}

// pushes lets a follower do something.
func (w *world) pushes(t *testing.T, kind, content string) sandbox.PushAnswer {
	t.Helper()
	message, err := w.WeChat.Message(gwtest.OfficialAccount, "o123", kind, content)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := w.WeChat.Push(t.Context(), message)
	if err != nil {
		t.Fatalf("%v\n%s", err, w.Logs())
	}
	return answer
}

// awaits waits for a line that begins in one of these ways.
func (w *world) awaits(t *testing.T, prefixes ...string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, prefix := range prefixes {
			if w.app.said(prefix) != "" {
				return
			}
		}
	}
	t.Fatalf("the application has not said any of %q\n%s", prefixes, w.Logs())
}

const (
	docsFile  = "../../docs/delivery.md"
	tableHead = "| SDK | its appid | `as account` | `as platform` |\n|---|---|---|---|\n"
)

// readTable returns the rows of the table.
func readTable(t *testing.T) string {
	t.Helper()
	docs, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(docs), tableHead)
	rows, _, found := strings.Cut(after, "\n\n")
	if !found {
		t.Fatalf("%s has no table with the head\n%s", docsFile, tableHead)
	}
	return rows + "\n"
}

// writeTable writes these rows into the table. Servers that could not be run here keep
// theirs.
func writeTable(t *testing.T, rows map[string]string) {
	t.Helper()
	old := readTable(t)
	var table strings.Builder
	for _, s := range servers {
		if row := rows[s.name]; row != "" {
			table.WriteString(row)
			continue
		}
		for line := range strings.Lines(old) {
			if strings.HasPrefix(line, "| "+s.name+" |") {
				table.WriteString(line)
			}
		}
	}
	docs, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	anew := strings.Replace(string(docs), tableHead+old, tableHead+table.String(), 1)
	if err := os.WriteFile(docsFile, []byte(anew), 0o644); err != nil {
		t.Fatal(err)
	}
}
