// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The two regular expressions say the same as RedactAddress, in the order in which
// they are applied. A request would wait longer for them.
var (
	slowParameters = regexp.MustCompile(`(?i)([?&;][^?&;=]*(?:token|secret|code|ticket|state|session|%)[^?&;=]*)=[^&;]*`)
	slowTokens     = regexp.MustCompile(`gw([ck]?)1(?:\.|%2[eE])[^?&;/]+`)
)

func slowly(address string) string {
	return slowTokens.ReplaceAllString(slowParameters.ReplaceAllString(address, "${1}=REDACTED"), "gw${1}1.REDACTED")
}

// addressRows are addresses, and what of them stands in a log.
var addressRows = []struct{ address, want string }{
	{"", ""},
	{"/cgi-bin/user/info?openid=o1&lang=zh_CN", "/cgi-bin/user/info?openid=o1&lang=zh_CN"},
	{"/cgi-bin/user/info?access_token=abc&openid=o1", "/cgi-bin/user/info?access_token=REDACTED&openid=o1"},
	{"/cgi-bin/token?grant_type=client_credential&appid=wx1&secret=abc", "/cgi-bin/token?grant_type=client_credential&appid=wx1&secret=REDACTED"},
	{"/a?Access_Token=x&b=1", "/a?Access_Token=REDACTED&b=1"},
	{"/a?%61ccess_toke%6e=x&b=1", "/a?%61ccess_toke%6e=REDACTED&b=1"},
	{"/a?b=1;js_code=x;c=2", "/a?b=1;js_code=REDACTED;c=2"},
	{"/a?state=x=y?z&b=1", "/a?state=REDACTED&b=1"},
	{"/a?b?code=x", "/a?b?code=REDACTED"},
	{"/a?secret", "/a?secret"},
	{"/a?secret=", "/a?secret=REDACTED"},
	{"/a&ticket=x", "/a&ticket=REDACTED"},
	{"/secret=x", "/secret=x"},
	{"/a?ſecret=x&to\u212aen=y&tİcket=z", "/a?ſecret=REDACTED&to\u212aen=REDACTED&tİcket=z"},
	{"/a?b=gw1.abc&c=1", "/a?b=gw1.REDACTED&c=1"},
	{"/gwc1%2Eabc/d?b=gwk1.abc;c", "/gwc1.REDACTED/d?b=gwk1.REDACTED;c"},
	{"/gw1./gw1", "/gw1./gw1"},
	{"/gw1.\xff/gw", "/gw1.REDACTED/gw"},
	{"/gwgw1.x", "/gwgw1.REDACTED"},
	{"/a?gw1.xtoken=abc", "/a?gw1.REDACTED"},
}

func TestAddressesLoseTheirCredentials(t *testing.T) {
	for _, row := range addressRows {
		if got := RedactAddress(row.address); got != row.want {
			t.Errorf("%q becomes %q, want %q", row.address, got, row.want)
		}
		if got := slowly(row.address); got != row.want {
			t.Errorf("by the regular expressions %q becomes %q, want %q", row.address, got, row.want)
		}
	}
}

