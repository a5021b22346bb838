// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	wechat "github.com/caddy-wechat/caddy-wechat"
)

func init() {
	caddy.RegisterModule(untouchable{})
}

// untouchable is a storage that nothing may touch: every operation panics.
type untouchable struct{ certmagic.Storage }

func (untouchable) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.untouchable", New: func() caddy.Module { return new(untouchable) }}
}

func (u untouchable) CertMagicStorage() (certmagic.Storage, error) { return u, nil }

// noneLeft fails the test if goroutines are left. Those that end take their time on a busy
// machine: goleak by itself waits half a second.
func noneLeft(t *testing.T, options ...goleak.Option) {
	t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if err = goleak.Find(options...); err == nil {
			return
		}
	}
	t.Error(err)
}

// provisioned does what "caddy validate" does with a configuration: all of its
// modules are provisioned and cleaned up, nothing is started. Whatever the
// outcome, nothing may be left behind.
func provisioned(t *testing.T, adapted []byte, logs string) error {
	t.Helper()
	// The files of Caddy's logs have a goroutine that begins late and never ends.
	defer noneLeft(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("github.com/DeRuina/timberjack.(*Logger).millRun"))
	var config *caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	writer := `{"output": "discard"}`
	if logs != "" {
		writer = fmt.Sprintf(`{"output": "file", "roll": false, "filename": %q}`, logs)
	}
	if config.Logging == nil {
		config.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {}}}
	}
	for _, log := range config.Logging.Logs {
		log.WriterRaw = json.RawMessage(writer)
	}
	config.StorageRaw = json.RawMessage(`{"module": "untouchable"}`)
	err := caddy.Validate(config)
	if references := wechat.SharedReferences(); references != 0 {
		t.Errorf("%d references to the shared state are left", references)
	}
	return err
}

// A configuration with good secrets; a test changes one line of it.
const goodCaddyfile = `{
	wechat {
		component wx134c8103faa5a59e {
			app_secret {env.TEST_APP_SECRET}
			token {env.TEST_TOKEN}
			encoding_aes_key {env.TEST_AES_KEY}
		}
		client shop {
			secret {env.TEST_SECRET}
			authorizers *
		}
		seal_key {env.TEST_SEAL_KEY}
	}
}

http://127.0.0.1:0 {
	wechat_platform
	wechat_proxy
}
`

// goodSecrets puts a value for each secret of goodCaddyfile into the
// environment, and returns all values, which must not be seen again.
func goodSecrets(t *testing.T) []string {
	t.Helper()
	values := map[string]string{
		"TEST_APP_SECRET": "good0app0secret0good0app0secret0",
		"TEST_TOKEN":      "goodtoken",
		"TEST_AES_KEY":    "goodaeskeygoodaeskeygoodaeskeygoodaeskey123",
		"TEST_SECRET":     "good-client-secret-good-client-secret",
		"TEST_SEAL_KEY":   "Z29vZHNlYWxrZXlnb29kc2VhbGtleWdvb2RzZWFsa2U=",
	}
	var secrets []string
	for name, value := range values {
		t.Setenv(name, value)
		secrets = append(secrets, value)
	}
	for name, value := range hushed {
		t.Setenv("WRONG_"+strings.ToUpper(name), value)
	}
	return secrets
}

func mustAdaptText(t *testing.T, text string) []byte {
	t.Helper()
	adapted, _, err := adaptText(text)
	if err != nil {
		t.Fatal(err)
	}
	return adapted
}

const anotherComponent = `component wx0123456789abcdef {
			app_secret {env.TEST_APP_SECRET}
			token {env.TEST_TOKEN}
			encoding_aes_key {env.TEST_AES_KEY}
		}`

func TestGoodConfigurationIsValidated(t *testing.T) {
	goodSecrets(t)
	if err := provisioned(t, mustAdaptText(t, goodCaddyfile), ""); err != nil {
		t.Error(err)
	}
}

