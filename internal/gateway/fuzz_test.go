// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
)

// FuzzContains writes a credential into the value of a header, between any texts
// and with any of its characters escaped: it is found. Where none is written, none
// is found.
func FuzzContains(f *testing.F) {
	f.Add("Bearer ", "", uint64(0), uint8(0))
	f.Add("https://app.example.com/?secret=", "&a=1", uint64(1), uint8(1))
	f.Add("100% ", "%", ^uint64(0), uint8(2))
	f.Add(longSecret[:32], shortSecret[1:], uint64(5), uint8(3))
	f.Add("gw", "1.", uint64(2), uint8(4))
	f.Add("gwgwc", "k1.", uint64(6), uint8(5))
	f.Add("gw", "gwk1", uint64(1), uint8(6))
	f.Add("%2", "5%", uint64(1)<<31, uint8(0))
	clients := secretive(f, 0)
	credentials := []string{shortSecret, longSecret, longerSecret, paddedSecret, "gw1.abc", "gwc1.abc", "gwk1.abc"}
	f.Fuzz(func(t *testing.T, before, after string, escaped uint64, which uint8) {
		if !holdsOne(before+after, credentials) && clients.Contains(before+after) {
			t.Errorf("found in %q", before+after)
		}
		var written strings.Builder
		for i, c := range []byte(credentials[int(which)%len(credentials)]) {
			if escaped>>(i%64)&1 == 1 {
				written.WriteString("%" + string("0123456789ABCDEF"[c>>4]) + string("0123456789abcdef"[c&15]))
			} else {
				written.WriteByte(c)
			}
		}
		// An escape is one only where no other begins before it: "%2" makes
		// another character of what follows.
		if beginsEscape.MatchString(before) {
			before += " "
		}
		if value := before + written.String() + after; !clients.Contains(value) {
			t.Errorf("not found in %q", value)
		}
	})
}

var beginsEscape = regexp.MustCompile(`%[0-9a-fA-F]?$`)

// holdsOne reports whether a text may have a credential in it, plain or with
// escapes.
func holdsOne(text string, credentials []string) bool {
	decoded := text
	for range 2 { // a text without its malformed escapes, and one with all of them read
		for _, credential := range append(credentials, "gw1.", "gwc1.", "gwk1.", digestSecret, digestPadded) {
			if strings.Contains(text, credential) || strings.Contains(decoded, credential) {
				return true
			}
		}
		decoded = regexp.MustCompile(`%[0-9a-fA-F]{2}`).ReplaceAllStringFunc(text, func(escape string) string {
			plain, _ := url.PathUnescape(escape)
			return plain
		})
	}
	return false
}

// FuzzParameters reads any query and body: there is an error, or the value in the
// body is used where both have one.
func FuzzParameters(f *testing.F) {
	for _, row := range [][3]string{
		{"appid=wxaaaaaaaaaaaaaaaa&secret=s", "", ""},
		{"grant_type=client_credential", "application/json", `{"appid":"wxaaaaaaaaaaaaaaaa","secret":5,"force_refresh":null}`},
		{"a=1", "application/x-www-form-urlencoded", "a=2&a=3"},
		{"a=1", "application/x-www-form-urlencoded", `{"a":2}`},
		{"%zz", "", ""},
		{"a=1;b=2", "text/plain; charset", `{"a":{"b":[]},"a":" "}`},
		{"", "application/json", "[1]"},
	} {
		f.Add(row[0], row[1], []byte(row[2]))
	}
	f.Fuzz(func(t *testing.T, query, kind string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/cgi-bin/token", strings.NewReader(string(body)))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", kind)
		g := &Gateway{Address: func(*http.Request) netip.Addr { return netip.Addr{} }}
		form, err := g.parameters(httptest.NewRecorder(), r)
		if err != nil {
			if form != nil {
				t.Errorf("parameters came with the error %v", err)
			}
			return
		}
		var object map[string]any
		if json.Unmarshal(body, &object) != nil {
			return
		}
		for name, value := range object {
			text, isText := value.(string)
			if isText && strings.TrimSpace(text) != "null" && form.Get(name) != strings.TrimSpace(text) {
				t.Errorf("%q is %q, the body has %q", name, form.Get(name), text)
			}
		}
	})
}

// FuzzQuoted quotes any request and answer as openapi/rid/get does: what the
// client gets has no credential in a parameter or in a member of such a name.
func FuzzQuoted(f *testing.F) {
	for _, text := range []string{
		"access_token=78_abc&next_openid=", "https://api.weixin.qq.com/cgi-bin/user/get?access%5Ftoken=78_abc;a=1", "?a=1?component_access_token=x",
		`{"component_appid":"wx134c8103faa5a59e","component_appsecret":"s","component_verify_ticket":"ticket@@@"}`,
		`{"authorization_info":{"authorizer_access_token":"78_abc","func_info":[{"authorizer_refresh_token":{"a":1}}]}}`,
		`{"request":"{\"access_token\":\"78_abc\",\"a\":[\"{\\\"appsecret\\\":1}\"]}"}`, `{"a":"` + "\x01" + `","ACCESS_TOKEN":"x","\u0061ppsecret":""}`, "grant_type=x", `{"access_token":`, "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, query, found := strings.Cut(withoutCredentials(text), "?")
		if !found {
			query = withoutCredentials(text)
		}
		for segment := range strings.FieldsFuncSeq(query, func(r rune) bool { return r == '&' || r == ';' }) {
			name, value, _ := strings.Cut(segment, "=")
			if plain, err := url.QueryUnescape(name); err == nil && value != "" && slices.Contains(openapi.Credentials, strings.ToLower(plain)) {
				t.Errorf("%q keeps %q", text, segment)
			}
		}
		var quoted any
		if body := quotedBody(text); body != "withheld" && json.Unmarshal([]byte(body), &quoted) == nil {
			withheldIn(t, body, quoted, 0)
		}
	})
}

// withheldIn fails where a member of a credential's name has a value, also in a
// document that is a string.
func withheldIn(t *testing.T, body string, value any, within int) {
	switch value := value.(type) {
	case string:
		var document map[string]any
		if within < 4 && json.Unmarshal([]byte(value), &document) == nil { // as deep as openapi.Withhold looks
			withheldIn(t, body, document, within+1)
		}
	case []any:
		for _, element := range value {
			withheldIn(t, body, element, within)
		}
	case map[string]any:
		for name, member := range value {
			if empty := fmt.Sprint(member); slices.Contains(openapi.Credentials, strings.ToLower(name)) && member != "withheld" &&
				!slices.Contains([]string{"", "<nil>", "[]", "map[]"}, empty) {
				t.Errorf("%q keeps %q", body, name)
			}
			withheldIn(t, body, member, within)
		}
	}
}