// Most addresses have no credential in them, and are not copied.
func TestAddressWithoutCredentialsIsNotCopied(t *testing.T) {
	const address = "/cgi-bin/user/info?openid=o1&lang=zh_CN&gw=1"
	if n := testing.AllocsPerRun(100, func() { RedactAddress(address) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A stranger chooses the address, of up to 1 MiB. If the work grew with the square of its
// length, this would take minutes.
func TestLongAddressesAreNoMoreWork(t *testing.T) {
	for _, part := range []string{"gw", "gw1.", "gw1.a/", "?", "&code=", "?a", ";%", "gwc1%2e"} {
		address := "/a?" + strings.Repeat(part, 1<<20/len(part))
		RedactAddress(address)
		BlankTokens([]byte(address))
	}
}

func FuzzRedactAddress(f *testing.F) {
	for _, row := range addressRows {
		f.Add(row.address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if got, want := RedactAddress(address), slowly(address); got != want {
			t.Errorf("%q becomes %q, want %q", address, got, want)
		}
	})
}

// A header has several values; a field that is no text at all is not trusted.
func TestFilterOfAddressesTakesTextsAndLists(t *testing.T) {
	encoder := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	for _, row := range []struct {
		name  string
		field zapcore.Field
		want  string
	}{
		{"a text", zap.String("f", "/a?code=x"), `{"f":"/a?code=REDACTED"}`},
		{"a list", zap.Strings("f", []string{"/a?code=x", "", "/b?c=1"}), `{"f":["/a?code=REDACTED","","/b?c=1"]}`},
		{"bytes", zap.ByteString("f", []byte("/a?code=x")), `{}`},
		{"a list of bytes", zap.ByteStrings("f", [][]byte{[]byte("/a?code=x")}), `{"f":["/a?code=REDACTED"]}`},
		{"any value", zap.Reflect("f", map[string]string{"a": "/a?code=x"}), `{}`},
		{"a number", zap.Int("f", 1), `{}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			line, err := encoder.Clone().EncodeEntry(zapcore.Entry{}, []zapcore.Field{Address{}.Filter(row.field)})
			if err != nil {
				t.Fatal(err)
			}
			if line.String() != row.want {
				t.Errorf("written is %s, want %s", line, row.want)
			}
		})
	}
}

// gatewayTokens are in the forms of package gwtoken.
var gatewayTokens = []string{
	"gw1.NjrLbiiI.shop.wx134c8103faa5a59e~wxaaaaaaaaaaaaaaaa.6b0ed5c4.3q2-7_4B.q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA",
	"gwc1.NjrLbiiI.shop.wx134c8103faa5a59e~wxaaaaaaaaaaaaaaaa.6b0ed5c4.3q2-7_4B.q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA",
	"gwk1.q83vEjRWeJCrze8SNFZ4kKvN7xI0Vn-_",
}

func TestTokensAreBlankedAnywhereInALine(t *testing.T) {
	for _, token := range gatewayTokens {
		for _, dot := range []string{".", "%2e", "%2E"} {
			form := strings.ReplaceAll(token, ".", dot)
			kind, rest, _ := strings.Cut(form, dot)
			line, err := json.Marshal(map[string]string{"msg": "calling \"" + form + "\"\n" + form + "\\", "host": "gw1.example.com"})
			if err != nil {
				t.Fatal(err)
			}
			length := len(line)
			BlankTokens(line)
			var got struct{ Msg, Host string }
			if err := json.Unmarshal(line, &got); err != nil || len(line) != length {
				t.Fatalf("%v in %d of %d bytes: %s", err, len(line), length, line)
			}
			blank := kind + dot + strings.Repeat("*", len(rest))
			if want := "calling \"" + blank + "\"\n" + blank + "\\"; got.Msg != want || got.Host != "gw1.example.com" {
				t.Errorf("%s becomes %+v, want %q", form, got, want)
			}
		}
	}
}

// What only begins like a token is worth reading, and no credential.
func TestOtherTextsAreNotBlanked(t *testing.T) {
	for _, text := range []string{
		"", "gw", "gw1", "gw1.", "gwc1.x", "gw1.example.com", "dialing gw1.eu-central-1.compute.internal.example.com:443", "gwk1.REDACTED",
		"gwx1.q83vEjRWeJCrze8SNFZ4kKvN7xI0Vn-_", "gw2.q83vEjRWeJCrze8SNFZ4kKvN7xI0Vn-_", "gw1%2fq83vEjRWeJCrze8SNFZ4kKvN7xI0Vn-_",
	} {
		line := []byte(text)
		if BlankTokens(line); string(line) != text {
			t.Errorf("%q becomes %q", text, line)
		}
	}
}

func FuzzBlankTokens(f *testing.F) {
	for _, token := range gatewayTokens {
		f.Add(token, "gw1."+token, `"`)
	}
	f.Fuzz(func(t *testing.T, before, token, after string) {
		line, err := json.Marshal([]string{before, token, after})
		if err != nil {
			t.Fatal(err)
		}
		blanked := []byte(string(line))
		BlankTokens(blanked)
		if len(blanked) != len(line) || !json.Valid(blanked) {
			t.Fatalf("%s becomes %s", line, blanked)
		}
		for i, c := range blanked {
			if c != line[i] && (c != '*' || !inToken(line[i])) {
				t.Fatalf("%s becomes %s", line, blanked)
			}
		}
		for _, whole := range regexp.MustCompile(`gw[ck]?1\.[\w.~%-]*`).FindAllString(string(blanked), -1) {
			_, rest, _ := strings.Cut(whole, ".")
			for part := range strings.SplitSeq(rest, ".") {
				if len(part) >= minSecretPart && strings.Trim(part, "*") != "" {
					t.Errorf("%s is left in %s", whole, blanked)
				}
			}
		}
	})
}