// Each row replaces one part of goodCaddyfile. The text of the error follows
// appPrefix.
func TestWrongConfigurationIsRefusedWhenLoaded(t *testing.T) {
	secrets := goodSecrets(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("WRONG_EMPTY", "")
	t.Setenv("WRONG_TOKEN2", "q7")
	t.Setenv("WRONG_LINES", hushed["appsecret"]+"\n")
	for _, row := range []struct{ name, old, new, want string }{
		{"an environment variable that is not set", "{env.TEST_TOKEN}", "{env.TEST_MISSING}",
			"environment variables that are not set or empty: TEST_MISSING (component wx134c8103faa5a59e, token)"},
		{"an environment variable that is empty", "{env.TEST_APP_SECRET}", "{env.WRONG_EMPTY}",
			"environment variables that are not set or empty: WRONG_EMPTY (component wx134c8103faa5a59e, app_secret)"},
		{"a file that is missing", "{env.TEST_AES_KEY}", "{file./nowhere/key}",
			"files that are missing, unreadable or empty: /nowhere/key (component wx134c8103faa5a59e, encoding_aes_key)"},
		{"a file that is empty", "{env.TEST_SECRET}", "{file.$EMPTY}",
			"files that are missing, unreadable or empty: $EMPTY (client shop, secret)"},
		{"a seal key that is not set", "{env.TEST_SEAL_KEY}", "{env.TEST_MISSING}",
			"environment variables that are not set or empty: TEST_MISSING (seal_key)"},
		{"the second of two that is not set", "secret {env.TEST_SECRET}", "secret {env.TEST_SECRET} {env.TEST_MISSING}",
			"environment variables that are not set or empty: TEST_MISSING (client shop, secret)"},
		{"no app secret", "app_secret {env.TEST_APP_SECRET}", "",
			"component wx134c8103faa5a59e: app_secret: missing; give it as {env.NAME} or {file./path}"},
		{"no token", "token {env.TEST_TOKEN}", "",
			"component wx134c8103faa5a59e: token: missing; give it as {env.NAME} or {file./path}"},
		{"no key", "encoding_aes_key {env.TEST_AES_KEY}", "",
			"component wx134c8103faa5a59e: encoding_aes_key: missing; give it as {env.NAME} or {file./path}"},
		{"no client secret", "secret {env.TEST_SECRET}", "",
			"client shop: secret: missing; give it as {env.NAME} or {file./path}"},
		{"a short app secret", "{env.TEST_APP_SECRET}", "{env.WRONG_SHORT}",
			"component wx134c8103faa5a59e: app_secret: the AppSecret has 14 characters; WeChat's have 32"},
		{"an app secret with a line end", "{env.TEST_APP_SECRET}", "{env.WRONG_LINES}",
			"component wx134c8103faa5a59e: app_secret: has a space, a line break or a character outside ASCII in it; was it copied and stored rightly?"},
		{"a token of 2 characters", "{env.TEST_TOKEN}", "{env.WRONG_TOKEN2}",
			"component wx134c8103faa5a59e: token: want 3 to 32 letters and digits, as 消息校验Token in WeChat's console"},
		{"a token of 33 characters", "{env.TEST_TOKEN}", "{env.WRONG_TOKEN33}",
			"component wx134c8103faa5a59e: token: want 3 to 32 letters and digits, as 消息校验Token in WeChat's console"},
		{"a token with symbols", "{env.TEST_TOKEN}", "{env.WRONG_TOKENSYM}",
			"component wx134c8103faa5a59e: token: want 3 to 32 letters and digits, as 消息校验Token in WeChat's console"},
		{"a key of 42 characters", "{env.TEST_AES_KEY}", "{env.WRONG_AES42}",
			"component wx134c8103faa5a59e: encoding_aes_key: EncodingAESKey has 42 characters, want 43"},
		{"a key of 44 characters", "{env.TEST_AES_KEY}", "{env.WRONG_AES44}",
			"component wx134c8103faa5a59e: encoding_aes_key: EncodingAESKey has 44 characters, want 43"},
		{"a key with a symbol", "{env.TEST_AES_KEY}", "{env.WRONG_AESSYM}",
			"component wx134c8103faa5a59e: encoding_aes_key: character 41 of EncodingAESKey is not a letter or digit"},
		{"a seal key of 16 bytes", "{env.TEST_SEAL_KEY}", "{env.WRONG_SEAL16}",
			"seal_key: want base64 of 32 bytes; make one with: openssl rand -base64 32"},
		{"a short client secret", "{env.TEST_SECRET}", "{env.WRONG_SHORT}",
			"client shop: secret: the client secret has 14 characters, want at least 32; make one with: openssl rand -hex 32"},
		{"a digest that is too short", "{env.TEST_SECRET}", "sha256:{env.WRONG_APPSECRET}",
			`client shop: secret: sha256: must be lower case and followed by 64 hexadecimal digits; make them with: printf %s "$SECRET" | sha256sum`},
		{"a digest whose name is in capitals", "{env.TEST_SECRET}", "SHA256:{env.WRONG_DIGEST}",
			`client shop: secret: sha256: must be lower case and followed by 64 hexadecimal digits; make them with: printf %s "$SECRET" | sha256sum`},
		{"a component that is not configured", "secret {env.TEST_SECRET}", "secret {env.TEST_SECRET}\n component wx0123456789abcdef",
			"client shop: component \"wx0123456789abcdef\" is not configured, only: wx134c8103faa5a59e"},
		{"no component named while there are two", "seal_key", anotherComponent + "\n seal_key",
			"client shop: component is missing, name one of: wx0123456789abcdef, wx134c8103faa5a59e"},
		{"two clients with one secret", "seal_key", "client crm {\n secret {env.TEST_SECRET}\n }\n seal_key",
			"client shop has the same secret as client crm: give each its own"},
		{"* beside other authorizers", "authorizers *", "authorizers * wxaaaaaaaaaaaaaaaa",
			"client shop: authorizers: * stands for all, name no others beside it"},
		{"no component at all", goodCaddyfile, "{\n wechat\n}\n",
			"no component is configured; add component <component_appid> { ... }"},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.Replace(goodCaddyfile, row.old, strings.ReplaceAll(row.new, "$EMPTY", empty), 1)
			err := provisioned(t, mustAdaptText(t, text), "")
			if err == nil {
				t.Fatal("it was accepted")
			}
			_, got, _ := strings.Cut(err.Error(), appPrefix)
			if diff := cmp.Diff(strings.ReplaceAll(row.want, "$EMPTY", empty), got); diff != "" {
				t.Errorf("refused with another text (-want +got):\n%s", diff)
			}
			wantHushed(t, err)
			wantNone(t, err.Error(), secrets)
		})
	}
}

