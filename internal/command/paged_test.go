// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

func synced(next, total, fresh, restored int) answer {
	return answer{text: fmt.Sprintf(`{"component":"wx1","next":%d,"total":%d,"new":%d,"restored":%d}`, next, total, fresh, restored) + "\n"}
}

// At the end stands what was new, and on the way, where there is no terminal, a line for
// each tenth page.
func TestSyncSaysWhatWasNew(t *testing.T) {
	w := newWorld(t)
	for i := range 21 {
		w.answer(fmt.Sprintf("POST /wechat/sync?offset=%d", i*500), synced(min(i*500+500, 10203), 10203, 30, 1))
	}
	if got, want := w.run("sync"), "5000 of 10203\n10000 of 10203\n10203 of 10203\n630 accounts new, 21 restored\n"; got.out != want || got.err != "" || got.code != 0 {
		t.Errorf("%+v, want %q", got, want)
	}
	w.answer("POST /wechat/sync?offset=9500&component=wx1", synced(10000, 10203, 1, 0))
	w.answer("POST /wechat/sync?offset=10000&component=wx1", synced(10203, 10203, 0, 0))
	if got, want := w.run("sync", "--component", "wx1", "--from", "9500"), "10203 of 10203\n1 account new, 0 restored\n"; got.out != want || got.code != 0 {
		t.Errorf("%+v, want %q", got, want)
	}
	if got, want := w.run("sync", "--component", "wx1", "--from", "9500", "--json"), synced(10000, 10203, 1, 0).text+synced(10203, 10203, 0, 0).text; got.out != want || got.code != 0 {
		t.Errorf("%+v, want %q", got, want)
	}
}

// A task that breaks off says with which command it goes on, whatever broke it off.
func TestTasksThatBreakOffAreGoneOnWith(t *testing.T) {
	w := newWorld(t)
	address := strings.TrimPrefix(w.URL, "http://")
	w.answer("POST /wechat/sync?offset=0&component=wx1", synced(500, 1203, 500, 0))
	for name, row := range map[string]struct {
		answer answer
		want   string
	}{
		"an error":      {answer{502, `{"error":"WeChat refuses","remedy":"wait"}`}, "Error: WeChat refuses\nwait\n"},
		"no answer":     {answer{0, "<html>"}, "Error: reading the gateway's answer: "},
		"going in ring": {synced(500, 1203, 0, 0), "Error: the gateway's answer goes back to what is done\n"},
	} {
		w.answer("POST /wechat/sync?offset=500&component=wx1", row.answer)
		got := w.run("sync", "--component", "wx1")
		if got.code != 1 || !strings.HasPrefix(got.err, row.want) || !strings.HasSuffix(got.err, "\ngo on with: caddy wechat sync --component wx1 --address "+address+" --from 500\n") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	got := execute("reseal", "--address", "127.0.0.1:1", "--from", "7")
	if got.code != 1 || got.out != "" || !strings.HasPrefix(got.err, "Error: is the gateway running?") || !strings.HasSuffix(got.err, "\ngo on with: caddy wechat reseal --address 127.0.0.1:1 --from 7\n") {
		t.Errorf("without a gateway: %+v", got)
	}
}

// A number that the gateway does not take is asked about, also one that looks like the
// end, and it is not what to go on with.
func TestTasksRefuseWrongNumbers(t *testing.T) {
	w := newWorld(t)
	refused := answer{400, `{"error":"offset is none","remedy":"write another"}`}
	for _, task := range []string{"sync", "reseal"} {
		for _, number := range []string{"-1", "0", "1000000000"} {
			w.answer("POST /wechat/"+task+"?offset="+number, refused)
			if got := w.run(task, "--from", number); got.code != 1 || got.out != "" || got.err != "Error: offset is none\nwrite another\n" {
				t.Errorf("%s --from %s: %+v", task, number, got)
			}
		}
	}
}

// In a terminal there is a bar, and it gets a line of its own before anything else.
func TestTheBarIsForTerminals(t *testing.T) {
	w := newWorld(t)
	w.answer("POST /wechat/sync?offset=0", synced(500, 1000, 500, 0))
	w.answer("POST /wechat/sync?offset=500", synced(1000, 1000, 0, 1))
	task := func() (*paged[operate.Synced], *strings.Builder) {
		var out strings.Builder
		cmd := &cobra.Command{Use: "sync"}
		cmd.SetOut(&out)
		p := &paged[operate.Synced]{
			path:     "/wechat/sync",
			progress: func(page operate.Synced) operate.Progress { return page.Progress },
			add:      func(operate.Synced) {},
			ended:    func(io.Writer) error { return nil },
		}
		p.command(cmd, "")
		p.terminal, p.admin.address = true, strings.TrimPrefix(w.URL, "http://")
		return p, &out
	}
	p, out := task()
	half := "\r[" + strings.Repeat("#", 20) + strings.Repeat(".", 20) + "] 500 of 1000"
	if err, want := p.run(t.Context()), half+"\r["+strings.Repeat("#", 40)+"] 1000 of 1000\n"; err != nil || out.String() != want {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	p, out = task()
	if err := p.run(stopped); err == nil || !strings.HasPrefix(err.Error(), "stopped; go on with: sync ") || out.String() != half+"\n" {
		t.Errorf("stopped: %q, %v", out, err)
	}
	w.answer("POST /wechat/sync?offset=500", answer{502, `{"error":"WeChat refuses","remedy":"wait"}`})
	p, out = task()
	if err := p.run(t.Context()); err == nil || out.String() != half+"\n" {
		t.Errorf("an error: %q, %v", out, err)
	}
}

// Files that no key opens are an error also for programs.
func TestResealSaysWhatDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	const text = `{"component":"wx1","next":1,"total":1,"resealed":1,"unreadable":["wechat/wx1/a","wechat/wx1/b"]}` + "\n"
	w.answer("POST /wechat/reseal?offset=0", answer{text: text})
	want := "Error: no key that is configured opens\n\twechat/wx1/a\n\twechat/wx1/b\nif the seal key"
	if got := w.run("reseal"); got.code != 1 || got.out != "1 of 1\n1 sealed anew\n" || !strings.HasPrefix(got.err, want) {
		t.Errorf("%+v", got)
	}
	if got := w.run("reseal", "--json"); got.code != 1 || got.out != text || !strings.HasPrefix(got.err, want) {
		t.Errorf("%+v", got)
	}
	if asked := w.requests(); !slices.Equal(asked, []string{"POST /wechat/reseal?offset=0", "POST /wechat/reseal?offset=0"}) {
		t.Errorf("asked is %q", asked)
	}
}
