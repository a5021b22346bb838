// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// Who has an answer has a line in the audit, also of what was collected when the log was
// closed: at a reload that writes to another file, and at the end of the process.
func TestEachAnsweredCallIsInTheBufferedAudit(t *testing.T) {
	folder := t.TempDir()
	weChat, n := newWeChat(t)
	n.Admin = "unix/" + filepath.Join(folder, "admin")
	n.Wechat = "audit calls"
	configure := func(name string) (file string) {
		n.Global = fmt.Sprintf("log audit {\ninclude wechat.audit\noutput wechat_buffered file %q\n}\nlog default {\nformat wechat\nexclude wechat.audit\n}",
			filepath.Join(folder, name+".log"))
		file = filepath.Join(folder, name+".caddyfile")
		n.Write(t, file)
		return file
	}
	p := caddy.Launch(t, "run", "--config", configure("before"))
	p.Serves(n.Platform, n.Proxy)
	authorize(t, weChat)

	var answered atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for callAs(t.Context(), n.Proxy, officialAccount, domainIPPath) == nil {
				answered.Add(1)
			}
		})
	}
	among := func(calls int64) {
		t.Helper()
		p.Until("answering calls", func() bool { return answered.Load() >= calls })
	}
	among(200)
	if reload := caddy.Launch(t, "reload", "--config", configure("after"), "--address", n.Admin); reload.Wait() != 0 {
		t.Fatalf("reload: %s", reload.Printed())
	}
	among(answered.Load() + 200)
	p.Terminate()
	callers.Wait()

	before, after := auditedCalls(t, filepath.Join(folder, "before.log")), auditedCalls(t, filepath.Join(folder, "after.log"))
	if before < 200 || after < 200 || before+after < int(answered.Load()) {
		t.Errorf("%d calls are answered, and the audit has %d before the reload and %d after it", answered.Load(), before, after)
	}
}

// auditedCalls returns how many calls have a line in a file. All lines are whole.
func auditedCalls(t *testing.T, file string) (calls int) {
	t.Helper()
	for line := range strings.Lines(page(t, file)) {
		var said struct {
			Message string `json:"msg"`
			Path    string
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Fatalf("%s: %v in %q", filepath.Base(file), err, line)
		}
		if said.Message == "call" && said.Path == domainIPPath {
			calls++
		}
	}
	return calls
}
