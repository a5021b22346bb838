// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-wechat/caddy-wechat/internal/audit"
)

// logTo returns a logger whose lines have a log format of Caddy, in JSON, and where
// they are written.
func logTo(t *testing.T, format string) (*zap.Logger, *bytes.Buffer) {
	t.Helper()
	encoder, err := loadFormat(t, format)
	if err != nil {
		t.Fatal(err)
	}
	written := new(bytes.Buffer)
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(written), zap.DebugLevel)), written
}

func loadFormat(t *testing.T, format string) (zapcore.Encoder, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	var options map[string]any
	if err := json.Unmarshal([]byte(format), &options); err != nil {
		t.Fatal(err)
	}
	id := "caddy.logging.encoders." + options["format"].(string)
	delete(options, "format")
	raw, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := ctx.LoadModuleByID(id, raw)
	if err != nil {
		return nil, err
	}
	return loaded.(zapcore.Encoder), nil
}

// callOf is a request and an answer with a credential wherever one can be.
func callOf() (fields []zap.Field, credentials []string) {
	const token = "gw1.NjrLbiiI.shop.wx134c8103faa5a59e~wxaaaaaaaaaaaaaaaa.6b0ed5c4.3q2-7_4B.q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"
	r := httptest.NewRequest(http.MethodPost, "/cgi-bin/user/info?access_token="+token+"&openid=o1&Js_Code=SPENT-CODE", nil)
	r.Header.Set("Referer", "https://open.example.com/wechat/authorize/callback?auth_code=SPENT-CODE&state=SIGNED-STATE&a=1")
	for _, name := range []string{"X-Forwarded-Uri", "X-Original-URI", "X-Original-URL", "X-Rewrite-URL"} {
		r.Header.Set(name, "/a?b="+token+"&auth_code=SPENT-CODE&Secret=CLIENT-SECRET&c=3")
	}
	r.Header.Set("Authorization", "Bearer CLIENT-SECRET")
	r.Header.Set("Proxy-Authorization", "Bearer CLIENT-SECRET")
	r.Header.Set("Cookie", "wechat_authorize=COOKIE-VALUE")
	r.Header.Set("Wechat-Appid", "wxaaaaaaaaaaaaaaaa")
	answer := http.Header{"Location": {"https://shop.example.com/?code=SPENT-CODE&b=2"}, "Set-Cookie": {"wechat_authorize=COOKIE-VALUE"}, "Date": {"now"}}
	fields = []zap.Field{
		zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r, ShouldLogCredentials: true}),
		zap.Object("resp_headers", caddyhttp.LoggableHTTPHeader{Header: answer, ShouldLogCredentials: true}),
		zap.Object("headers", caddyhttp.LoggableHTTPHeader{Header: answer, ShouldLogCredentials: true}),
		zap.String("uri", r.RequestURI), zap.Int("status", 200), zap.String("error", "no answer to "+token),
	}
	return fields, []string{token, token[len(token)-43:], "SPENT-CODE", "SIGNED-STATE", "CLIENT-SECRET", "COOKIE-VALUE", "Wechat-Appid"}
}