// appPrefix is what Caddy says before a message of the app.
const appPrefix = "provision wechat: "

// wantNone fails if text contains one of the secrets.
func wantNone(t *testing.T, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is told: %.8s…", secret)
		}
	}
}

// goodComponent is a component in JSON, to be followed by more members.
const goodComponent = `"app_secrets":["{env.TEST_APP_SECRET}"],"tokens":["{env.TEST_TOKEN}"],"encoding_aes_keys":["{env.TEST_AES_KEY}"]`

// What only JSON can say. The error ends in the text of the row.
func TestWrongJSONIsRefusedWhenLoaded(t *testing.T) {
	secrets := goodSecrets(t)
	for _, row := range []struct{ name, apps, want string }{
		{"an unknown member of the app", `"wechat":{"component":{}}`,
			`json: unknown field "component"`},
		{"an unknown member of a component", `"wechat":{"components":{"wx134c8103faa5a59e":{"app_secret":"{{appsecret}}"}}}`,
			`json: unknown field "app_secret"`},
		{"an unknown member of a client", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"shop":{"secret":"{{appsecret}}"}}}`,
			`json: unknown field "secret"`},
		{"a secret that is not in a list", `"wechat":{"components":{"wx134c8103faa5a59e":{"app_secrets":"{{appsecret}}"}}}`,
			"json: cannot unmarshal string into Go struct field Component.components.app_secrets of type []string"},
		{"an empty app", `"wechat":{}`,
			"provision wechat: no component is configured; add component <component_appid> { ... }"},
		{"a component that is null", `"wechat":{"components":{"wx134c8103faa5a59e":null}}`,
			"component wx134c8103faa5a59e: app_secret: missing; give it as {env.NAME} or {file./path}"},
		{"a client that is null", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"shop":null}}`,
			"client shop: secret: missing; give it as {env.NAME} or {file./path}"},
		{"a component with a bad appid", `"wechat":{"components":{"{{appsecret}}":{$GOOD}}}`,
			"component: a text of 32 characters is not an appid: want wx and 16 lower-case hexadecimal digits"},
		{"a client with a bad name", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"Shop":{}}}`,
			`client Shop: "Shop" is not a client name: want up to 64 lower-case letters, digits and hyphens`},
		{"three app secrets", `"wechat":{"components":{"wx134c8103faa5a59e":{"app_secrets":["{{appsecret}}","b","c"]}}}`,
			"component wx134c8103faa5a59e: app_secret: 3 values, at most two are possible, the current one first"},
		{"three client secrets", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"shop":{"secrets":["{{appsecret}}","b","c"]}}}`,
			"client shop: secret: 3 values, at most two are possible, the current one first"},
		{"three seal keys", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"seal_keys":["{{seal16}}","b","c"]}`,
			"seal_key: 3 values, at most two are possible, the current one first"},
		{"an empty app secret", `"wechat":{"components":{"wx134c8103faa5a59e":{"app_secrets":[""]}}}`,
			"component wx134c8103faa5a59e: app_secret: the AppSecret has 0 characters; WeChat's have 32"},
		{"a secret with braces of its own", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"shop":{"secrets":["{{appsecret}}{{{short}}}"]}}}`,
			"client shop: secret: braces are for placeholders, of which there are {env.NAME} and {file./path}"},
		{"a bad authorizer", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"shop":{"secrets":["{env.TEST_SECRET}"],"authorizers":["shop"]}}}`,
			`client shop: authorizers: "shop" is not an appid: want wx and 16 lower-case hexadecimal digits`},
		{"a bad address", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"shop":{"secrets":["{env.TEST_SECRET}"],"from":["10.0.0.0/33"]}}}`,
			`client shop: from: "10.0.0.0/33" is neither an address nor a range in CIDR form, such as 192.0.2.7 or 10.0.0.0/8`},
		{"a bad rule", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"clients":{"shop":{"secrets":["{env.TEST_SECRET}"],"allow":[{"method":"PUT","path":"/a"}]}}}`,
			`client shop: allow: reading rule: method "PUT" is neither GET nor POST`},
		{"a bad return URL", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD,"return_urls":["https://{{short}}@a.example/"]}}}`,
			"component wx134c8103faa5a59e: return_url: want https://host/path, or https://host/path/* for all below it, without user name and query"},
		{"a display name with a line break", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD,"display_name":"Example\nLtd"}}}`,
			"component wx134c8103faa5a59e: display_name: want a name of 1 to 64 characters, without control characters and line breaks"},
		{"a negative cache", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"cache_size":-1}`,
			"cache_size: -1 is not between 1 and 10000000"},
		{"a cache that no memory holds", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"cache_size":1000000000000}`,
			"cache_size: 1000000000000 is not between 1 and 10000000"},
		{"an audit that is none", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"audit":"all"}`,
			`audit: "all" is unknown, want off, refusals or calls`},
		{"a secret in the place of a kind of audit", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"audit":"{{appsecret}}"}`,
			"audit: a text of 32 characters is unknown, want off, refusals or calls"},
		{"too little replay memory", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"replay_memory":1048575}`,
			"replay_memory: 1048575 is not between 1048576 and 17179869184 bytes"},
		{"negative replay memory", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"replay_memory":-1}`,
			"replay_memory: -1 is not between 1048576 and 17179869184 bytes"},
		{"replay memory that no machine has", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"replay_memory":17179869185}`,
			"replay_memory: 17179869185 is not between 1048576 and 17179869184 bytes"},
		{"an API URL with a user name", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"api":["https://api.weixin.qq.com","https://{{short}}@b.example"]}`,
			"api: value 2 is a URL with a user name, want https://host or https://host:port"},
		{"a kind that is none", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"path_kinds":{"/wxa/new":"login"}}`,
			`path_kinds: /wxa/new: want the kind authorizer, component or either`},
		{"no kind", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"path_kinds":{"/wxa/new":""}}`,
			`path_kinds: /wxa/new: want the kind authorizer, component or either`},
		{"a kind for a token endpoint", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"path_kinds":{"/cgi-bin/token":"component"}}`,
			`path_kinds: /cgi-bin/token is a token endpoint or a login, or takes an end user's token: its kind is fixed`},
		{"a kind for a login", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"path_kinds":{"/sns/component/jscode2session":"component"}}`,
			`path_kinds: /sns/component/jscode2session is a token endpoint or a login, or takes an end user's token: its kind is fixed`},
		{"two kinds for a path", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"path_kinds":{"/wxa/New":"component","/wxa/new":"either"}}`,
			`path_kinds: /wxa/new has a kind already`},
		{"a kind for a prefix", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"path_kinds":{"/wxa/*":"component"}}`,
			`path_kinds: "/wxa/*" is not a plain path, such as /wxa/new/path; wildcards are not possible`},
		{"a page with a path", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"pages":["https://mp.weixin.qq.com/cgi-bin"]}`,
			"pages: value 1 is a URL with something after the host, want https://host or https://host:port"},
		{"three pages", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}},"pages":["https://a.example","https://b.example","https://c.example"]}`,
			"pages: 3 values, at most 2 are possible"},
		{"a proxy without the app", `"http":{"servers":{"a":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"wechat_proxy"}]}]}}}`,
			"app module wechat: module not configured"},
		{"push without the app", `"http":{"servers":{"a":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"wechat_events"}]}]}}}`,
			"app module wechat: module not configured"},
		{"authorisation without the app", `"http":{"servers":{"a":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"wechat_authorize"}]}]}}}`,
			"app module wechat: module not configured"},
		{"an unknown member of the proxy", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}}},"http":{"servers":{"a":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"wechat_proxy","api":"x"}]}]}}}`,
			`json: unknown field "api"`},
		{"a negative replay limit", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}}},"http":{"servers":{"a":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"wechat_proxy","max_replay_body":-1}]}]}}}`,
			"max_replay_body: -1 is not between 1 and 67108864 bytes"},
		{"a transport that cannot be made", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}}},"http":{"servers":{"a":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"wechat_proxy","transport":{"tls":{"root_ca_pem_files":["/nowhere/ca.pem"]}}}]}]}}}`,
			"provision http.handlers.wechat_proxy: making TLS client config: failed reading ca cert: open /nowhere/ca.pem: no such file or directory"},
		{"a public URL with a path", `"wechat":{"components":{"wx134c8103faa5a59e":{$GOOD}}},"http":{"servers":{"a":{"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"wechat_authorize","public_url":"https://a.example/wechat"}]}]}}}`,
			"a URL with something after the host, want https://host or https://host:port"},
	} {
		t.Run(row.name, func(t *testing.T) {
			apps := strings.ReplaceAll(withHushed(row.apps), "$GOOD", goodComponent)
			err := provisioned(t, []byte(`{"apps":{`+apps+`}}`), "")
			if err == nil {
				t.Fatal("it was accepted")
			}
			if !strings.HasSuffix(err.Error(), row.want) {
				t.Errorf("refused with another text:\n got %s\nwant … %s", err, row.want)
			}
			wantHushed(t, err)
			wantNone(t, err.Error(), secrets)
		})
	}
}

