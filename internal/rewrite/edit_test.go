// SPDX-License-Identifier: Apache-2.0

package rewrite_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// hide puts "X" in the place of every token.
func hide(name string, _ []byte) []byte {
	if name == "token" {
		return []byte(`"X"`)
	}
	return nil
}

func TestEdit(t *testing.T) {
	for name, row := range map[string]struct{ raw, want string }{
		"one member":                       {`{"token":"a"}`, `{"token":"X"}`},
		"nothing to edit":                  {`{"z":1,"a":2}`, `{"z":1,"a":2}`},
		"an empty object":                  {`{}`, `{}`},
		"an empty list":                    {` [ ] `, ` [ ] `},
		"a text":                           {`"token"`, `"token"`},
		"a number":                         {`7200`, `7200`},
		"order and unknown members stay":   {`{"z":null,"token":"a","a":[true,{"b":{}}]}`, `{"z":null,"token":"X","a":[true,{"b":{}}]}`},
		"numbers stay as they are written": {`{"n":1.50E+2,"m":12345678901234567890,"token":"a","s":"7200"}`, `{"n":1.50E+2,"m":12345678901234567890,"token":"X","s":"7200"}`},
		"a number before the end":          {"{\"token\":\"a\",\"n\":1 \n}", "{\"token\":\"X\",\"n\":1 \n}"},
		"blanks stay":                      {"\n{ \"token\"\t:\n\"a\" , \"b\" : 1 }\r\n", "\n{ \"token\"\t:\n\"X\" , \"b\" : 1 }\r\n"},
		"within another object":            {`{"info":{"token":"a","n":1}}`, `{"info":{"token":"X","n":1}}`},
		"within a list":                    {`{"list":[{"token":"a"},{"token":"b"},[{"token":"c"}]]}`, `{"list":[{"token":"X"},{"token":"X"},[{"token":"X"}]]}`},
		"in a list of objects":             {`[{"token":"a"},1]`, `[{"token":"X"},1]`},
		"twice in one object":              {`{"token":"a","token":"b"}`, `{"token":"X","token":"X"}`},
		"written with an escape":           {`{"to\u006ben":"a"}`, `{"to\u006ben":"X"}`},
		"written with capitals":            {`{"Token":"a"}`, `{"Token":"X"}`},
		"a value that is an object":        {`{"token":{"token":"a"}}`, `{"token":"X"}`},
		"a value that is a number":         {`{"token":1}`, `{"token":"X"}`},
		"quotes and braces in texts":       {`{"a":"\"}],\\","token":"\\\""}`, `{"a":"\"}],\\","token":"X"}`},
		"a name that is a value":           {`{"a":"token","token":"b"}`, `{"a":"token","token":"X"}`},
		"control characters in a nickname": {"{\"nick\":\"a\x01\nb\",\"token\":\"c\"}", "{\"nick\":\"a\x01\nb\",\"token\":\"X\"}"},
		"invalid UTF-8":                    {"{\"nick\":\"\xff\",\"token\":\"c\"}", "{\"nick\":\"\xff\",\"token\":\"X\"}"},
		"Chinese and emoji":                {`{"昵称":"小店🎉","token":"c"}`, `{"昵称":"小店🎉","token":"X"}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := rewrite.Edit([]byte(row.raw), hide)
			if err != nil || string(got) != row.want {
				t.Errorf("Edit(%s) = %s, %v, want %s", row.raw, got, err, row.want)
			}
		})
	}
}

func TestEditGivesTheValueAsItStands(t *testing.T) {
	var seen []string
	_, err := rewrite.Edit([]byte(`{"A": "x\u0041" ,"b":[{"c": 1.0}]}`), func(name string, value []byte) []byte {
		seen = append(seen, name+"="+string(value))
		return nil
	})
	if want := `a="x\u0041" b=[{"c": 1.0}] c=1.0`; err != nil || strings.Join(seen, " ") != want {
		t.Errorf("saw %s, %v, want %s", strings.Join(seen, " "), err, want)
	}
}

func TestEditRefuses(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":             ``,
		"blanks":              "  \n",
		"a page":              `<html>`,
		"half a document":     `{"token":"a"`,
		"half a text":         `{"token":"a`,
		"two documents":       `{"a":1}{"token":"a"}`,
		"an end too many":     `{"a":1}}`,
		"text after the end":  `{"a":1} token`,
		"another blank":       "{\"a\":1}\u00a0",
		"one after a number":  "0\u0085",
		"a missing comma":     `{"a":1 "token":"a"}`,
		"a name without text": `{a:1}`,
		"ends that differ":    `{"a":[1}}`,
		"deeper than 32":      strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := rewrite.Edit([]byte(raw), hide); err == nil {
				t.Errorf("Edit(%s) = %s, want an error", raw, got)
			}
		})
	}
}

// Whatever encoding/json reads, Edit hides every token of, and changes nothing
// else.
func FuzzEdit(f *testing.F) {
	for _, s := range []string{`{"token":"a"}`, `[{"x":1,"token":{"token":[]}}]`, `{"TOKEN":1,"token":2}`, "{\"a\":\"\x01\"}", `{"\u0074oken":""}`, `1e999`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := rewrite.Edit(raw, hide)
		if err != nil {
			if json.Valid(raw) && depth(raw) < 32 {
				t.Fatalf("Edit(%q): %v", raw, err)
			}
			return
		}
		if same, err := rewrite.Edit(raw, func(string, []byte) []byte { return nil }); err != nil || !bytes.Equal(same, raw) {
			t.Errorf("without edits %q became %q, %v", raw, same, err)
		}
		if again, err := rewrite.Edit(got, hide); err != nil || !bytes.Equal(again, got) {
			t.Errorf("edited again %q became %q, %v", got, again, err)
		}
		_, _ = rewrite.Edit(got, func(name string, value []byte) []byte {
			if name == "token" && string(value) != `"X"` {
				t.Errorf("%q has kept a token: %q", raw, got)
			}
			return nil
		})
	})
}

// depth is how deep a document may be nested, by its brackets alone.
func depth(raw []byte) (deepest int) {
	for i, open := 0, 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			open++
		case '}', ']':
			open--
		}
		deepest = max(deepest, open)
	}
	return deepest
}
