// SPDX-License-Identifier: Apache-2.0

package rewrite_test

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

const refusal = `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest rid: 66c669e3-210a005b-256a5f92"}`

func TestErrcodeOfACompleteBody(t *testing.T) {
	tests := []struct {
		name string
		body string
		want int
	}{
		{"a refusal", refusal, 40001},
		{"a success that says so", `{"errcode":0,"errmsg":"ok"}`, 0},
		{"a success without errcode", `{"access_token":"x","expires_in":7200}`, 0},
		{"system busy", `{"errcode":-1,"errmsg":"system error"}`, -1},
		{"a number in a string", `{"errcode":"40001"}`, 40001},
		{"space everywhere", " \r\n{\t\"errcode\" :\n 40001 , \"errmsg\" : \"\" }\n", 40001},
		{"a byte order mark", "\ufeff" + refusal, 40001},
		{"not the first member", `{"errmsg":"e","errcode":42001}`, 42001},
		{"after members of all kinds", `{"a":"}","b":{"c":[1,{}]},"d":[[],"]"],"e":1.5e3,"f":null,"errcode":42001}`, 42001},
		{"after a string with quotes", `{"a":"\"errcode\":1,\\","errcode":42001}`, 42001},
		{"in a nested object", `{"a":{"errcode":40001}}`, 0},
		{"in a list", `[{"errcode":40001}]`, 0},
		{"in a string", `{"a":"\"errcode\":40001"}`, 0},
		{"as a value", `{"a":"errcode","b":40001}`, 0},
		{"a longer name", `{"errcode2":40001}`, 0},
		{"another case", `{"ErrCode":40001}`, 0},
		{"twice, the first counts", `{"errcode":40001,"errcode":0}`, 40001},
		{"null", `{"errcode":null}`, 0},
		{"a text", `{"errcode":"ok"}`, 0},
		{"an empty text", `{"errcode":""}`, 0},
		{"not an integer", `{"errcode":40001.5}`, 0},
		{"beyond an int", `{"errcode":99999999999999999999}`, 0},
		{"an object", `{"errcode":{"errcode":40001}}`, 0},
		{"an empty object", `{}`, 0},
		{"an empty body", ``, 0},
		{"a text/plain body that is not JSON", `success`, 0},
		{"an image", "\xff\xd8\xff\xe0\x00\x10JFIF", 0},
		{"a raw control character", "{\"nick\":\"a\x01\nb\",\"errcode\":40001}", 40001},
		{"broken off in the number", `{"errcode":40001`, 40001},
		{"broken off in a string", `{"a":"b`, 0},
		{"broken off after a backslash", `{"a":"b\`, 0},
		{"closed too often", `{}},"errcode":40001}`, 0},
		{"no colon", `{"errcode" 40001}`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, known := rewrite.Errcode([]byte(tt.body), true, false); got != tt.want || !known {
				t.Errorf("Errcode(%s) = %d, %v, want %d, true", tt.body, got, known, tt.want)
			}
		})
	}
}

// The decision about a streamed answer falls with the byte that settles it,
// and not one later.
func TestErrcodeDecidesAtOnce(t *testing.T) {
	tests := []struct {
		name    string
		open    string // undecided up to here, from the first byte
		decides string
		want    int
	}{
		{"a refusal", `{"errcode":40001`, `,`, 40001},
		{"a refusal with space", " {\n\"errcode\" : 40001", ` `, 40001},
		{"a refusal in a string", `{"errcode":"40001`, `"`, 40001},
		{"a refusal with a byte order mark", "\ufeff" + `{"errcode":-1`, `}`, -1},
		{"a success", `{"errcode":0`, `,`, 0},
		{"behind the text", `{"errmsg":"a, {\"b\": [","errcode":42001`, `}`, 42001},
		{"behind several members", `{ "errmsg" : "" , "n":-1.5,"t":true,"rid":null,"errcode":"40001`, `"`, 40001},
		{"an object in the first member", `{"data" :`, `{`, 0},
		{"a list in the second member", `{"total":1,"list": `, `[`, 0},
		{"an object whose name is that of a list", `{"[":1,"a\"":`, `[`, 0},
		{"without an errcode", `{"openid":"o1","n":1`, `}`, 0},
		{"a value in place of a name", `{`, `1`, 0},
		{"no colon behind another name", `{"a" `, `"`, 0},
		{"no name", `{`, `}`, 0},
		{"not a number", `{"errcode":`, `n`, 0},
		{"no colon", `{"errcode" `, `1`, 0},
		{"a list", ``, `[`, 0},
		{"an image", ``, "\xff", 0},
		{"not quite a byte order mark", "\xef\xbb", "\xff", 0},
		{"a text", ` `, `s`, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for n := range len(tt.open) + 1 {
				if _, known := rewrite.Errcode([]byte(tt.open[:n]), false, false); known {
					t.Fatalf("decided after %q", tt.open[:n])
				}
			}
			if got, known := rewrite.Errcode([]byte(tt.open+tt.decides), false, false); got != tt.want || !known {
				t.Errorf("Errcode(%q) = %d, %v, want %d, true", tt.open+tt.decides, got, known, tt.want)
			}
		})
	}
}

// A body that is known to be short is waited for, whatever stands before the
// errcode; but nothing that is no object is.
func TestErrcodeOfAShortBody(t *testing.T) {
	for _, tt := range []struct {
		name    string
		open    string
		decides string
		want    int
	}{
		{"behind an object", `{"data":{"errcode":1,"a":[{}]},"list":[],"errcode":40001`, `,`, 40001},
		{"behind the text", `{"errmsg":"x","errcode":42001`, `}`, 42001},
		{"without an errcode", `{"data":{"errcode":40001}`, `}`, 0},
		{"a list", ``, `[`, 0},
		{"an image", ``, "\x89", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n := range len(tt.open) + 1 {
				if _, known := rewrite.Errcode([]byte(tt.open[:n]), false, true); known {
					t.Fatalf("decided after %q", tt.open[:n])
				}
			}
			if got, known := rewrite.Errcode([]byte(tt.open+tt.decides), false, true); got != tt.want || !known {
				t.Errorf("Errcode(%q) = %d, %v, want %d, true", tt.open+tt.decides, got, known, tt.want)
			}
		})
	}
}

// Errcode agrees with encoding/json wherever that can be asked, and more bytes
// never change a decision.
func FuzzErrcode(f *testing.F) {
	for _, s := range []string{
		refusal, `{"a":[{"errcode":1}],"errcode":-40001}`, `{"a":"\\\"","errcode":0,"errcode":2}`, `{"errcode":"1"}`, ` { "errcode" : 1 } `,
		`{"errcode":1e3}`, `{"errcode":-0}`, `[]`, `{}`, "\ufeff{", `{"\u0065rrcode":1,"errcode":2}`, `{"":{"":""},"errcode":123456789012}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, known := rewrite.Errcode(body, true, false)
		if !known {
			t.Fatalf("Errcode(%q) of a complete body is undecided", body)
		}
		if want, ok := jsonErrcode(body); ok && got != want {
			t.Errorf("Errcode(%q) = %d, encoding/json finds %d", body, got, want)
		}
		for _, short := range []bool{false, true} {
			decided, before := false, 0
			for n := range min(len(body), 256) + 1 {
				code, known := rewrite.Errcode(body[:n], false, short)
				if decided && (!known || code != before) {
					t.Fatalf("Errcode(%q) = %d, %v after it had decided %d", body[:n], code, known, before)
				}
				if known && (code != 0 || short) && code != got {
					t.Fatalf("Errcode(%q) = %d, but %d with the rest", body[:n], code, got)
				}
				decided, before = known, code
			}
		}
	})
}

// jsonErrcode returns the first errcode of a valid JSON object, 0 if there is
// none; false if body is no such object or the errcode no number.
func jsonErrcode(body []byte) (code int, ok bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') || !json.Valid(body) {
		return 0, false
	}
	for dec.More() {
		if _, err := dec.Token(); err != nil {
			return 0, false
		}
		found := bytes.HasSuffix(body[:dec.InputOffset()], []byte(`"errcode"`))
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return 0, false
		}
		if found {
			code, err := strconv.Atoi(string(value))
			var number json.Number
			if json.Unmarshal(value, &number) != nil || value[0] == '"' {
				return 0, false
			}
			if err != nil {
				code = 0 // a fraction, or beyond an int
			}
			return code, true
		}
	}
	return 0, true
}

func TestErrcodeDoesNotAllocate(t *testing.T) {
	body := []byte(refusal)
	if n := testing.AllocsPerRun(100, func() { rewrite.Errcode(body, true, false) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkErrcode(b *testing.B) {
	for name, body := range map[string]string{
		"refusal":    refusal,
		"success":    `{"openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE","nickname":"a","sex":1,"privilege":["a","b"],"unionid":"o6_bmasdasdsad6_2sgVt7hMZOPfL"}`,
		"last of 1K": `{"a":"` + strings.Repeat("x", 980) + `","errcode":40001}`,
	} {
		b.Run(name, func(b *testing.B) {
			data := []byte(body)
			b.ReportAllocs()
			for b.Loop() {
				rewrite.Errcode(data, true, false)
			}
		})
	}
	b.Run("streamed", func(b *testing.B) {
		data := []byte(`{"list":[{"a":1},{"a":2}`)
		b.ReportAllocs()
		for b.Loop() {
			rewrite.Errcode(data, false, false)
		}
	})
}
