// SPDX-License-Identifier: Apache-2.0

package rewrite_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// spellings are texts that hold a token in some encoding, by the name of it.
func spellings(token string) map[string]string {
	escaped := func(form string, some bool) string {
		var out strings.Builder
		for _, c := range []byte(token) {
			if some && c != '_' && c != '-' {
				out.WriteByte(c)
			} else {
				fmt.Fprintf(&out, form, c)
			}
		}
		return out.String()
	}
	texts := map[string]string{
		"hexadecimal":             hex.EncodeToString([]byte(token)),
		"hexadecimal in capitals": strings.ToUpper(hex.EncodeToString([]byte(token))),
	}
	for _, form := range []string{`%%%02x`, `%%%02X`, `%%25%02X`, `%%2525%02x`, `\u%04x`, `\u%04X`, `\\u%04x`, `\\\u%04x`, `\x%02x`, `&#%d;`, `&#%04d;`, `&#x%x;`, `&#X%X;`} {
		texts["all escaped as "+form], texts["some escaped as "+form] = escaped(form, false), escaped(form, true)
	}
	for shift := range 3 {
		text := strings.Repeat("{", shift) + token
		texts["base64 behind "+text[:shift]] = base64.StdEncoding.EncodeToString([]byte(text))
		texts["base64 of addresses behind "+text[:shift]] = base64.URLEncoding.EncodeToString([]byte(text + `&a=1"}`))
	}
	return texts
}

// WeChat, or a server on the way to it, echoes what it was sent in an encoding:
// an error page as HTML, a debugging answer in base64, an address in a redirect.
// Whoever can undo the encoding would have the real token.
func TestScrubFindsEncodedTokens(t *testing.T) {
	for name, spelled := range spellings(echoed) {
		text := `{"a":"first","url":"/x?t=` + spelled + `&a=1","b":2}`
		for how, reader := range map[string]io.Reader{
			"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)), "in halves": iotest.HalfReader(strings.NewReader(text)),
		} {
			got, err := io.ReadAll(rewrite.Scrub(io.NopCloser(reader), rewrite.TokenOf(echoed)))
			if err != nil || len(got) != len(text) || !bytes.HasPrefix(got, []byte(`{"a":"first","url":"/x?t=`)) || !bytes.HasSuffix(got, []byte(`a=1","b":2}`)) {
				t.Errorf("%s, %s: %v, %s becomes %s", name, how, err, text, got)
			}
			if stars := bytes.Count(got, []byte("*")); stars < len(echoed) {
				t.Errorf("%s, %s: %s becomes %s", name, how, text, got)
			}
		}
		header := http.Header{"X-Echo": {"was " + spelled}}
		rewrite.ScrubHeader(header, rewrite.TokenOf(echoed), "gw")
		if got := header.Get("X-Echo"); got != "gw" {
			t.Errorf("%s: the header becomes %q", name, got)
		}
	}
}

// A token in an encoding arrives in pieces: what is the beginning of it waits,
// and nothing else does.
func TestScrubHoldsBackTheBeginningOfEncodedTokens(t *testing.T) {
	for name, spelled := range spellings(echoed) {
		arriving, body := io.Pipe()
		scrubbed := rewrite.Scrub(arriving, rewrite.TokenOf(echoed))
		go func() {
			_, _ = io.WriteString(body, `"first","`+spelled[:len(spelled)/2])
			_, _ = io.WriteString(body, spelled[len(spelled)/2:]+`"`)
			body.CloseWithError(errors.New("broken"))
		}()
		p := make([]byte, 4<<10)
		n, err := scrubbed.Read(p)
		if got := string(p[:n]); err != nil || !strings.HasPrefix(got, `"first","`) || len(got) > len(`"first","`)+3 {
			t.Errorf("%s: read %q of %q, %v", name, got, spelled, err)
		}
		_, _ = io.Copy(io.Discard, scrubbed)
	}
}

// What looks like an escape and is none, or one of another character, stays.
func TestScrubLeavesOtherEscapes(t *testing.T) {
	for _, text := range []string{
		`%`, `%zz`, `%2`, `\`, `\u00`, `\u00zz`, `\x`, `&`, `&;`, `&#;`, `&#999999999;`, `&nosuch;`, `\/\"\u4f60`, `%E4%BD%A0`, strings.Repeat(`\`, 50), strings.Repeat(`%25`, 50),
		strings.Repeat(`%37`, 40), strings.Repeat(`\u0137`, 40), echoed[:5] + `%zz` + echoed[5:], strings.ToUpper(echoed),
	} {
		for _, body := range []string{text, `{"a":"` + text + `"}`} {
			got, err := io.ReadAll(rewrite.Scrub(io.NopCloser(iotest.OneByteReader(strings.NewReader(body))), rewrite.TokenOf(echoed)))
			if err != nil || string(got) != body {
				t.Errorf("%v, %q becomes %q", err, body, got)
			}
		}
	}
}

// A JSON answer can escape any character of any string, once more for each JSON
// within JSON. Where the whole answer is at hand its strings are read.
func TestEveryStringOfJSONIsRead(t *testing.T) {
	token := rewrite.TokenOf(echoed)
	twice, _ := json.Marshal(`{"url":"\u0037\u0038` + echoed[2:] + `"}`)
	for before, want := range map[string]string{
		`{"a":"b","n":1}`:                            `{"a":"b","n":1}`,
		`{"a":"\u003` + `7` + echoed[1:] + `"}`:      `{"a":"withheld"}`,
		`{"` + echoed + `":1}`:                       `{"withheld":1}`,
		`["x","` + echoed + `",["` + echoed + `"]]`:  `["x","withheld",["withheld"]]`,
		`{"a":` + string(twice) + `,"b":"\"\\"}`:     `{"a":"withheld","b":"\"\\"}`,
		"{\"a\":\"\x01\\u0037" + echoed[1:] + "\"}":  `{"a":"withheld"}`,
		"{\"a\":\"\xff\\u0037" + echoed[1:] + " \"}": `{"a":"withheld"}`,
	} {
		got := rewrite.EditStrings([]byte(before), func(text string) (string, bool) { return "withheld", token.In(text) })
		if string(got) != want {
			t.Errorf("%s becomes %s, want %s", before, got, want)
		}
	}
}
