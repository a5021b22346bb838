// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkPeek looks at an answer of 100 bytes that is no refusal.
func BenchmarkPeek(b *testing.B) {
	const text = `{"subscribe":1,"openid":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","language":"zh_CN","subscribe_time":13826949}`
	reader := strings.NewReader("")
	body := io.NopCloser(reader)
	response := &http.Response{
		StatusCode: http.StatusOK, ContentLength: int64(len(text)),
		Header: http.Header{"Content-Type": {"application/json; encoding=utf-8"}},
	}
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(text)
		response.Body = body
		if new(peekedBody).peekErrcode(response) != 0 {
			b.Fatal("taken for a refusal")
		}
		response.Body.Close()
	}
}