// Who deploys for the first time has several variables yet to set, and shall not have to
// start as many times to learn of them. What is there is not shown.
func TestEveryMissingVariableAndFileIsNamedAtOnce(t *testing.T) {
	secrets := goodSecrets(t)
	folder := t.TempDir()
	text := strings.NewReplacer(
		"{env.TEST_TOKEN}", "{env.MISSING_TOKEN} {env.TEST_TOKEN}",
		"{env.TEST_AES_KEY}", "{file."+folder+"}",
		"{env.TEST_SEAL_KEY}", "{env.MISSING_SEAL_KEY}",
		"secret {env.TEST_SECRET}", `secret {env.MISSING_SECRET} {file.`+folder+`/none}
			deliver https://shop.test/wechat {
				name main
				token {env.MISSING_SECRET}
				encoding_aes_key {env.MISSING_KEY}
				webhook_secret {env.MISSING_WEBHOOK} {env.MISSING_WEBHOOK_NEXT}
				header Authorization "Bearer {env.MISSING_SECRET}{env.TEST_SECRET}"
				header X-Key {file.`+folder+`/none}
			}
			deliver https://crm.test/wechat {
				token {env.MISSING_TOKEN}
			}`,
	).Replace(goodCaddyfile)
	err := provisioned(t, mustAdaptText(t, text), "")
	if err == nil {
		t.Fatal("it was accepted")
	}
	const component, main = "component wx134c8103faa5a59e, ", "client shop, deliver main, "
	want := "environment variables that are not set or empty: MISSING_KEY (" + main + "encoding_aes_key), MISSING_SEAL_KEY (seal_key), " +
		"MISSING_SECRET (client shop, secret; " + main + "token; " + main + "header Authorization), " +
		"MISSING_TOKEN (" + component + "token; client shop, deliver c0872d72, token), " +
		"MISSING_WEBHOOK (" + main + "webhook_secret), MISSING_WEBHOOK_NEXT (" + main + "webhook_secret); " +
		"files that are missing, unreadable or empty: " + folder + " (" + component + "encoding_aes_key), " +
		folder + "/none (client shop, secret; " + main + "header X-Key)"
	if _, got, _ := strings.Cut(err.Error(), appPrefix); got != want {
		t.Errorf("said is\n%s, want\n%s", got, want)
	}
	wantNone(t, err.Error(), secrets)
}

