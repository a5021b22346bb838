// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/google/go-cmp/cmp"

	wechat "github.com/caddy-wechat/caddy-wechat"
)

// deliverBlock is the app's Caddyfile with one client that has this line.
func deliverBlock(line string) string {
	return `wechat {
		component wx134c8103faa5a59e {
			app_secret       0123456789abcdef0123456789abcdef
			token            PUSHTOKEN
			encoding_aes_key abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG
		}
		client shop {
			secret shop-secret-0123456789-0123456789
			` + line + `
		}
	}`
}

func parseDeliver(line string) (*wechat.App, error) {
	app := new(wechat.App)
	return app, app.UnmarshalCaddyfile(caddyfile.NewTestDispenser(deliverBlock(line)))
}

func TestDeliverInTheCaddyfile(t *testing.T) {
	app, err := parseDeliver("deliver https://shop.test/wechat {\n token {env.T}\n encoding_aes_key {env.K}\n }")
	if err != nil {
		t.Fatal(err)
	}
	want := wechat.Deliveries{{URL: "https://shop.test/wechat", Tokens: []string{"{env.T}"}, EncodingAESKeys: []string{"{env.K}"}}}
	if diff := cmp.Diff(want, app.Clients["shop"].Deliver); diff != "" {
		t.Error(diff)
	}
}

func TestDeliverMistakesAreFoundWhenTheConfigIsRead(t *testing.T) {
	for name, row := range map[string]struct{ line, want string }{
		"no URL":             {"deliver {\n token abc\n }", "deliver"},
		"two URLs":           {"deliver http://a.test http://b.test", "want exactly one"},
		"another scheme":     {"deliver ftp://a.test", "not a URL to deliver to"},
		"no host":            {"deliver /wechat", "not a URL to deliver to"},
		"a password in it":   {"deliver http://u:SECRET@a.test", "not a URL to deliver to"},
		"an unknown option":  {"deliver http://a.test {\n tokn abc\n }", `unrecognized subdirective "tokn"`},
		"a token of 2":       {"deliver http://a.test {\n token SECRET-2\n }", "3 to 32 letters"},
		"a 42-character key": {"deliver http://a.test {\n token abc\n encoding_aes_key " + "SECRET" + strings.Repeat("a", 36) + "\n }", "want 43"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseDeliver(row.line)
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%v", err)
			}
		})
	}
}

// provision loads the configuration without starting it, as caddy validate does.
func provisionDeliver(t *testing.T, line string) (logged string, err error) {
	t.Helper()
	app, err := parseDeliver(line)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	log := t.TempDir() + "/log"
	config := map[string]any{}
	if err := json.Unmarshal([]byte(`{"admin":{"disabled":true,"config":{"persist":false}},
		"logging":{"logs":{"default":{"writer":{"output":"file","filename":"`+log+`"}}}}}`), &config); err != nil {
		t.Fatal(err)
	}
	config["apps"] = map[string]any{"wechat": json.RawMessage(raw)}
	config["storage"] = map[string]any{"module": "file_system", "root": t.TempDir()}
	raw, err = json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		t.Fatal(err)
	}
	err = caddy.Validate(&cfg)
	text, _ := os.ReadFile(log)
	return string(text), err
}

func TestDeliverSecretsAreResolvedWhenTheConfigIsLoaded(t *testing.T) {
	t.Setenv("TEST_SHORT", "SECRET-2")
	t.Setenv("TEST_KEY", "SECRET"+strings.Repeat("a", 36))
	for name, row := range map[string]struct{ line, want string }{
		"no token":             {"deliver http://a.test", "deliver: token is missing"},
		"a token that is not":  {"deliver http://a.test {\n token {env.TEST_SHORT}\n }", "deliver: token: want 3 to 32"},
		"a missing variable":   {"deliver http://a.test {\n token {env.TEST_MISSING}\n }", "deliver: token: the environment variable TEST_MISSING"},
		"a key that is no key": {"deliver http://a.test {\n token abc\n encoding_aes_key {env.TEST_KEY}\n }", "deliver: encoding_aes_key: EncodingAESKey has 42"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := provisionDeliver(t, row.line)
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAWarningWhereMessagesTravelInTheClear(t *testing.T) {
	for address, warned := range map[string]bool{
		"https://shop.example.com/wechat": false,
		"http://127.0.0.1:9000/wechat":    false,
		"http://[::1]:9000":               false,
		"http://localhost:9000":           false,
		"http://10.1.2.3/":                false,
		"http://[fd00::1]/":               false,
		"http://shop:9000/":               false,
		"http://shop.example.com/":        true,
		"http://8.8.8.8/":                 true,
	} {
		logged, err := provisionDeliver(t, "deliver "+address+" {\n token abc\n }")
		if err != nil || strings.Contains(logged, "travel unencrypted") != warned {
			t.Errorf("%s: %v, %s", address, err, logged)
		}
	}
}
