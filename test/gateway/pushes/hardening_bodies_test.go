// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// A stranger at one address begins many pushes, each as large as a push may be, and ends
// none. All together they take a bounded room, not 64 KiB each.
func TestUnfinishedPushesOfOneAddressTakeBoundedMemory(t *testing.T) {
	const n = 1000
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	inUse := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools hold survives one
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := inUse()
	for range n {
		conn, err := net.Dial("tcp", strings.TrimPrefix(g.Platform, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			fmt.Fprintf(conn, "POST /wechat/events?msg_signature=a&timestamp=1&nonce=1 HTTP/1.1\r\nHost: gateway\r\nContent-Length: 65536\r\n\r\n")
			_, _ = io.WriteString(conn, strings.Repeat("x", 65_000))
		}()
	}
	time.Sleep(3 * time.Second)
	if grown := inUse() - before; grown > 32<<20 {
		t.Errorf("%d unfinished pushes take %d MB, want 32 at most", n, grown>>20)
	}
}
