// SPDX-License-Identifier: Apache-2.0

package openapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// echoes are the texts in which an answer may repeat what it was sent.
func echoes(sent string) []string {
	quoted, _ := json.Marshal(sent)
	return []string{
		sent, "/x?access_token=" + sent + "&a=1", url.QueryEscape("?t=" + sent), base64.StdEncoding.EncodeToString([]byte("t=" + sent)),
		`{"t":` + string(quoted) + `}`, fmt.Sprintf(`\u%04x%s`, sent[0], sent[1:]), fmt.Sprintf("%%%02x%s", sent[0], sent[1:]),
	}
}

// A success of WeChat, or of something on the way to it, repeats the request: the
// client whose call it was would have the app secret, or the component's token. The
// answer's other bytes stay, for the call has taken effect.
func TestSuccessRepeatsNothingThatWasSent(t *testing.T) {
	const token, code, key = "REALTOKEN-C-0123456789_abcdef-0123456789", "REALCODE@@@0123456789abcdef0123456789", "REALAPPSECRET0123456789abcdef012345"
	for name, row := range map[string]struct {
		sent []string
		call func(*openapi.Client) ([]byte, error)
	}{
		"with a token": {[]string{token, code}, func(c *openapi.Client) ([]byte, error) {
			return c.Call(t.Context(), "/x", secret.New(token), openapi.Params{"authorization_code": code, "offset": 1})
		}},
		"with a secret": {[]string{key}, func(c *openapi.Client) ([]byte, error) {
			return c.CallWithSecret(t.Context(), "/x", "appsecret", secret.New(key), openapi.Params{"component_appid": component})
		}},
		"that exchanges a code": {[]string{token, code}, func(c *openapi.Client) ([]byte, error) {
			got, err := c.QueryAuth(t.Context(), component, secret.New(token), secret.New(code))
			return got.Answer, err
		}},
		"that asks for an account": {[]string{token}, func(c *openapi.Client) ([]byte, error) {
			got, err := c.AuthorizerInfo(t.Context(), component, authorizer, secret.New(token))
			return got.Answer, err
		}},
		"that lists": {[]string{token}, func(c *openapi.Client) ([]byte, error) {
			got, err := c.AuthorizerList(t.Context(), component, secret.New(token), 0, 1)
			return got.Answer, err
		}},
	} {
		for _, sent := range row.sent {
			for _, text := range echoes(sent) {
				wantConcealed(t, name, sent, text, row.call)
			}
		}
	}
}

// wantConcealed makes a call whose answer has a text in several places that repeats
// what was sent.
func wantConcealed(t *testing.T, name, sent, text string, call func(*openapi.Client) ([]byte, error)) {
	t.Helper()
	literal, _ := json.Marshal(text)
	escaped := strings.ReplaceAll(string(literal), "REAL", `\u0052\u0045\u0041\u004c`)
	for _, echo := range []string{`"errmsg":` + string(literal), `"more":[1,[` + escaped + `]]`, string(literal) + `:{"a":` + escaped + `}`} {
		answer := `{"errcode":0,"authorization_info":{"authorizer_appid":"` + authorizer + `"},` + echo + `,"other":"stays \u4f60"}`
		got, err := call(&openapi.Client{Transport: answers(200, answer)})
		var shown any
		if err != nil || json.Unmarshal(got, &shown) != nil || !strings.HasSuffix(string(got), `,"other":"stays \u4f60"}`) {
			t.Fatalf("%s: %v, %s becomes %s", name, err, answer, got)
		}
		plain, _ := json.Marshal(shown)
		for _, form := range echoes(sent) {
			if quoted, _ := json.Marshal(form); strings.Contains(string(plain), strings.Trim(string(quoted), `"`)) {
				t.Errorf("%s: %s becomes %s", name, answer, got)
			}
		}
	}
}

// An errmsg repeats it in an encoding.
func TestRefusalMessageRepeatsNothingEncoded(t *testing.T) {
	for _, text := range echoes(appSecret.Reveal()) {
		literal, _ := json.Marshal("invalid " + text)
		if got := refusal(t, `{"errcode":40125,"errmsg":`+string(literal)+`}`).Message; got != "withheld, it repeats the request" {
			t.Errorf("the message is %q", got)
		}
	}
}