// The format hides credentials in any format that it wraps, also of a logger that has
// fields of its own, and shows what is none.
func TestLogFormatHidesCredentials(t *testing.T) {
	fields, credentials := callOf()
	for name, format := range map[string]string{
		"json":    `{"format":"wechat"}`,
		"console": `{"format":"wechat","wrap":{"format":"console"}}`,
		"filters": `{"format":"wechat","wrap":{"format":"filter","wrap":{"format":"json"},"fields":{"status":{"filter":"delete"}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			log, written := logTo(t, format)
			log.Info("handled "+credentials[0], fields...)
			log.With(zap.String("own", credentials[0])).With(fields[0]).Named("sub").Info("handled "+credentials[0], fields[1:]...)
			lines := strings.Split(strings.TrimSpace(written.String()), "\n")
			if len(lines) != 2 {
				t.Fatalf("%d lines, want 2: %s", len(lines), written)
			}
			for _, line := range lines {
				for _, credential := range credentials {
					if strings.Contains(line, credential) {
						t.Errorf("%s stands in %s", credential, line)
					}
				}
				for _, want := range []string{
					"handled gw1.***", "/cgi-bin/user/info?access_token=REDACTED&openid=o1&Js_Code=REDACTED", "auth_code=REDACTED&state=REDACTED&a=1",
					"/a?b=gw1.REDACTED&auth_code=REDACTED&Secret=REDACTED&c=3", "/?code=REDACTED&b=2", "no answer to gw1.***", "now",
				} {
					if !strings.Contains(line, want) {
						t.Errorf("%s does not stand in %s", want, line)
					}
				}
			}
		})
	}
}

// filtersAlone is the format by Caddy's filters alone, where "address" stands for that of
// an address.
const filtersAlone = `{"format":"filter","fields":{
	"request>uri":"address","request>headers>Referer":"address","resp_headers>Location":"address",
	"request>headers>Authorization":{"filter":"delete"},"request>headers>Proxy-Authorization":{"filter":"delete"},"request>headers>Cookie":{"filter":"delete"},
	"request>headers>Wechat-Appid":{"filter":"delete"},"resp_headers>Set-Cookie":{"filter":"delete"}}}`

const addressFilter = `{"filter":"multi_regexp","operations":[
	{"regexp":"(?i)([?&;][^?&;=]*(?:token|secret|code|ticket|state|session|%)[^?&;=]*)=[^&;]*","value":"${1}=REDACTED"},
	{"regexp":"gw([ck]?)1(?:\\.|%2[eE])[^?&;/]+","value":"gw${1}1.REDACTED"}]}`

// What is written of a request is what Caddy's filters would leave of it.
func TestLogFormatWritesWhatFiltersWouldLeave(t *testing.T) {
	fields, _ := callOf()
	r := httptest.NewRequest(http.MethodGet, "/gwc1%2Ex/a?%74oken=a;b=gwk1.c", nil)
	r.Header["Referer"] = []string{"/?code=1", "", "/gw1.x/y"}
	fields[0] = zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r})
	ours, got := logTo(t, `{"format":"wechat"}`)
	theirs, want := logTo(t, strings.ReplaceAll(filtersAlone, `"address"`, addressFilter))
	entry := zapcore.Entry{Level: zap.InfoLevel, Message: "handled"}
	for log, fields := range map[*zap.Logger][]zap.Field{ours: fields[:2], theirs: fields[:2]} {
		if err := log.Core().Write(entry, fields); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(parsed(want.String()), parsed(got.String())); diff != "" { // the order of headers differs from line to line
		t.Errorf("another line is written (-want +got):\n%s", diff)
	}
}

// Other fields may have filters; those of the format itself cannot be weakened.
func TestLogFormatTakesFurtherFilters(t *testing.T) {
	log, written := logTo(t, `{"format":"wechat","fields":{"status":{"filter":"delete"}}}`)
	fields, _ := callOf()
	log.Info("handled", fields...)
	if text := written.String(); strings.Contains(text, `"status"`) || !strings.Contains(text, "access_token=REDACTED") {
		t.Errorf("written is %s", text)
	}
	_, err := loadFormat(t, `{"format":"wechat","fields":{"request>uri":{"filter":"hash"}}}`)
	if err == nil || !strings.Contains(err.Error(), "request>uri is filtered by the format wechat itself: leave out that line") {
		t.Errorf("refused with %v", err)
	}
}

func TestWrongLogFormatIsRefusedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"format wechat json":               "wrong argument count or unexpected line ending after 'json'",
		"format wechat {\n\t\twrap\n}":     "wrong argument count or unexpected line ending after 'wrap'",
		"format wechat {\n\t\twrap xml\n}": "getting module named 'caddy.logging.encoders.xml'",
		"format wechat {\n\t\ta b\n}":      "getting module named 'caddy.logging.encoders.filter.b'",
	} {
		_, _, err := adaptText("{\n\tlog {\n\t\t" + text + "\n\t}\n}\n")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%s: refused with %v, want %s, and the line", text, err, want)
		}
	}
}

// Lines of the audit are written without filters where none is for one of their fields.
// They look as with filters.
func TestAuditLinesLookTheSameWithoutFilters(t *testing.T) {
	const token = "gw1.NjrLbiiI.shop.wx134c8103faa5a59e~wxaaaaaaaaaaaaaaaa.6b0ed5c4.3q2-7_4B.q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"
	call := audit.Call{Client: "shop", Path: "/a/" + token, Remote: "192.0.2.7", Status: 200, RID: "5f2a-1-2"}
	for _, format := range []string{
		`{"format":"wechat"}`, `{"format":"wechat","wrap":{"format":"console"}}`, `{"format":"wechat","wrap":{"format":"json","time_format":"unix_milli_float"}}`,
		`{"format":"wechat","fields":{"other":{"filter":"delete"}}}`,
	} {
		lines := make(map[bool]string)
		for _, filtered := range []bool{false, true} {
			log, written := logTo(t, format)
			if filtered {
				log = log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core { return core.With(nil) }))
			}
			log.WithOptions(zap.WithClock(standing{})).Info("call", zap.Inline(&call))
			lines[filtered] = written.String()
		}
		if lines[false] != lines[true] || !strings.Contains(lines[false], "192.0.2.7") || strings.Contains(lines[false], token) {
			t.Errorf("%s:\n%s%s", format, lines[false], lines[true])
		}
	}
	log, written := logTo(t, `{"format":"wechat","fields":{"remote":{"filter":"delete"}}}`)
	log.Info("call", zap.Inline(&call))
	if strings.Contains(written.String(), "192.0.2.7") || !strings.Contains(written.String(), "5f2a-1-2") {
		t.Errorf("remote is not filtered: %s", written)
	}
	log, written = logTo(t, `{"format":"wechat"}`)
	log.With(zap.String("node", "n1")).Info("call", zap.Inline(&call))
	if !strings.Contains(written.String(), "n1") || !strings.Contains(written.String(), "192.0.2.7") {
		t.Errorf("a field of the logger is missing: %s", written)
	}
}

// standing is a clock that stands still.
type standing struct{}

func (standing) Now() time.Time                       { return time.Unix(1_700_000_000, 0) }
func (standing) NewTicker(time.Duration) *time.Ticker { panic("not used") }
