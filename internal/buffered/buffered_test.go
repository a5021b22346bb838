// SPDX-License-Identifier: Apache-2.0

package buffered_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	_ "github.com/caddy-wechat/caddy-wechat/internal/buffered"
)

// adapt returns the JSON of the output of a log in a Caddyfile.
func adapt(t *testing.T, output string) (json.RawMessage, error) {
	t.Helper()
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n\tlog calls {\n\t\tinclude wechat.audit\n\t\toutput "+output+"\n\t}\n}\n"), nil)
	if err != nil {
		return nil, err
	}
	if len(warnings) > 0 && !strings.Contains(warnings[0].Message, "not formatted") {
		t.Errorf("%s: %v", output, warnings)
	}
	var config struct {
		Logging struct {
			Logs map[string]struct{ Writer json.RawMessage }
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	return config.Logging.Logs["calls"].Writer, nil
}

func TestCaddyfile(t *testing.T) {
	for output, want := range map[string]string{
		"wechat_buffered file /x/calls.log":                              `{"output":"wechat_buffered","writer":{"filename":"/x/calls.log","output":"file"}}`,
		"wechat_buffered file /x/calls.log {\n\t\t\troll_keep 3\n\t\t}":  `{"output":"wechat_buffered","writer":{"filename":"/x/calls.log","output":"file","roll_keep":3}}`,
		"wechat_buffered net tcp/127.0.0.1:9 {\n\t\t\tsoft_start\n\t\t}": `{"output":"wechat_buffered","writer":{"address":"tcp/127.0.0.1:9","output":"net","soft_start":true}}`,
		"wechat_buffered stdout":                                         `{"output":"wechat_buffered","writer":{"output":"stdout"}}`,
		"wechat_buffered stderr":                                         `{"output":"wechat_buffered","writer":{"output":"stderr"}}`,
		"wechat_buffered discard":                                        `{"output":"wechat_buffered","writer":{"output":"discard"}}`,
	} {
		if got, err := adapt(t, output); err != nil || string(got) != want {
			t.Errorf("%s:\n%s, %v, want\n%s", output, got, err, want)
		}
	}
	for output, want := range map[string]string{
		"wechat_buffered":                             "such as: output wechat_buffered file /var/log/caddy/calls.log",
		"wechat_buffered {\n\t\t\tfile /x\n\t\t}":     "such as: output wechat_buffered file",
		"wechat_buffered fiel /x":                     "caddy.logging.writers.fiel",
		"wechat_buffered file":                        "argument",
		"wechat_buffered stdout loud":                 "argument",
		"wechat_buffered stdout {\n\t\t\tloud\n\t\t}": "loud",
	} {
		if got, err := adapt(t, output); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v, want an error with %q", output, got, err, want)
		}
	}
}

// provision returns the opener of a log's output in JSON.
func provision(t *testing.T, writer string) (caddy.WriterOpener, error) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	loaded, err := ctx.LoadModuleByID("caddy.logging.writers.wechat_buffered", json.RawMessage(writer))
	if err != nil {
		return nil, err
	}
	return loaded.(caddy.WriterOpener), nil
}

func TestOutputWithoutAnother(t *testing.T) {
	for writer, want := range map[string]string{
		`{}`:                           `set writer, such as {"output": "file"`,
		`{"writer":{"output":"fiel"}}`: "caddy.logging.writers.fiel",
		`{"writer":{"output":"file"}}`: "no such file",
	} {
		opener, err := provision(t, writer)
		if err == nil {
			_, err = opener.OpenWriter()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", writer, err, want)
		}
	}
}

func TestOutputWritesToTheOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "calls.log")
	opener, err := provision(t, `{"writer":{"output":"file","filename":"`+file+`"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(opener.String(), file) || !strings.Contains(opener.WriterKey(), file) || opener.WriterKey() == "file:"+file {
		t.Errorf("it is called %q, with the key %q", opener, opener.WriterKey())
	}
	to, err := opener.OpenWriter()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Write([]byte("a line\n")); err != nil {
		t.Error(err)
	}
	if err := to.Close(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(file); string(text) != "a line\n" {
		t.Errorf("the file has %q, %v", text, err)
	}
}
