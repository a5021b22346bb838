// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	wechat "github.com/caddy-wechat/caddy-wechat"
	"github.com/caddy-wechat/caddy-wechat/internal/audit"
)

// The logger wechat.audit says what the option wants, refusals without it; and the end of
// a configuration writes what was counted until then.
func TestAuditOfAConfiguration(t *testing.T) {
	goodSecrets(t)
	for option, want := range map[string][]string{
		"":               {"call wechat <nil>", "action <nil> <nil>", "call wechat 2"},
		"audit off":      {"action <nil> <nil>"},
		"audit refusals": {"call wechat <nil>", "action <nil> <nil>", "call wechat 2"},
		"audit calls":    {"call <nil> <nil>", "call wechat <nil>", "call wechat <nil>", "call wechat <nil>", "action <nil> <nil>"},
	} {
		t.Run(option, func(t *testing.T) {
			r := startRunning(t)
			if err := r.load(t, mustAdaptText(t, strings.Replace(offline, "seal_key", option+"\n seal_key", 1)), ""); err != nil {
				t.Fatal(err)
			}
			app, err := caddy.ActiveContext().App("wechat")
			if err != nil {
				t.Fatal(err)
			}
			log := wechat.AuditOf(app)
			for _, errcode := range []int{0, 45009, 45009, 45009} {
				log.Call(audit.Call{Client: "shop", HasWeChat: true, WeChat: errcode, Errcode: errcode, Status: 200})
			}
			log.Action(audit.Action{Operator: "admin", Action: "renew"})
			if err := r.load(t, mustAdaptText(t, offline), ""); err != nil {
				t.Fatal(err)
			}
			if got := audited(t, r.logs()); !slices.Equal(got, want) {
				t.Errorf("the log has %q, want %q", got, want)
			}
		})
	}
}

// audited are the lines of the audit in a log, in short.
func audited(t *testing.T, logs string) (all []string) {
	t.Helper()
	content, err := os.ReadFile(logs)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["logger"] == "wechat.audit" {
			all = append(all, fmt.Sprint(m["msg"], " ", m["slug"], " ", m["count"]))
		}
	}
	return all
}
