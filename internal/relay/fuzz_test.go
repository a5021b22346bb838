// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// FuzzPeek looks for an errcode in any answer, which arrives in pieces or at
// once: the caller gets every byte of it all the same. No other errcode is found
// than the one that stands there; wherever it stands, it is found in an answer whose
// length is known.
func FuzzPeek(f *testing.F) {
	for _, text := range []string{
		`{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest, rid: 5f2a-1-2"}`, `{"errmsg":"","errcode":42001}`,
		"", "{", `{"errcode":"40014"}`, "\x1f\x8b", "<html>", `{"a":"` + string(bytes.Repeat([]byte("x"), peekSize)) + `","errcode":40001}`,
	} {
		f.Add([]byte(text), "application/json; encoding=utf-8", false, false)
		f.Add([]byte(text), "text/plain", true, true)
	}
	f.Fuzz(func(t *testing.T, text []byte, kind string, pieces, counted bool) {
		var body io.Reader = bytes.NewReader(text)
		if pieces {
			body = iotest.OneByteReader(body)
		}
		response := &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(body)}
		if counted {
			response.ContentLength = int64(len(text))
		}
		looked := response.ContentLength <= peekSize
		code := (&peekedBody{size: response.ContentLength}).peekErrcode(response)
		got, err := io.ReadAll(response.Body)
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%v, %q, want %q", err, got, text)
		}
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		want, _ := rewrite.Errcode(text[:min(len(text), peekSize)], len(text) <= peekSize, counted)
		if code != 0 && (!looked || code != want) || looked && counted && code != want {
			t.Errorf("errcode %d of %q, want %d", code, text, want)
		}
	})
}
