// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/base64"
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
		"no URL":              {"deliver {\n token abc\n }", "deliver"},
		"two URLs":            {"deliver http://a.test http://b.test", "want exactly one"},
		"another scheme":      {"deliver ftp://a.test", "not a URL to deliver to"},
		"no host":             {"deliver /wechat", "not a URL to deliver to"},
		"a password in it":    {"deliver http://u:SECRET@a.test", "not a URL to deliver to"},
		"an unknown option":   {"deliver http://a.test {\n tokn abc\n }", `unrecognized subdirective "tokn"`},
		"a token of 2":        {"deliver http://a.test {\n token SECRET-2\n }", "3 to 32 letters"},
		"a 42-character key":  {"deliver http://a.test {\n token abc\n encoding_aes_key " + "SECRET" + strings.Repeat("a", 36) + "\n }", "want 43"},
		"twice":               {"deliver http://a.test {\n token abc\n }\n deliver http://a.test {\n token abd\n }", "deliver: name: 706be801 is that of another target of this client: set name"},
		"one name for two":    {"deliver http://a.test {\n name a\n }\n deliver http://b.test {\n name a\n }", "deliver: name: a is that of another target"},
		"$APPID$ in the host": {"deliver https://$APPID$.a.test/", "deliver: $APPID$ in the host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseDeliver(row.line)
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "Testfile:") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestMistakesInTheBlockOfDeliver(t *testing.T) {
	const types = "want msg_type, event, info_type or appid, then values"
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("SECRET0123456789abcdef01"))
	for line, want := range map[string]string{
		"name":              "name: a value is missing",
		"name Shop":         `name: "Shop" is not a name`,
		"name a\n name b":   "name: already specified",
		"token a1b a2b a3b": "token: 3 values, at most two",
		"token abc abc":     "token: both values are the same",
		"token {env.SECRET": "token: braces are for placeholders",

		"webhook_secret":                           "webhook_secret: missing",
		"webhook_secret SECRET":                    "webhook_secret: want whsec_ and base64 of 24 to 64 bytes",
		"webhook_secret whsec_SECRET":              "want whsec_ and base64",
		"webhook_secret " + secret[len("whsec_"):]: "want whsec_ and base64",
		"webhook_secret whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)): "want whsec_ and base64",
		"webhook_secret whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)): "want whsec_ and base64",
		"webhook_secret " + secret + " " + secret:                                     "webhook_secret: both values are the same",

		"match":                                       "match: " + types,
		"match color red":                             `match: "color" is unknown, ` + types,
		"match MSG_TYPE text":                         `"MSG_TYPE" is unknown`,
		"match msg_type":                              "match: msg_type: a value is missing",
		"match msg_type \"a b\"":                      `match: msg_type: "a b" is none that WeChat could push`,
		"match event \"\"":                            `match: event: "" is none`,
		"match event {env.EVENT}":                     "match: event: {env.EVENT} can stand for a secret only",
		"match info_type ä":                           `match: info_type: "ä" is none`,
		"match appid shop":                            `match: appid: "shop" is not an appid`,
		"match appid *":                               `match: appid: "*" is not an appid`,
		"match event a\n match info_type b":           "info_type beside msg_type or event matches nothing",
		"match event a\n match msg_type b":            "event beside a msg_type other than event matches nothing",
		"match msg_type" + strings.Repeat(" a", 1001): "msg_type: 1001 values, at most 1000",

		"reply":            "reply: a value is missing",
		"reply on":         `reply: "on" is unknown, want off`,
		"reply off off":    "reply: 2 values, want exactly one",
		"timeout":          "timeout: a value is missing",
		"timeout 30":       `timeout: "30" is not a time, want one such as 30s`,
		"timeout 999ms":    "timeout: 999ms is not between 1s and 5m",
		"timeout 5m1s":     "timeout: 5m1s is not between 1s and 5m",
		"timeout -1s":      "timeout: -1s is not between",
		"retry_for 59s":    "retry_for: 59s is not between 1m and 30d",
		"retry_for 31d":    "is not between 1m and 30d",
		"concurrency 0":    "concurrency: 0 is not between 1 and 256",
		"concurrency 257":  "concurrency: 257 is not between",
		"concurrency many": `concurrency: "many" is not a whole number`,
		"queue 0":          "queue: 0 is not between 1 and 1000000",
		"queue 1000001":    "queue: 1000001 is not between",
		"queue 1.5":        `queue: "1.5" is not a whole number`,

		"header":                             "header: want a name and a value",
		"header Authorization":               "header: want a name and a value",
		"header Authorization Bearer SECRET": "put a value with spaces between quotes",
		"header \"A B\" SECRET":              `header: "A B" is not the name of a header`,
		"header Host SECRET":                 `header: "Host" is set by the gateway itself`,
		"header content-length 1":            `"Content-Length" is set by the gateway`,
		"header Content-Type SECRET":         `"Content-Type" is set by the gateway`,
		"header connection close":            `"Connection" is set by the gateway`,
		"header Transfer-Encoding chunked":   `"Transfer-Encoding" is set by the gateway`,
		"header Proxy-Authorization SECRET":  `"Proxy-Authorization" is set by the gateway`,
		"header webhook-id SECRET":           `"Webhook-Id" is set by the gateway`,
		"header Idempotency-Key SECRET":      `"Idempotency-Key" is set by the gateway`,
		"header Accept-Encoding br":          `"Accept-Encoding" is set by the gateway`,
		"header A {SECRET}":                  "header: A: braces are for placeholders",
		"header A \"\"":                      "header: A: the value is empty",
		"header A \" SECRET\"":               "spaces around it",
		"header A `SECRET\x01`":              "header: A: the value",
		"header A a\n header a b":            `"A" is already specified`,

		"transport":                          "transport: want http and a block",
		"transport fastcgi":                  "transport: want http and a block",
		"transport http SECRET":              "transport: want http and a block",
		"transport http {\n SECRET_no 1\n }": "unrecognized subdirective",
		"transport http\n transport http":    "transport: already specified",
		"colour red":                         `unrecognized subdirective "colour"`,

		"as":                      "as: a value is missing",
		"as Platform":             `as: "Platform" is unknown, want account or platform`,
		"as {env.AS}":             "as: {env.AS} can stand for a secret only",
		"as account\n as account": "as: already specified",
		"as platform account":     "as: 2 values, want exactly one",
		"as platform":             "as: platform needs encoding_aes_key",
		"as platform\n token abc": "as: platform needs encoding_aes_key",
		"webhook_secret " + secret + "\n as platform": "as: platform needs encoding_aes_key",
	} {
		t.Run(line, func(t *testing.T) {
			_, err := parseDeliver("deliver http://a.test {\n" + strings.ReplaceAll(line, `\x01`, "\x01") + "\n }")
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
				t.Fatalf("%v", err)
			}
			if strings.Contains(strings.ReplaceAll(err.Error(), "SECRET_no", ""), "SECRET") {
				t.Errorf("quotes a secret: %v", err)
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
	return provisionApp(t, raw)
}

// provisionJSON is provisionDeliver for a client whose deliver is this.
func provisionJSON(t *testing.T, deliver string) (logged string, err error) {
	t.Helper()
	app, err := parseDeliver("")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	const secrets = `"secrets":`
	return provisionApp(t, []byte(strings.Replace(string(raw), `{`+secrets, `{"deliver":`+deliver+`,`+secrets, 1)))
}

func provisionApp(t *testing.T, raw json.RawMessage) (logged string, err error) {
	t.Helper()
	log := t.TempDir() + "/log"
	config := map[string]any{}
	if err := json.Unmarshal([]byte(`{"admin":{"disabled":true,"config":{"persist":false}},
		"logging":{"logs":{"default":{"writer":{"output":"file","roll":false,"filename":"`+log+`"}}}}}`), &config); err != nil {
		t.Fatal(err)
	}
	config["apps"] = map[string]any{"wechat": raw}
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
		"a missing variable":   {"deliver http://a.test {\n token {env.TEST_MISSING}\n }", "TEST_MISSING (client shop, deliver 706be801, token)"},
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

// A target that can never get what it names is warned of.
func TestAWarningWhereAnAccountIsNotTheClients(t *testing.T) {
	for appid, warned := range map[string]bool{"wxaaaaaaaaaaaaaaaa": false, "wx134c8103faa5a59e": false, "wxcccccccccccccccc": true} {
		logged, err := provisionDeliver(t, "deliver http://shop:9000/ {\n token abc\n match appid "+appid+"\n }\n authorizers wxaaaaaaaaaaaaaaaa")
		if err != nil || strings.Contains(logged, "may not act") != warned {
			t.Errorf("%s: %v, %s", appid, err, logged)
		}
	}
}

// A list, or the object of before with its two options of before.
func TestDeliverInJSON(t *testing.T) {
	for name, text := range map[string]string{
		"a list":               `[{"url":"http://a.test","tokens":["abc"],"encoding_aes_keys":["KEY"]}]`,
		"an object":            `{"url":"http://a.test","tokens":["abc"],"encoding_aes_keys":["KEY"]}`,
		"the object of before": ` {"url":"http://a.test","token":"abc","encoding_aes_key":"KEY"}`,
	} {
		text = strings.ReplaceAll(text, "KEY", strings.Repeat("a", 43))
		var client wechat.Client
		if err := json.Unmarshal([]byte(`{"deliver":`+text+`}`), &client); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := wechat.Deliveries{{URL: "http://a.test", Tokens: []string{"abc"}, EncodingAESKeys: []string{strings.Repeat("a", 43)}}}
		if diff := cmp.Diff(want, client.Deliver); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if _, err := provisionJSON(t, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		raw, err := json.Marshal(client)
		if err != nil || !strings.Contains(string(raw), `"deliver":[{"url":`) {
			t.Errorf("%s: written as %s, %v", name, raw, err)
		}
	}
	for _, text := range []string{`null`, `[]`} {
		if _, err := provisionJSON(t, text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestMistakesInTheJSONOfDeliver(t *testing.T) {
	many := strings.Repeat(`{"url":"http://a.test","tokens":["abc"]},`, 65)
	for text, want := range map[string]string{
		`{"url":"http://a.test","tokn":["abc"]}`:                                                    `unknown field "tokn"`,
		`[{"url":"http://a.test","tokn":["abc"]}]`:                                                  `unknown field "tokn"`,
		`{"url":"http://a.test","match":{"color":["a"]}}`:                                           `unknown field "color"`,
		`{"url":"http://a.test","token":"abc","transport":{"protocol":"a"}}`:                        `unknown field "protocol"`,
		`{"url":"http://a.test","token":"abc","tokens":["abd"]}`:                                    "token and tokens: only one of them is possible",
		`{"url":"http://a.test","tokens":["abc"],"encoding_aes_key":"a","encoding_aes_keys":["b"]}`: "encoding_aes_key and encoding_aes_keys",
		`"http://a.test"`: "cannot unmarshal string",
		`[null]`:          "deliver: not a URL to deliver to",
		`[{"url":"http://a.test","tokens":["abc"]},{"tokens":["abc"]}]`: "deliver: target 2: not a URL to deliver to",
		`[` + strings.TrimSuffix(many, ",") + `]`:                       "deliver: 65 targets, at most 64",

		`[{"url":"http://a.test","tokens":["abc"]},{"url":"http://a.test","tokens":["abd"]}]`:                       "deliver: target 2: name: 706be801 is that of another target of this client: set name",
		`[{"url":"http://a.test","tokens":["abc"],"name":"a"},{"url":"http://b.test","tokens":["abd"],"name":"a"}]`: "target 2: name: a is that of another target",
		`[{"url":"http://b.test","tokens":["abc"],"name":"706be801"},{"url":"http://a.test","tokens":["abd"]}]`:     "target 2: name: 706be801 is that of another target",
		`{"url":"http://a.test","tokens":["abc"],"name":"A"}`:                                                       `deliver: name: "A" is not a name`,
		`{"url":"https://$APPID$.test/","tokens":["abc"]}`:                                                          "deliver: $APPID$ in the host",
		`{"url":"http://a.test"}`: "deliver: token is missing: the application checks",
		`{"url":"http://a.test","webhook_secrets":["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"],"encoding_aes_keys":["a"]}`: "deliver: token is missing: with encoding_aes_key",
		`{"url":"http://a.test","tokens":["abc","abd","abe"]}`:                                                           "deliver: token: 3 values",
		`{"url":"http://a.test","webhook_secrets":["SECRET"]}`:                                                           "deliver: webhook_secret: want whsec_",
		`{"url":"http://a.test","tokens":["abc"],"match":{"appid":["SECRETSECRETSECRETSECRET-"]}}`:                       "deliver: match: appid: a text of 25 characters is not an appid",
		`{"url":"http://a.test","tokens":["abc"],"match":{"msg_type":[""]}}`:                                             "deliver: match: msg_type",
		`{"url":"http://a.test","tokens":["abc"],"match":{"event":["a"],"info_type":["b"]}}`:                             "deliver: match: info_type beside",
		`{"url":"http://a.test","tokens":["abc"],"timeout":"1ms"}`:                                                       "deliver: timeout: 1ms is not between",
		`{"url":"http://a.test","tokens":["abc"],"retry_for":-1}`:                                                        "deliver: retry_for: -1ns is not between",
		`{"url":"http://a.test","tokens":["abc"],"concurrency":-1}`:                                                      "deliver: concurrency: -1 is not between",
		`{"url":"http://a.test","tokens":["abc"],"queue":1000001}`:                                                       "deliver: queue: 1000001 is not between",
		`{"url":"http://a.test","tokens":["abc"],"as":"Platform"}`:                                                       `deliver: as: "Platform" is unknown, want account or platform`,
		`{"url":"http://a.test","tokens":["abc"],"as":"platform"}`:                                                       "deliver: as: platform needs encoding_aes_key",
		`{"url":"http://a.test","encoding_aes_keys":["a"],"as":"platform"}`:                                              "deliver: token is missing: with encoding_aes_key",
		`{"url":"http://a.test","tokens":["abc"],"headers":{"Host":"SECRET"}}`:                                           `deliver: header: "Host" is set`,
		`{"url":"http://a.test","tokens":["abc"],"headers":{"A":"SECRET","a":"SECRET"}}`:                                 `deliver: header: "A" is already specified`,
		`{"url":"http://a.test","tokens":["abc"],"headers":{"A":"{env.TEST_LINES}"}}`:                                    "deliver: header: A: the value is empty, or has a line break",
		`{"url":"http://a.test","tokens":["abc"],"headers":{"A":"Bearer {env.TEST_MISSING}"}}`:                           "TEST_MISSING (client shop, deliver 706be801, header A)",
		`{"url":"http://a.test","tokens":["abc"],"transport":{"proxy_protocol":"v1"}}`:                                   "deliver: transport: proxy_protocol is not possible",
		`{"url":"https://a.test","tokens":["abc"],"transport":{"tls":{"server_name":"{http.request.host}"}}}`:            "deliver: transport: tls_server_name takes no placeholder",
		`{"url":"http://a.test","tokens":["abc"],"transport":{"tls":{}}}`:                                                "deliver: transport: has options of TLS, but the URL is one of http",
		`{"url":"https://a.test","tokens":["abc"],"transport":{"versions":["3"]}}`:                                       "deliver: transport: HTTP/3 is not possible",
		`{"url":"https://a.test","tokens":["abc"],"transport":{"versions":["4"]}}`:                                       "deliver: transport: unsupported HTTP version",
	} {
		t.Run(want, func(t *testing.T) {
			t.Setenv("TEST_LINES", "SECRET\nSECRET")
			_, err := provisionJSON(t, text)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%v", err)
			}
		})
	}
}

// What is said of one secret is said of the others.
func TestSecretsOfDeliverThatStandInTheConfiguration(t *testing.T) {
	t.Setenv("TEST_VALUE", "SECRET1234")
	const webhook = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
	for line, option := range map[string]string{
		"token SECRETabc {env.TEST_VALUE}":                                          "token",
		"token {env.TEST_VALUE}":                                                    "",
		"webhook_secret " + webhook:                                                 "webhook_secret",
		"token {env.TEST_VALUE}\n header Authorization SECRET":                      "header Authorization",
		"token {env.TEST_VALUE}\n header X-Api-Key SECRET":                          "header X-Api-Key",
		"token {env.TEST_VALUE}\n header X-Tenant shop":                             "",
		"token {env.TEST_VALUE}\n header Authorization \"Bearer {env.TEST_VALUE}\"": "",
	} {
		logged, err := provisionDeliver(t, "deliver http://a.test {\n name main\n "+line+"\n }")
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		found := ""
		for each := range strings.Lines(logged) {
			if strings.Contains(each, "stands in the configuration as text") && strings.Contains(each, `"target":"main"`) {
				found = each
			}
		}
		if (found != "") != (option != "") || !strings.Contains(found, option) || strings.Contains(logged, "SECRET") {
			t.Errorf("%s: %s", line, logged)
		}
	}
}
