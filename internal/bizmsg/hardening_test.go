// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
)

// A stranger's body is refused before its signature can be checked. It is refused at the
// first of its parts that are too many, and not when all are read: WeChat's envelopes
// have five elements and no attributes.
func TestEnvelopeOfManyPartsIsRefusedAtOnce(t *testing.T) {
	for name, body := range map[string]string{
		"elements":   "<xml>" + strings.Repeat("<a/>", 16_000) + "</xml>",
		"texts":      "<xml>" + strings.Repeat("<a>b</a>", 8_000) + "</xml>",
		"members":    "{" + strings.Repeat(`"a":1,`, 10_000) + `"b":1}`,
		"lists":      `{"a":[` + strings.Repeat("[],", 20_000) + "[]]}",
		"attributes": "<xml " + strings.Repeat("a='' ", 12_000) + "></xml>",
	} {
		allocated := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bizmsg.ParseEnvelope([]byte(body)); err == nil {
					b.Fatal("it is accepted")
				}
			}
		}).AllocedBytesPerOp()
		if allocated > 512<<10 {
			t.Errorf("%s: a body of %d KiB takes %d KiB, want 512 at most", name, len(body)>>10, allocated>>10)
		}
	}
}
