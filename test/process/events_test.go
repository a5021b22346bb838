// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// events runs caddy wechat events with arguments against the gateway at this address,
// and returns what it prints and its exit code.
func events(t *testing.T, admin string, arguments ...string) (printed string, code int) {
	t.Helper()
	p := caddy.Launch(t, slices.Concat([]string{"wechat", "events"}, arguments, []string{"--address", admin})...)
	code = p.Wait()
	return p.Printed(), code
}

// An operator sees in his shell what waits, page by page, and what became of what he
// has done.
func TestOperatorsActOnQueuesInTheirShell(t *testing.T) {
	var status atomic.Int64
	bodies := make(chan string, 10)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if status.Load() == http.StatusOK {
			bodies <- string(body)
		}
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(app.Close)
	status.Store(http.StatusGone) // then everything waits, and nothing is tried
	weChat, n := newWeChat(t)
	n.Admin = "unix/" + filepath.Join(t.TempDir(), "admin")
	n.Clients = "client shop {\nsecret " + caddy.ClientSecret + "\nauthorizers *\ndeliver " + app.URL + " {\nname main\ntoken SHOPTOKEN\n}\n}"
	p := gateway(t, n)
	weChat.SetURLs("http://"+n.Platform+"/wechat/events", "http://"+n.Platform+"/wechat/messages/$APPID$")
	run := func(want string, arguments ...string) string {
		t.Helper()
		printed, code := events(t, n.Admin, arguments...)
		if code != 0 || !strings.Contains(printed, want) {
			t.Errorf("%v: exit code %d, want %q of\n%s", arguments, code, want, printed)
		}
		return printed
	}
	if got := run(""); got != "nothing is waiting, and there are no dead letters\n" {
		t.Errorf("the empty list is %q", got)
	}
	run("there are no dead letters for client shop, target main\n", "list", "--client", "shop", "--target", "main", "--state", "dead")

	authorize(t, weChat)
	push := func(text string) {
		t.Helper()
		inner := "<MsgType>text</MsgType><Content>" + text + "</Content><MsgId>" + text + "</MsgId>"
		if _, err := weChat.PushMessage(t.Context(), officialAccount, "o123", inner); err != nil {
			t.Fatal(err)
		}
	}
	push("1000001")
	p.Until("waiting", func() bool {
		printed, _ := events(t, n.Admin)
		return strings.Contains(printed, "2 waiting, 0 dead\n") && strings.Contains(printed, "status 410")
	})
	row := regexp.MustCompile(`(?m)^shop    main    ` + officialAccount + `  (\S+) +\d+s +(?:in \d+s|now) +\d+ +([0-9a-f]{32})`)
	listed := row.FindAllStringSubmatch(run("CLIENT  TARGET  ACCOUNT"), -1)
	if len(listed) != 2 || listed[0][1] != "authorized" || listed[1][1] != "message" {
		t.Fatalf("listed are %q", listed)
	}
	first := run("1 waiting, 0 dead on this page; the next one: caddy wechat events list --limit 1 --address "+n.Admin+" --cursor ", "list", "--limit", "1")
	next := strings.Fields(first[strings.Index(first, "caddy wechat events"):])
	second := caddy.Launch(t, next[1:]...)
	if code := second.Wait(); code != 0 || !strings.Contains(second.Printed(), listed[1][2]) || strings.Contains(second.Printed(), listed[0][2]) {
		t.Errorf("%q: exit code %d\n%s", next, code, second.Printed())
	}
	var page struct {
		Items []struct {
			EventID string `json:"event_id"`
		}
	}
	if err := json.Unmarshal([]byte(run("", "--json", "--client", "shop")), &page); err != nil || len(page.Items) != 2 || page.Items[1].EventID != listed[1][2] {
		t.Errorf("%+v, %v", page, err)
	}

	run("1 event is deleted\n", "discard", "--event-id", listed[0][2])
	run("0 events are deleted\n", "discard", "--event-id", listed[0][2])
	status.Store(http.StatusOK)
	run("1 event is replayed\n", "replay", "--since", "1h", "--target", "main")
	if body := <-bodies; !strings.Contains(body, "1000001") {
		t.Errorf("replayed is %s", body)
	}
	run("1 target has taken the test\n", "test", "--client", "shop")
	if body := <-bodies; !strings.Contains(body, "gateway_test") {
		t.Errorf("the test is %s", body)
	}
	if got := run("", "test", "--client", "shop", "--json"); got != `{"count":1}`+"\n" {
		t.Errorf("in JSON the test is %q", got)
	}
	caddy.WantNoCredential(t, append(weChat.Credentials(), caddy.ClientSecret, "SHOPTOKEN"), "what is printed", first+second.Printed())
}

// Each mistake ends with an error that says what to do.
func TestEventsCommandSaysWhatIsWrong(t *testing.T) {
	_, n := newWeChat(t)
	nobody := "unix/" + filepath.Join(t.TempDir(), "nobody")
	if printed, code := events(t, nobody); code != 1 || !strings.Contains(printed, "is the gateway running?") || !strings.Contains(printed, nobody) {
		t.Errorf("without a gateway: exit code %d, %s", code, printed)
	}
	n.Admin = "unix/" + filepath.Join(t.TempDir(), "admin")
	n.Clients = "client shop {\nsecret " + caddy.ClientSecret + "\ndeliver http://" + caddy.FreeAddress(t) + " {\nname main\ntoken SHOPTOKEN\n}\n}"
	gateway(t, n)
	for arguments, want := range map[string]string{
		"lst":                          `unknown command "lst"`,
		"list all":                     `unknown command "all"`,
		"list --colour red":            "unknown flag: --colour",
		"list --limit x":               "invalid argument",
		"list --limit 0":               "1 to 1000",
		"list --limit 1000000000":      "1 to 1000",
		"list --state alive":           "waiting or dead",
		"list --cursor x":              "without a cursor",
		"list --client shopp":          "known are: shop",
		"discard":                      "nothing is named",
		"discard --state dead":         "nothing is named",
		"discard --client= --all":      "client is empty",
		"discard --since yesterday":    "RFC 3339",
		"replay --event-id 1":          "32 characters",
		"test":                         "name the client",
		"test --client shop":           "client shop, target main: posting: no connection",
		"test --client shop --all":     "unknown flag: --all",
		"replay --target nowhere":      "known are: main",
		"replay --client shop --all x": `unknown command "x"`,
	} {
		if printed, code := events(t, n.Admin, strings.Fields(arguments)...); code != 1 || !strings.Contains(printed, want) {
			t.Errorf("%s: exit code %d, want 1 and %q of\n%s", arguments, code, want, printed)
		}
	}
}