// What is withheld by name is found at any depth, in a document that is a string
// of another, and whatever its value is; what is empty stays empty.
func TestWithhold(t *testing.T) {
	for before, want := range map[string]string{
		`{"authorizer_refresh_token":"r","access_token":"a","x":1}`:                                        `{"authorizer_refresh_token":"withheld","access_token":"a","x":1}`,
		`{"a":[{"Authorizer_Access_Token":"r"}],"component_access_token":{"b":1}}`:                         `{"a":[{"Authorizer_Access_Token":"withheld"}],"component_access_token":"withheld"}`,
		`{"appsecret":"","component_appsecret":null,"authorization_code":[],"appsecret":5}`:                `{"appsecret":"","component_appsecret":null,"authorization_code":[],"appsecret":"withheld"}`,
		`{"data":"{\"authorizer_refresh_token\":\"r\",\"u\":\"a&b\"}","list":["[{\"appsecret\":\"r\"}]"]}`: `{"data":"{\"authorizer_refresh_token\":\"withheld\",\"u\":\"a&b\"}","list":["[{\"appsecret\":\"withheld\"}]"]}`,
		`{"data":"{\"x\":\"\\u4f60\"}","text":"{ no JSON","component_verify_tick\u0065t":"t"}`:             `{"data":"{\"x\":\"\\u4f60\"}","text":"{ no JSON","component_verify_tick\u0065t":"withheld"}`,
	} {
		if got, err := openapi.Withhold([]byte(before), openapi.Unmistakable); err != nil || string(got) != want {
			t.Errorf("%v, %s becomes %s, want %s", err, before, got, want)
		}
	}
	if got, err := openapi.Withhold([]byte(`{"access_token":"a","refresh_token":"r"}`), openapi.AllTokens); err != nil || string(got) != `{"access_token":"withheld","refresh_token":"withheld"}` {
		t.Errorf("%v, %s", err, got)
	}
	for _, bad := range []string{"", `{"a":1`, `{"a":1}x`, `{"a":"` + "\\u00" + `"}`, `1 {"appsecret":"s"}`, `"" {"appsecret":"s"}`} {
		if got, err := openapi.Withhold([]byte(bad), openapi.AllTokens); err == nil {
			t.Errorf("%q becomes %q", bad, got)
		}
	}
}

// FuzzWithhold reads any answer: what comes out of it is JSON, and no member of a
// name that is withheld has a value, at any depth.
func FuzzWithhold(f *testing.F) {
	for _, answer := range []string{
		`{"authorizer_refresh_token":"r","list":[{"access_token":5,"appsecret":""}]}`, `{"data":"{\"refresh_token\":\"r\"}"}`,
		`{"REFRESH_TOKEN":["r"],"a":[["x",{"appsecret":{}}]]}`, `{"access_toke\u006e":"a","access_token":"b"}`, `["{\"a\":\"{\\\"appsecret\\\":1}\"}"]`, `[1E600,{"appsecret":1E600}]`, "{\"a\":\"\x01\xff\"}",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		got, err := openapi.Withhold(answer, openapi.AllTokens)
		if err != nil {
			return
		}
		clean := bytes.Map(func(r rune) rune { return max(r, ' ') }, got) // control characters stay
		shown, err := decoded(clean)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", answer, got, err)
		}
		wantWithheld(t, shown, 4)
	})
}

// decoded returns the value of a JSON document. A number may be larger than any of
// Go's: 1e600 is one.
func decoded(document []byte) (value any, err error) {
	if !json.Valid(document) {
		return nil, fmt.Errorf("%q is not JSON", document)
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	err = d.Decode(&value)
	return value, err
}

// wantWithheld fails the test if a member that is withheld has a value. It reads
// documents in strings, so many within each other.
func wantWithheld(t *testing.T, value any, within int) {
	t.Helper()
	switch value := value.(type) {
	case []any:
		for _, member := range value {
			wantWithheld(t, member, within)
		}
	case map[string]any:
		for name, member := range value {
			if slices.Contains(openapi.AllTokens, strings.ToLower(name)) {
				if text := fmt.Sprint(member); text != "withheld" && text != "" && text != "<nil>" && text != "[]" && text != "map[]" {
					t.Errorf("%s is %q", name, text)
				}
				continue
			}
			wantWithheld(t, member, within)
		}
	case string:
		if document, err := decoded([]byte(value)); within > 0 && err == nil {
			wantWithheld(t, document, within-1)
		}
	}
}