// exampleCaddyfile returns Caddyfile.example and puts its secrets into the
// environment.
func exampleCaddyfile(t *testing.T) string {
	t.Helper()
	goodSecrets(t)
	for name, as := range map[string]string{
		"WECHAT_APP_SECRET": "TEST_APP_SECRET", "WECHAT_TOKEN": "TEST_TOKEN", "WECHAT_AES_KEY": "TEST_AES_KEY",
		"WECHAT_SEAL_KEY": "TEST_SEAL_KEY", "SHOP_SECRET": "TEST_SECRET",
	} {
		t.Setenv(name, os.Getenv(as))
	}
	t.Setenv("SHOP_SECRET_NEXT", "another-client-secret-of-some-length")
	t.Setenv("SHOP_TOKEN", "shoppushtoken")
	t.Setenv("SHOP_AES_KEY", strings.Repeat("k", 43))
	t.Setenv("CONSOLE_SECRET", "one-more-client-secret-of-some-length")
	content, err := os.ReadFile("Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestExampleIsValidated(t *testing.T) {
	if err := provisioned(t, mustAdaptText(t, exampleCaddyfile(t)), ""); err != nil {
		t.Error(err)
	}
}

func TestUnencryptedURLIsWarnedOfUnlessLoopback(t *testing.T) {
	goodSecrets(t)
	for _, row := range []struct{ url, warned string }{
		{"https://api.example.com", ""},
		{"http://api.example.com", "http://api.example.com"},
		{"http://10.0.0.1:9001/", "http://10.0.0.1:9001"},
		{"http://localhost:9001", ""},
		{"http://127.0.0.9:9001", ""},
		{"http://[::1]:9001", ""},
	} {
		for _, option := range []string{"api", "pages"} {
			logs := filepath.Join(t.TempDir(), "log")
			text := strings.Replace(goodCaddyfile, "seal_key", option+" "+row.url+"\n seal_key", 1)
			if err := provisioned(t, mustAdaptText(t, text), logs); err != nil {
				t.Fatal(err)
			}
			if got := warnedURL(t, logs, option); got != row.warned {
				t.Errorf("%s %s: warned of %q, want %q", option, row.url, got, row.warned)
			}
		}
	}
}

// Bodies that are longer than what one client gets of the memory are never kept.
func TestReplayBodyLargerThanAClientsShareIsWarnedOf(t *testing.T) {
	goodSecrets(t)
	for _, row := range []struct {
		memory, body string
		warned       bool
	}{
		{"", "", false},
		{"replay_memory 64MiB", "max_replay_body 16MiB", false},
		{"replay_memory 64MiB", "max_replay_body 16777217", true},
		{"replay_memory 67108863", "", true},
	} {
		logs := filepath.Join(t.TempDir(), "log")
		text := strings.Replace(goodCaddyfile, "seal_key", row.memory+"\n seal_key", 1) + "\n:8080 {\nwechat_proxy {\n" + row.body + "\n}\n}\n"
		if err := provisioned(t, mustAdaptText(t, text), logs); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(logs)
		if err != nil {
			t.Fatal(err)
		}
		if warned := strings.Contains(string(content), "max_replay_body is larger than"); warned != row.warned {
			t.Errorf("%s, %s: warned: %v", row.memory, row.body, warned)
		}
	}
}

// warnedURL returns the URL of an option that the log warns of, "" for none.
func warnedURL(t *testing.T, logs, option string) string {
	t.Helper()
	content, err := os.ReadFile(logs)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		var entry struct{ Level, Logger, Msg, Option, URL string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Logger == "wechat" && entry.Level == "warn" && entry.Option == option {
			return entry.URL
		}
	}
	return ""
}

func TestCleanupOfWhatWasNeverProvisioned(t *testing.T) {
	if err := new(wechat.App).Cleanup(); err != nil {
		t.Error(err)
	}
	if err := new(wechat.Proxy).Cleanup(); err != nil {
		t.Error(err)
	}
}
