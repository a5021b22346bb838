// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/google/go-cmp/cmp"

	wechat "github.com/caddy-wechat/caddy-wechat"
)

// updateGolden, set in the environment, writes the results of adapting into
// the golden files instead of comparing them.
const updateGolden = "UPDATE_GOLDEN"

const goldenRule = "----------"

// adaptText turns a Caddyfile into JSON as "caddy adapt" does.
func adaptText(text string) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
}

// Each file holds a Caddyfile, a line of dashes, and the JSON it adapts to or
// the error it is refused with.
func TestGoldenCaddyfiles(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d golden files, error %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text, want, _ := strings.Cut(strings.ReplaceAll(string(content), "\r\n", "\n"), goldenRule+"\n")
			got := adaptedOrError(t, text)
			if os.Getenv(updateGolden) != "" {
				writeGolden(t, file, text+goldenRule+"\n"+got+"\n")
				return
			}
			if diff := cmp.Diff(parsed(want), parsed(got)); diff != "" {
				t.Errorf("adapted differently (-want +got), %s=1 accepts it:\n%s", updateGolden, diff)
			}
		})
	}
}

// adaptedOrError returns the adapted JSON, or the text of the error. A
// Caddyfile that adapts must do so without warnings.
func adaptedOrError(t *testing.T, text string) string {
	t.Helper()
	adapted, warnings, err := adaptText(text)
	if err != nil {
		return err.Error()
	}
	for _, warning := range warnings {
		t.Errorf("warning: %s", warning)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, adapted, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String()
}

// parsed returns JSON as its value, and any other text as it is.
func parsed(text string) any {
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return strings.TrimSpace(text)
	}
	return value
}

func writeGolden(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestExampleIsFormattedAndAdaptsWithoutWarning(t *testing.T) {
	content, err := os.ReadFile("Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(caddyfile.Format(content)), string(content)); diff != "" {
		t.Errorf("caddy fmt would change it (-formatted +is):\n%s", diff)
	}
	adaptedOrError(t, string(content))
}

// hushed are the secrets that the wrong configurations of these tests hold,
// by the name under which a row has them. No error may contain one.
var hushed = map[string]string{
	"short":     "hush4hush4hush",
	"appsecret": "5ec0e7a05ec0e7a05ec0e7a05ec0e7a0",
	"digest":    "5ec0e7a05ec0e7a05ec0e7a05ec0e7a05ec0e7a05ec0e7a05ec0e7a05ec0e7a0",
	"token33":   "hushhushhushhushhushhushhushhush3",
	"tokensym":  "hush-hush-hush",
	"aes42":     "hushhushhushhushhushhushhushhushhushhush42",
	"aes43":     "hushhushhushhushhushhushhushhushhushhush432",
	"aes44":     "hushhushhushhushhushhushhushhushhushhush4444",
	"aessym":    "hushhushhushhushhushhushhushhushhushhush-43",
	"seal16":    "aHVzaGh1c2hodXNoaHVzaA==",
}

// withHushed fills in {{name}}.
func withHushed(text string) string {
	for name, value := range hushed {
		text = strings.ReplaceAll(text, "{{"+name+"}}", value)
	}
	return text
}

// wantHushed fails if an error tells a secret.
func wantHushed(t *testing.T, err error) {
	t.Helper()
	for name, value := range hushed {
		if strings.Contains(err.Error(), value) {
			t.Errorf("the error tells the secret %s", name)
		}
	}
}

// Where the text of a wrongCaddyfile stands; its first line is line 1, 3, 4,
// 4 and 5 of the file.
const (
	inFile      = "%s\n"
	inApp       = "{\n\twechat {\n\t\t%s\n\t}\n}\n"
	inComponent = "{\n\twechat {\n\t\tcomponent wx134c8103faa5a59e {\n\t\t\t%s\n\t\t}\n\t}\n}\n"
	inClient    = "{\n\twechat {\n\t\tclient shop {\n\t\t\t%s\n\t\t}\n\t}\n}\n"
	inSite      = "{\n\twechat\n}\nhttp://:8080 {\n\t%s\n}\n"
)

type wrongCaddyfile struct{ name, in, text, want string }

func TestWrongCaddyfileIsRefusedWithFileAndLine(t *testing.T) {
	for _, row := range wrongCaddyfiles {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := adaptText(strings.Replace(row.in, "%s", withHushed(row.text), 1))
			if err == nil {
				t.Fatal("it was accepted")
			}
			_, got, _ := strings.Cut(err.Error(), "': ")
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("refused with another text (-want +got):\n%s", diff)
			}
			wantHushed(t, err)
		})
	}
}

