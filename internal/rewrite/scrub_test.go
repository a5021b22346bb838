// SPDX-License-Identifier: Apache-2.0

package rewrite_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

const echoed = "78_abab78_abc"

var stars = strings.Repeat("*", len(echoed))

func TestScrub(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                     "",
		"no token":                    `{"errcode":0}`,
		"the token alone":             echoed,
		"in the middle":               `{"url":"/x?access_token=` + echoed + `&a=1"}`,
		"twice":                       echoed + echoed,
		"at the end, cut off":         "x" + echoed[:len(echoed)-1],
		"a beginning before it":       echoed[:5] + echoed,
		"it begins again within":      "78_ab" + echoed + "78_ab",
		"far apart":                   echoed + strings.Repeat("7", 70_000) + echoed,
		"only characters of it":       strings.Repeat("78_", 3000),
		"one byte at a chunk's end":   strings.Repeat("x", 4095) + echoed,
		"over the end of a chunk":     strings.Repeat("x", 4090) + echoed + strings.Repeat("y", 5000),
		"a beginning at the very end": strings.Repeat("x", 32<<10) + "7",
	} {
		want := strings.ReplaceAll(text, echoed, stars)
		for how, reader := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "in halves": iotest.HalfReader,
			"with the end": iotest.DataErrReader,
		} {
			for _, size := range []int{1, 7, 1 << 10, 32 << 10} {
				body := rewrite.Scrub(io.NopCloser(reader(strings.NewReader(text))), rewrite.TokenOf(echoed))
				var got bytes.Buffer
				if _, err := io.CopyBuffer(&got, struct{ io.Reader }{body}, make([]byte, size)); err != nil || got.String() != want {
					t.Errorf("%s, read %s into %d bytes: %v, %.60q, want %.60q", name, how, size, err, got.String(), want)
				}
			}
		}
	}
}

// A page may write the token as text, as part of an address, or as HTML.
func TestScrubFindsEveryForm(t *testing.T) {
	const token = `78+a&b"c`
	const text = `78+a&b"c 78%2Ba%26b%22c 78+a&amp;b&#34;c`
	got, err := io.ReadAll(rewrite.Scrub(io.NopCloser(strings.NewReader(text)), rewrite.TokenOf(token)))
	if want := "******** ************** ****************"; err != nil || string(got) != want {
		t.Errorf("%v, %q, want %q", err, got, want)
	}
}

// What has arrived is passed on before more does, but for what may be the
// beginning of the token.
func TestScrubHoldsNothingElseBack(t *testing.T) {
	arriving, body := io.Pipe()
	scrubbed := rewrite.Scrub(arriving, rewrite.TokenOf(echoed))
	go func() {
		_, _ = io.WriteString(body, "first")
		_, _ = io.WriteString(body, "second 78_")
		_, _ = io.WriteString(body, "x")
		body.CloseWithError(errors.New("broken"))
	}()
	p := make([]byte, 1<<10)
	for _, want := range []string{"first", "second ", "78_x"} {
		if n, err := scrubbed.Read(p); err != nil || string(p[:n]) != want {
			t.Errorf("read %q, %v, want %q", p[:n], err, want)
		}
	}
	if _, err := scrubbed.Read(p); err == nil || err.Error() != "broken" {
		t.Errorf("at the end: %v", err)
	}
	if err := scrubbed.Close(); err != nil {
		t.Error(err)
	}
}

func TestScrubHeader(t *testing.T) {
	header := func() http.Header {
		return http.Header{
			"Location":   {"https://a.example/?access_token=a%40b&x=1"},
			"Set-Cookie": {"t=a@b", "u=1"},
			"X-Twice":    {"a@b, a@b"},
			"Date":       {"now"},
		}
	}
	tests := []struct {
		name  string
		token string
		want  http.Header
	}{
		{"plain and escaped, in every value", "a@b", http.Header{
			"Location":   {"https://a.example/?access_token=gw&x=1"},
			"Set-Cookie": {"t=gw", "u=1"},
			"X-Twice":    {"gw, gw"},
			"Date":       {"now"},
		}},
		{"a token that is not there", "other", header()},
		{"no token", "", header()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := header()
			rewrite.ScrubHeader(got, rewrite.TokenOf(tt.token), "gw")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzScrub takes the token out of any text, and finds the same however the text
// arrives.
func FuzzScrub(f *testing.F) {
	f.Add([]byte("78_ab78_abab78_abc"), uint8(3), uint8(2))
	f.Add([]byte(echoed+echoed), uint8(200), uint8(1))
	for _, text := range spellings(echoed) {
		f.Add([]byte(text), uint8(200), uint8(7))
		f.Add([]byte(text[1:]+text), uint8(1), uint8(1))
		f.Add([]byte(text[:len(text)-1]+"x"), uint8(9), uint8(5))
	}
	f.Fuzz(func(t *testing.T, text []byte, size, chunk uint8) {
		token := rewrite.TokenOf(echoed)
		want, err := io.ReadAll(rewrite.Scrub(io.NopCloser(bytes.NewReader(text)), token))
		if err != nil || len(want) != len(text) || bytes.Contains(want, []byte(echoed)) {
			t.Fatalf("%v, %q becomes %q", err, text, want)
		}
		if found := token.In(string(text)); found != !bytes.Equal(want, text) {
			t.Errorf("found in %q: %t, which becomes %q", text, found, want)
		}
		body := rewrite.Scrub(io.NopCloser(&chunked{text, int(chunk)%20 + 1}), token)
		var got bytes.Buffer
		if _, err := io.CopyBuffer(&got, struct{ io.Reader }{body}, make([]byte, int(size)+1)); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%v, %q, want %q", err, got.Bytes(), want)
		}
	})
}

// chunked gives at most size bytes at a time.
type chunked struct {
	left []byte
	size int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.left[:min(c.size, len(c.left))])
	c.left = c.left[n:]
	return n, nil
}

func BenchmarkScrub(b *testing.B) {
	picture := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(picture)
	for name, text := range map[string]string{
		"200 B of JSON": `{"subscribe":1,"openid":"` + strings.Repeat("o", 174) + `"}`, "1 MB of JSON": strings.Repeat(`{"id":"o6_bmjrPTlm6","n":1},`, 37_000),
		"1 MB of a picture": string(picture), "1 MB of letters": strings.Repeat("abcdefg7", 1<<17),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			buffer, token := make([]byte, 32<<10), rewrite.TokenOf(realToken)
			for b.Loop() {
				body := rewrite.Scrub(io.NopCloser(strings.NewReader(text)), token)
				for {
					if _, err := body.Read(buffer); err != nil {
						break
					}
				}
			}
		})
	}
}

func BenchmarkScrubHeader(b *testing.B) {
	h := http.Header{
		"Content-Type": {"application/json; encoding=utf-8"}, "Date": {"Sun, 22 Nov 2026 12:00:00 GMT"},
		"Content-Length": {"120"}, "Connection": {"keep-alive"}, "Logicret": {"0"},
	}
	b.ReportAllocs()
	for b.Loop() {
		rewrite.ScrubHeader(h, rewrite.TokenOf(realToken), "gw")
	}
}

func TestTokenIsNotPrinted(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, rewrite.TokenOf(realToken)); strings.Contains(got, realToken[:8]) {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}
