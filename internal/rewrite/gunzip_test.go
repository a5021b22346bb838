// SPDX-License-Identifier: Apache-2.0

package rewrite_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

func zipped(text string) string {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = io.WriteString(zip, text)
	_ = zip.Close()
	return out.String()
}

func answerOf(encoding, content string) *http.Response {
	header := http.Header{"Content-Length": {strconv.Itoa(len(content))}}
	if encoding != "" {
		header.Set("Content-Encoding", encoding)
	}
	return &http.Response{Header: header, ContentLength: int64(len(content)), Body: io.NopCloser(strings.NewReader(content))}
}

func TestGunzip(t *testing.T) {
	long := strings.Repeat("微信", 100_000)
	for name, row := range map[string]struct {
		encoding, content, want string
		unpacked, broken        bool
	}{
		"plain":          {"", long, long, false, false},
		"compressed":     {"gzip", zipped(long), long, true, false},
		"in capitals":    {"GZIP", zipped("{}"), "{}", true, false},
		"nothing":        {"gzip", zipped(""), "", true, false},
		"no body":        {"gzip", "", "", false, false},
		"another":        {"br", "{}", "{}", false, false},
		"not compressed": {"gzip", "{}", "", true, true},
		"cut off":        {"gzip", zipped(long)[:100], "", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			response := answerOf(row.encoding, row.content)
			rewrite.Gunzip(response)
			content, err := io.ReadAll(response.Body)
			if (err != nil) != row.broken || !row.broken && string(content) != row.want {
				t.Errorf("read %.20q, %v", content, err)
			}
			length, encoding := int64(len(row.content)), row.encoding
			if row.unpacked {
				length, encoding = -1, ""
			}
			if response.ContentLength != length || response.Uncompressed != row.unpacked || response.Header.Get("Content-Encoding") != encoding {
				t.Errorf("its length is %d, its header %v", response.ContentLength, response.Header)
			}
		})
	}
}

// What unpacks is used again, but not by a body that has been closed.
func TestGunzipAfterClose(t *testing.T) {
	first, second := answerOf("gzip", zipped("first")), answerOf("gzip", zipped("second"))
	rewrite.Gunzip(first)
	rewrite.Gunzip(second)
	one := make([]byte, 1)
	if _, err := first.Body.Read(one); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := first.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if content, err := io.ReadAll(second.Body); string(content) != "second" || err != nil {
		t.Errorf("read %q, %v", content, err)
	}
	if n, err := first.Body.Read(one); n != 0 || err == nil {
		t.Errorf("after Close %q is read", one[:n])
	}
}

func BenchmarkGunzip(b *testing.B) {
	content, buffer := zipped(strings.Repeat("{}", 500)), make([]byte, 32<<10)
	b.ReportAllocs()
	for b.Loop() {
		response := answerOf("gzip", content)
		rewrite.Gunzip(response)
		for {
			if _, err := response.Body.Read(buffer); err != nil {
				break
			}
		}
		response.Body.Close()
	}
}