// No input makes the parser panic, and what it refuses, it refuses with a
// file and a line. (No fuzz target: instrumenting all of Caddy takes minutes.)
func TestRandomCaddyfileIsReadOrRefusedWithALine(t *testing.T) {
	words := []string{"{", "}", "\n", "\n", "{\n", "}\n", "*", "/", "\"\"", "a", "{env.A}", "1", "GET", "/cgi-bin/*",
		"wx134c8103faa5a59e", "https://a.test", "http", "sha256:", "component", "client", "api", "pages", "seal_key", "cache_size", "replay_memory", "audit", "calls",
		"app_secret", "token", "encoding_aes_key", "return_url", "display_name", "publish_test", "off", "secret", "authorizers", "allow", "component_api", "from", "deliver", "path_kind", "either", "/wxa/new"}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		text := strings.Builder{}
		text.WriteString("wechat {\n")
		for range random.IntN(30) {
			text.WriteString(words[random.IntN(len(words))] + " ")
		}
		app := new(wechat.App)
		err := app.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text.String() + "\n}"))
		if err != nil && !strings.Contains(err.Error(), ", at ") {
			t.Fatalf("no file and line: %v\n%s", err, text.String())
		}
	}
}

var wrongCaddyfiles = []wrongCaddyfile{
	{"wechat with a value", inFile, "{\n\twechat on {\n\t}\n}",
		"wechat takes no value, only a block { ... } with components and clients, at Caddyfile:2"},
	{"wechat_platform without the global option", inFile, "http://:8080 {\n\twechat_platform\n}",
		"the global option wechat is missing: name component and clients in { wechat { ... } } at the top of the Caddyfile, at Caddyfile:2"},
	{"a second block wechat", inFile, "{\n\twechat {\n\t\tcache_size 1\n\t}\n\twechat {\n\t\tcache_size 2\n\t}\n}",
		"wechat is already specified: put all components and clients into one block, at Caddyfile:5"},
	{"an error in an imported snippet", inFile, "(shop) {\n\tclient Shop {\n\t}\n}\n{\n\twechat {\n\t\timport shop\n\t}\n}",
		`client: "Shop" is not a client name: want up to 64 lower-case letters, digits and hyphens, at Caddyfile:2 import chain ['Caddyfile:7 (import shop)']`},

	{"an unknown subdirective", inApp, "components wx134c8103faa5a59e",
		`unrecognized subdirective "components", want one of api, audit, cache_size, client, component, pages, path_kind, replay_memory, seal_key, at Caddyfile:3`},
	{"a secret on a line of its own", inApp, "seal_key {env.A}\n\t\t{{aes44}}",
		"unrecognized subdirective a text of 44 characters, want one of api, audit, cache_size, client, component, pages, path_kind, replay_memory, seal_key, at Caddyfile:4"},
	{"a component without appid", inApp, "component",
		"component: a value is missing, at Caddyfile:3"},
	{"a component with two appids", inApp, "component wx134c8103faa5a59e wx0123456789abcdef",
		"component: 2 values, want exactly one, at Caddyfile:3"},
	{"an appid in upper case", inApp, "component WX134C8103FAA5A59E",
		`component: "WX134C8103FAA5A59E" is not an appid: want wx and 16 lower-case hexadecimal digits, at Caddyfile:3`},
	{"an appid with 15 digits", inApp, "component wx134c8103faa5a59",
		`component: "wx134c8103faa5a59" is not an appid: want wx and 16 lower-case hexadecimal digits, at Caddyfile:3`},
	{"an app secret in the place of an appid", inApp, "component {{appsecret}}",
		"component: a text of 32 characters is not an appid: want wx and 16 lower-case hexadecimal digits, at Caddyfile:3"},
	{"a placeholder in the place of an appid", inApp, "component {env.APPID}",
		"component: {env.APPID} can stand for a secret only; here write {$NAME}, which is filled in when the Caddyfile is read, at Caddyfile:3"},
	{"a component twice", inApp, "component wx134c8103faa5a59e\n\t\tcomponent wx134c8103faa5a59e",
		"component: wx134c8103faa5a59e is already specified, at Caddyfile:4"},
	{"a client without name", inApp, "client",
		"client: a value is missing, at Caddyfile:3"},
	{"a client name with a capital", inApp, "client Shop",
		`client: "Shop" is not a client name: want up to 64 lower-case letters, digits and hyphens, at Caddyfile:3`},
	{"a client name that means none", inApp, "client none",
		"client: none is no client name: in metrics and logs it stands for calls without a client, at Caddyfile:3"},
	{"a client name that is too long", inApp, "client aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"client: a text of 65 characters is not a client name: want up to 64 lower-case letters, digits and hyphens, at Caddyfile:3"},
	{"a client twice", inApp, "client shop\n\t\tclient shop",
		"client: shop is already specified, at Caddyfile:4"},
	{"api without value", inApp, "api",
		"api: a value is missing, at Caddyfile:3"},
	{"api twice", inApp, "api https://a.example\n\t\tapi https://b.example",
		"api: already specified, it may stand only once, at Caddyfile:4"},
	{"api without scheme", inApp, "api api.weixin.qq.com",
		"api: not an absolute URL, want https://host or https://host:port, at Caddyfile:3"},
	{"api with a path", inApp, "api https://api.weixin.qq.com/cgi-bin",
		"api: a URL with something after the host, want https://host or https://host:port, at Caddyfile:3"},
	{"api with a query", inApp, "api https://api.weixin.qq.com?key={{short}}",
		"api: a URL with something after the host, want https://host or https://host:port, at Caddyfile:3"},
	{"api with a user name", inApp, "api https://{{short}}@api.weixin.qq.com",
		"api: a URL with a user name, want https://host or https://host:port, at Caddyfile:3"},
	{"api over ftp", inApp, "api ftp://api.weixin.qq.com",
		"api: a URL that is neither https nor http, want https://host or https://host:port, at Caddyfile:3"},
	{"api with a placeholder", inApp, "api {env.WECHAT_API}",
		"api: {env.WECHAT_API} can stand for a secret only; here write {$NAME}, which is filled in when the Caddyfile is read, at Caddyfile:3"},
	{"nine values of api", inApp, "api https://0.example https://1.example https://2.example https://3.example https://4.example https://5.example https://6.example https://7.example https://8.example",
		"api: 9 values, at most 8 are possible, at Caddyfile:3"},
	{"pages without scheme", inApp, "pages mp.weixin.qq.com",
		"pages: not an absolute URL, want https://host or https://host:port, at Caddyfile:3"},
	{"three pages", inApp, "pages https://a.example https://b.example https://c.example",
		"pages: 3 values, at most 2 are possible, at Caddyfile:3"},
	{"api that ends in ?", inApp, "api https://api.weixin.qq.com?",
		"api: a URL with something after the host, want https://host or https://host:port, at Caddyfile:3"},
	{"api that ends in two slashes", inApp, "api https://api.weixin.qq.com//",
		"api: a URL with something after the host, want https://host or https://host:port, at Caddyfile:3"},
	{"api without host", inApp, "api https://:443",
		"api: not an absolute URL, want https://host or https://host:port, at Caddyfile:3"},
	{"a seal key that is not base64", inApp, "seal_key {{short}}",
		"seal_key: want base64 of 32 bytes; make one with: openssl rand -base64 32, at Caddyfile:3"},
	{"a seal key of 16 bytes", inApp, "seal_key {{seal16}}",
		"seal_key: want base64 of 32 bytes; make one with: openssl rand -base64 32, at Caddyfile:3"},
	{"three seal keys", inApp, "seal_key {env.A} {env.B} {env.C}",
		"seal_key: 3 values, at most two are possible, the current one first, at Caddyfile:3"},
	{"the same seal key twice", inApp, "seal_key {env.A} {env.A}",
		"seal_key: both values are the same; leave the second out, at Caddyfile:3"},
	{"seal_key without value", inApp, "seal_key",
		"seal_key: missing; give it as {env.NAME} or {file./path}, at Caddyfile:3"},
	{"cache_size 0", inApp, "cache_size 0",
		`cache_size: "0" is not a whole number above 0, at Caddyfile:3`},
	{"cache_size -1", inApp, "cache_size -1",
		`cache_size: "-1" is not a whole number above 0, at Caddyfile:3`},
	{"path_kind alone", inApp, "path_kind",
		"path_kind: want authorizer, component or either, then paths, at Caddyfile:3"},
	{"path_kind without a path", inApp, "path_kind component",
		"path_kind: want authorizer, component or either, then paths, at Caddyfile:3"},
	{"path_kind without a kind", inApp, "path_kind /wxa/new /wxa/newer",
		"path_kind: /wxa/newer: want the kind authorizer, component or either, at Caddyfile:3"},
	{"path_kind of an unknown kind", inApp, "path_kind user /wxa/new",
		"path_kind: /wxa/new: want the kind authorizer, component or either, at Caddyfile:3"},
	{"a secret in the place of a kind", inApp, "path_kind {{aes44}} /wxa/new",
		"path_kind: /wxa/new: want the kind authorizer, component or either, at Caddyfile:3"},
	{"path_kind for a token endpoint", inApp, "path_kind component /wxa/new /cgi-bin/stable_token",
		"path_kind: /cgi-bin/stable_token is a token endpoint or a login, or takes an end user's token: its kind is fixed, at Caddyfile:3"},
	{"path_kind for a login in other letters", inApp, "path_kind either /sns/JSCode2Session",
		"path_kind: /sns/JSCode2Session is a token endpoint or a login, or takes an end user's token: its kind is fixed, at Caddyfile:3"},
	{"path_kind for what the gateway answers", inApp, "path_kind authorizer /cgi-bin/component/api_query_auth",
		"path_kind: /cgi-bin/component/api_query_auth is answered by the gateway itself, because credentials pass: its kind is fixed, at Caddyfile:3"},
	{"path_kind twice in a line", inApp, "path_kind either /wxa/new /wxa/new",
		"path_kind: /wxa/new has a kind already, at Caddyfile:3"},
	{"path_kind twice, in other letters", inApp, "path_kind either /wxa/new\n\t\tpath_kind component /wxa/New",
		"path_kind: /wxa/New has a kind already, at Caddyfile:4"},
	{"path_kind for a prefix", inApp, "path_kind component /wxa/new/*",
		`path_kind: "/wxa/new/*" is not a plain path, such as /wxa/new/path; wildcards are not possible, at Caddyfile:3`},
	{"path_kind with a placeholder", inApp, "path_kind component {env.PATH}",
		"path_kind: {env.PATH} can stand for a secret only; here write {$NAME}, which is filled in when the Caddyfile is read, at Caddyfile:3"},
	{"path_kind with a block", inApp, "path_kind component /wxa/new {\n\t\t/wxa/newer\n\t\t}",
		"path_kind: takes no block, at Caddyfile:4"},
	{"cache_size abc", inApp, "cache_size abc",
		`cache_size: "abc" is not a whole number above 0, at Caddyfile:3`},
	{"cache_size without value", inApp, "cache_size",
		"cache_size: a value is missing, at Caddyfile:3"},
	{"cache_size with two values", inApp, "cache_size 1 2",
		"cache_size: 2 values, want exactly one, at Caddyfile:3"},
	{"cache_size with a block", inApp, "cache_size 1 {\n\t\t\tmore\n\t\t}",
		"cache_size: takes no block, at Caddyfile:4"},
	{"audit without value", inApp, "audit",
		"audit: a value is missing, at Caddyfile:3"},
	{"audit with two values", inApp, "audit refusals calls",
		"audit: 2 values, want exactly one, at Caddyfile:3"},
	{"audit twice", inApp, "audit off\n\t\taudit calls",
		"audit: already specified, it may stand only once, at Caddyfile:4"},
	{"audit of something unknown", inApp, "audit on",
		`audit: "on" is unknown, want off, refusals or calls, at Caddyfile:3`},
	{"a secret in the place of a kind of audit", inApp, "audit {{appsecret}}",
		"audit: a text of 32 characters is unknown, want off, refusals or calls, at Caddyfile:3"},
	{"audit with a placeholder", inApp, "audit {env.AUDIT}",
		"audit: {env.AUDIT} can stand for a secret only; here write {$NAME}, which is filled in when the Caddyfile is read, at Caddyfile:3"},
	{"audit with a block", inApp, "audit calls {\n\t\t\tmore\n\t\t}",
		"audit: takes no block, at Caddyfile:4"},
	{"replay_memory without value", inApp, "replay_memory",
		"replay_memory: a value is missing, at Caddyfile:3"},
	{"replay_memory with two values", inApp, "replay_memory 64MiB 1MiB",
		"replay_memory: 2 values, want exactly one, at Caddyfile:3"},
	{"replay_memory twice", inApp, "replay_memory 64MiB\n\t\treplay_memory 64MiB",
		"replay_memory: already specified, it may stand only once, at Caddyfile:4"},
	{"replay_memory nonsense", inApp, "replay_memory lots",
		`replay_memory: "lots" is not a size between 1MiB and 16GiB, such as 64MiB, at Caddyfile:3`},
	{"replay_memory too small", inApp, "replay_memory 1048575",
		`replay_memory: "1048575" is not a size between 1MiB and 16GiB, such as 64MiB, at Caddyfile:3`},
	{"replay_memory too large", inApp, "replay_memory 17GiB",
		`replay_memory: "17GiB" is not a size between 1MiB and 16GiB, such as 64MiB, at Caddyfile:3`},

	{"an unknown subdirective", inComponent, "secret {env.A}",
		`unrecognized subdirective "secret", want one of app_secret, display_name, encoding_aes_key, publish_test, return_url, token, at Caddyfile:4`},
	{"app_secret without value", inComponent, "app_secret",
		"app_secret: missing; give it as {env.NAME} or {file./path}, at Caddyfile:4"},
	{"a short app secret", inComponent, "app_secret {{short}}",
		"app_secret: the AppSecret has 14 characters; WeChat's have 32, at Caddyfile:4"},
	{"an app secret with a line break", inComponent, "app_secret \"{{appsecret}}\n\"",
		"app_secret: has a space, a line break or a character outside ASCII in it; was it copied and stored rightly?, at Caddyfile:4"},
	{"three app secrets", inComponent, "app_secret {env.A} {env.B} {env.C}",
		"app_secret: 3 values, at most two are possible, the current one first, at Caddyfile:4"},
	{"app_secret twice", inComponent, "app_secret {env.A}\n\t\t\tapp_secret {env.B}",
		"app_secret: already specified, it may stand only once, at Caddyfile:5"},
	{"a placeholder of another kind", inComponent, "app_secret {http.request.header.{{short}}}",
		"app_secret: braces are for placeholders, of which there are {env.NAME} and {file./path}, at Caddyfile:4"},
	{"a misspelt placeholder", inComponent, "app_secret {en.WECHAT_APP_SECRET}",
		"app_secret: braces are for placeholders, of which there are {env.NAME} and {file./path}, at Caddyfile:4"},
	{"a block after app_secret", inComponent, "app_secret {env.A} {\n\t\t\t\t{{appsecret}}\n\t\t\t}",
		"app_secret: takes no block, at Caddyfile:5"},
	{"token without value", inComponent, "token",
		"token: missing; give it as {env.NAME} or {file./path}, at Caddyfile:4"},
	{"a token of 2 characters", inComponent, "token q7",
		"token: want 3 to 32 letters and digits, as 消息校验Token in WeChat's console, at Caddyfile:4"},
	{"a token of 33 characters", inComponent, "token {{token33}}",
		"token: want 3 to 32 letters and digits, as 消息校验Token in WeChat's console, at Caddyfile:4"},
	{"a token with symbols", inComponent, "token {{tokensym}}",
		"token: want 3 to 32 letters and digits, as 消息校验Token in WeChat's console, at Caddyfile:4"},
	{"three tokens", inComponent, "token {env.A} {env.B} {env.C}",
		"token: 3 values, at most two are possible, the current one first, at Caddyfile:4"},
	{"encoding_aes_key without value", inComponent, "encoding_aes_key",
		"encoding_aes_key: missing; give it as {env.NAME} or {file./path}, at Caddyfile:4"},
	{"a key of 42 characters", inComponent, "encoding_aes_key {{aes42}}",
		"encoding_aes_key: EncodingAESKey has 42 characters, want 43, at Caddyfile:4"},
	{"a key of 44 characters", inComponent, "encoding_aes_key {{aes44}}",
		"encoding_aes_key: EncodingAESKey has 44 characters, want 43, at Caddyfile:4"},
	{"a key with a symbol", inComponent, "encoding_aes_key {{aessym}}",
		"encoding_aes_key: character 41 of EncodingAESKey is not a letter or digit, at Caddyfile:4"},
	{"display_name without value", inComponent, "display_name",
		"display_name: a value is missing, at Caddyfile:4"},
	{"a display_name without quotes", inComponent, "display_name Example Ltd",
		"display_name: 2 values, want exactly one, at Caddyfile:4"},
	{"a display_name that is blank", inComponent, `display_name " "`,
		"display_name: want a name of 1 to 64 characters, without control characters and line breaks, at Caddyfile:4"},
	{"a display_name that turns the text around", inComponent, "display_name \"Example \u202edtL\"",
		"display_name: want a name of 1 to 64 characters, without control characters and line breaks, at Caddyfile:4"},
	{"a display_name of 65 characters", inComponent, "display_name " + strings.Repeat("名", 65),
		"display_name: want a name of 1 to 64 characters, without control characters and line breaks, at Caddyfile:4"},
	{"publish_test without value", inComponent, "publish_test",
		"publish_test: a value is missing, at Caddyfile:4"},
	{"publish_test on", inComponent, "publish_test on",
		`publish_test: "on" is unknown, want off; without this line the gateway answers WeChat's publish test, at Caddyfile:4`},
	{"publish_test twice", inComponent, "publish_test off\n\t\t\tpublish_test off",
		"publish_test: already specified, it may stand only once, at Caddyfile:5"},
	{"return_url without value", inComponent, "return_url",
		"return_url: a value is missing, at Caddyfile:4"},
	{"a relative return_url", inComponent, "return_url /done",
		"return_url: want https://host/path, or https://host/path/* for all below it, without user name and query, at Caddyfile:4"},
	{"a return_url with a wildcard in its host", inComponent, "return_url https://*",
		"return_url: want https://host/path, or https://host/path/* for all below it, without user name and query, at Caddyfile:4"},
	{"a return_url with a user name", inComponent, "return_url https://{{short}}@console.example.com/",
		"return_url: want https://host/path, or https://host/path/* for all below it, without user name and query, at Caddyfile:4"},
	{"a return_url with a query", inComponent, "return_url https://console.example.com/?key={{short}}",
		"return_url: want https://host/path, or https://host/path/* for all below it, without user name and query, at Caddyfile:4"},
	{"a return_url with a placeholder", inComponent, "return_url {env.CONSOLE}",
		"return_url: {env.CONSOLE} can stand for a secret only; here write {$NAME}, which is filled in when the Caddyfile is read, at Caddyfile:4"},

	{"an unknown subdirective", inClient, "secrets {env.A}",
		`unrecognized subdirective "secrets", want one of allow, authorizers, component, component_api, deliver, from, secret, at Caddyfile:4`},
	{"secret without value", inClient, "secret",
		"secret: missing; give it as {env.NAME} or {file./path}, at Caddyfile:4"},
	{"a short client secret", inClient, "secret {{short}}",
		"secret: the client secret has 14 characters, want at least 32; make one with: openssl rand -hex 32, at Caddyfile:4"},
	{"a digest that is not hexadecimal", inClient, "secret sha256:{{appsecret}}",
		`secret: sha256: must be lower case and followed by 64 hexadecimal digits; make them with: printf %s "$SECRET" | sha256sum, at Caddyfile:4`},
	{"a digest whose name is in capitals", inClient, "secret SHA256:{{digest}}",
		`secret: sha256: must be lower case and followed by 64 hexadecimal digits; make them with: printf %s "$SECRET" | sha256sum, at Caddyfile:4`},
	{"a client secret with a space", inClient, `secret "{{appsecret}} "`,
		"secret: has a space, a line break or a character outside ASCII in it; was it copied and stored rightly?, at Caddyfile:4"},
	{"three client secrets", inClient, "secret {env.A} {env.B} {env.C}",
		"secret: 3 values, at most two are possible, the current one first, at Caddyfile:4"},
	{"secret twice", inClient, "secret {env.A}\n\t\t\tsecret {env.B}",
		"secret: already specified, it may stand only once, at Caddyfile:5"},
	{"component without value", inClient, "component",
		"component: a value is missing, at Caddyfile:4"},
	{"two components", inClient, "component wx134c8103faa5a59e wx0123456789abcdef",
		"component: 2 values, want exactly one, at Caddyfile:4"},
	{"a bad component", inClient, "component shop",
		`component: "shop" is not an appid: want wx and 16 lower-case hexadecimal digits, at Caddyfile:4`},
	{"authorizers without value", inClient, "authorizers",
		"authorizers: a value is missing, at Caddyfile:4"},
	{"a bad authorizer", inClient, "authorizers wxaaaaaaaaaaaaaaaa wxaaa",
		`authorizers: "wxaaa" is not an appid: want wx and 16 lower-case hexadecimal digits, at Caddyfile:4`},
	{"from without value", inClient, "from",
		"from: a value is missing, at Caddyfile:4"},
	{"a bad address", inClient, "from 10.0.0.0/8 shop.internal",
		`from: "shop.internal" is neither an address nor a range in CIDR form, such as 192.0.2.7 or 10.0.0.0/8, at Caddyfile:4`},
	{"a secret in from", inClient, "from shop-secret-0123456789abcdef0123456789",
		`from: a text of 38 characters is neither an address nor a range in CIDR form, such as 192.0.2.7 or 10.0.0.0/8, at Caddyfile:4`},
	{"from twice", inClient, "from 10.0.0.1\n\t\t\tfrom 10.0.0.2",
		"from: already specified, it may stand only once, at Caddyfile:5"},
	{"authorizers twice", inClient, "authorizers *\n\t\t\tauthorizers *",
		"authorizers: already specified, it may stand only once, at Caddyfile:5"},
	{"allow without path", inClient, "allow GET",
		"allow: reading rule: no path (a path begins with /), at Caddyfile:4"},
	{"allow without anything", inClient, "allow",
		"allow: reading rule: no path (a path begins with /), at Caddyfile:4"},
	{"a method that WeChat does not know", inClient, "allow PUT /cgi-bin/user/info",
		`allow: reading rule: method "PUT" is neither GET nor POST, at Caddyfile:4`},
	{"a method in lower case", inClient, "allow get /cgi-bin/user/info",
		`allow: reading rule: method "get" is neither GET nor POST, at Caddyfile:4`},
	{"a path that climbs", inClient, "allow /cgi-bin/../sns/*",
		`allow: reading rule: "/cgi-bin/../sns/*" is neither a plain path nor a prefix followed by /*, at Caddyfile:4`},
	{"a path with a wildcard inside", inClient, "allow /cgi-bin/*/info",
		`allow: reading rule: "/cgi-bin/*/info" is neither a plain path nor a prefix followed by /*, at Caddyfile:4`},
	{"component_api with a value", inClient, "component_api on",
		"component_api: takes no value, at Caddyfile:4"},
	{"component_api twice", inClient, "component_api\n\t\t\tcomponent_api",
		"component_api: already specified, it may stand only once, at Caddyfile:5"},

	{"a prefix without slash", inSite, "wechat_platform wechat",
		`wechat_platform: the prefix "wechat" must be a plain path such as /wechat, without wildcards, placeholders or matchers, at Caddyfile:5`},
	{"a prefix with a wildcard", inSite, "wechat_platform /wechat/*",
		`wechat_platform: the prefix "/wechat/*" must be a plain path such as /wechat, without wildcards, placeholders or matchers, at Caddyfile:5`},
	{"a matcher before the prefix", inSite, "wechat_platform @inside /wechat",
		`wechat_platform: the prefix "@inside" must be a plain path such as /wechat, without wildcards, placeholders or matchers, at Caddyfile:5`},
	{"a placeholder as prefix", inSite, "wechat_platform {path}",
		`wechat_platform: the prefix "{http.request.uri.path}" must be a plain path such as /wechat, without wildcards, placeholders or matchers, at Caddyfile:5`},
	{"a prefix with two slashes", inSite, "wechat_platform //wechat",
		`wechat_platform: the prefix "//wechat" must be a plain path such as /wechat, without wildcards, placeholders or matchers, at Caddyfile:5`},
	{"two prefixes", inSite, "wechat_platform /a /b",
		"wechat_platform takes one value, the prefix of its paths, at Caddyfile:5"},
	{"an unknown subdirective of wechat_platform", inSite, "wechat_platform {\n\t\turl https://open.example.com\n\t}",
		`unrecognized subdirective "url", want one of public_url, at Caddyfile:6`},
	{"public_url without value", inSite, "wechat_platform {\n\t\tpublic_url\n\t}",
		"public_url: a value is missing, at Caddyfile:6"},
	{"public_url with a path", inSite, "wechat_platform {\n\t\tpublic_url https://open.example.com/wechat\n\t}",
		"public_url: a URL with something after the host, want https://host or https://host:port, at Caddyfile:6"},
	{"public_url without scheme", inSite, "wechat_platform {\n\t\tpublic_url open.example.com\n\t}",
		"public_url: not an absolute URL, want https://host or https://host:port, at Caddyfile:6"},
	{"public_url twice", inSite, "wechat_platform {\n\t\tpublic_url https://a.example\n\t\tpublic_url https://b.example\n\t}",
		"public_url: already specified, it may stand only once, at Caddyfile:7"},
	{"wechat_health without the global option", inFile, "http://:8080 {\n\twechat_health\n}",
		"the global option wechat is missing: name component and clients in { wechat { ... } } at the top of the Caddyfile, at Caddyfile:2"},
	{"wechat_health with a wildcard", inSite, "wechat_health /health/*",
		`wechat_health: the prefix "/health/*" must be a plain path such as /wechat/health, without wildcards, placeholders or matchers, at Caddyfile:5`},
	{"wechat_health with a matcher", inSite, "wechat_health @inside",
		`wechat_health: the prefix "@inside" must be a plain path such as /wechat/health, without wildcards, placeholders or matchers, at Caddyfile:5`},
	{"wechat_health with two prefixes", inSite, "wechat_health /a /b",
		"wechat_health takes one value, the prefix of its paths, and no block, at Caddyfile:5"},
	{"wechat_health with a block", inSite, "wechat_health {\n\t\tready\n\t}",
		"wechat_health takes one value, the prefix of its paths, and no block, at Caddyfile:6"},
	{"wechat_proxy with a value", inSite, "wechat_proxy https://api.weixin.qq.com",
		"wechat_proxy takes no value but a matcher; where WeChat is, api in the global option wechat tells, at Caddyfile:5"},
	{"an unknown subdirective of wechat_proxy", inSite, "wechat_proxy {\n\t\tapi https://api.weixin.qq.com\n\t}",
		`unrecognized subdirective "api", want one of max_replay_body, transport, at Caddyfile:6`},
	{"max_replay_body without value", inSite, "wechat_proxy {\n\t\tmax_replay_body\n\t}",
		"max_replay_body: a value is missing, at Caddyfile:6"},
	{"max_replay_body nonsense", inSite, "wechat_proxy {\n\t\tmax_replay_body lots\n\t}",
		`max_replay_body: "lots" is not a size between 1 byte and 64MiB, such as 16MiB, at Caddyfile:6`},
	{"max_replay_body 0", inSite, "wechat_proxy {\n\t\tmax_replay_body 0\n\t}",
		`max_replay_body: "0" is not a size between 1 byte and 64MiB, such as 16MiB, at Caddyfile:6`},
	{"max_replay_body too large", inSite, "wechat_proxy {\n\t\tmax_replay_body 1GiB\n\t}",
		`max_replay_body: "1GiB" is not a size between 1 byte and 64MiB, such as 16MiB, at Caddyfile:6`},
	{"a transport other than http", inSite, "wechat_proxy {\n\t\ttransport fastcgi\n\t}",
		"transport: want http and a block { ... }: WeChat is reached over HTTP alone, at Caddyfile:6"},
	{"transport without value", inSite, "wechat_proxy {\n\t\ttransport\n\t}",
		"transport: want http and a block { ... }: WeChat is reached over HTTP alone, at Caddyfile:6"},
	{"transport with a value too many", inSite, "wechat_proxy {\n\t\ttransport http tls {\n\t\t\tdial_timeout 1s\n\t\t}\n\t}",
		"transport: want http and a block { ... }: WeChat is reached over HTTP alone, at Caddyfile:6"},
	{"an unknown option of the transport", inSite, "wechat_proxy {\n\t\ttransport http {\n\t\t\ttimeout 1s\n\t\t}\n\t}",
		"unrecognized subdirective timeout, at Caddyfile:7"},
	{"transport twice", inSite, "wechat_proxy {\n\t\ttransport http\n\t\ttransport http\n\t}",
		"transport: already specified, it may stand only once, at Caddyfile:7"},
}
