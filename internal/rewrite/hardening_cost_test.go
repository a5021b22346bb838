// SPDX-License-Identifier: Apache-2.0

package rewrite_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// An answer as large as the gateway accepts, with many small or many deep parts, takes
// a memory that is of its size when it is edited: a server that sends such answers must
// not harm the calls of others.
func TestEditCostsWhatTheSizeOfTheAnswerCosts(t *testing.T) {
	for name, raw := range map[string]string{
		"many lists":         `{"x":[` + strings.Repeat("[1],", 700_000) + "1]}",
		"many lists, deep":   strings.Repeat(`{"a":`, 30) + "[" + strings.Repeat("[1],", 700_000) + "1]" + strings.Repeat("}", 30),
		"a long text, deep":  strings.Repeat(`{"a":`, 30) + `"` + strings.Repeat("x", 3<<20) + `"` + strings.Repeat("}", 30),
		"many empty objects": `[` + strings.Repeat("{},", 1_000_000) + "1]",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := rewrite.Edit([]byte(raw), hide)
		runtime.ReadMemStats(&after)
		if allocated := int(after.TotalAlloc - before.TotalAlloc); err == nil && allocated > 20*len(raw) {
			t.Errorf("%s: %d MB take %d MB, want 20 times the size at most", name, len(raw)>>20, allocated>>20)
		}
	}
}
