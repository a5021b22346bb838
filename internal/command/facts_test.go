// SPDX-License-Identifier: Apache-2.0

package command

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// What is typed becomes the query, and where there may be more, that is said.
func TestPushesAndUsageAreAskedFor(t *testing.T) {
	w := newWorld(t)
	pushes, usage := encoded(t, somePushes()), encoded(t, someUsage())
	for typed, row := range map[string]struct{ request, answer, end string }{
		"pushes":           {"GET /wechat/pushes", pushes, "\n3 pushes since the start of node gw-1, "},
		"pushes --limit 3": {"GET /wechat/pushes?limit=3", pushes, "\nthese are the first 3; --limit shows more\n"},
		"pushes --limit 4": {"GET /wechat/pushes?limit=4", pushes, "\n3 pushes since the start of node gw-1, "},
		"pushes --component wx1 --appid wx2 --outcome refused": {"GET /wechat/pushes?appid=wx2&component=wx1&outcome=refused", pushes, "\n3 pushes since "},
		"usage":                           {"GET /wechat/usage", usage, "\n3 more calls are in no row: theirs had to make room for busier ones\n"},
		"usage --client shop --limit 1":   {"GET /wechat/usage?client=shop&limit=1", usage, "\nthese are the first 1; --limit shows more\n"},
		"usage --appid wx2 --limit 10000": {"GET /wechat/usage?appid=wx2&limit=10000", usage, "\n3 rows since the start of node gw-1, "},
	} {
		w.answer(row.request, answer{text: row.answer})
		got := w.run(strings.Fields(typed)...)
		if got.code != 0 || got.err != "" || !strings.Contains(got.out, row.end) || strings.Contains(row.end, "first") != strings.Contains(got.out, "shows more") {
			t.Errorf("%s: %+v", typed, got)
		}
		if got := w.run(append(strings.Fields(typed), "--json")...); got.code != 0 || got.out != row.answer {
			t.Errorf("%s in JSON: %+v", typed, got)
		}
		if asked := w.requests(); !slices.Equal(asked, []string{row.request, row.request}) {
			t.Errorf("%s: asked is %q, want %s", typed, asked, row.request)
		}
	}
}

// A refused push says why, also if the previous key has verified it.
func TestTheReasonOfAPushIsSaid(t *testing.T) {
	var out strings.Builder
	screen{out: &out, now: noon()}.pushes(operate.Pushes{Items: []operate.Push{{Outcome: "failed", Reason: "storage fails", Previous: true}}}, 100)
	if !strings.Contains(out.String(), "storage fails") || strings.Contains(out.String(), "previous") {
		t.Error(out.String())
	}
}
