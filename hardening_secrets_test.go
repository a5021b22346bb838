// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A secret that somebody has written into the Caddyfile, or that {$NAME} has put
// there, is shown by the admin API, by caddy adapt, and in the autosaved copy.
// Nothing else would tell him. The warning names the option, never the value.
func TestLiteralSecretsAreWarnedOf(t *testing.T) {
	secrets := goodSecrets(t)
	const otherKey = "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyb3Q="
	literals := `{
	wechat {
		component wx134c8103faa5a59e {
			app_secret good0app0secret0good0app0secret0 {env.TEST_APP_SECRET}1
			token goodtoken
			encoding_aes_key {env.TEST_AES_KEY} previousaeskeypreviousaeskeypreviousaeskey1
		}
		client shop {
			secret {env.TEST_SECRET} sha256:` + strings.Repeat("ab", 32) + `
			authorizers *
			deliver http://127.0.0.1:1/ {
				token {$TEST_TOKEN}
				encoding_aes_key goodaeskeygoodaeskeygoodaeskeygoodaeskey123
			}
		}
		client other {
			secret first-client-secret-first-client-secret second-client-secret-second-client-sec
		}
		seal_key {env.TEST_SEAL_KEY} ` + otherKey + `
	}
}
http://127.0.0.1:0 {
	wechat_proxy
}
`
	secrets = append(secrets, otherKey, "previousaeskeypreviousaeskeypreviousaeskey1", "first-client-secret", "second-client-secret", strings.Repeat("ab", 32))
	want := []string{
		"component=wx134c8103faa5a59e option=app_secret value=1",
		"component=wx134c8103faa5a59e option=token value=1",
		"component=wx134c8103faa5a59e option=encoding_aes_key value=2",
		"client=shop block=deliver option=token value=1",
		"client=shop block=deliver option=encoding_aes_key value=1",
		"client=other option=secret value=1",
		"client=other option=secret value=2",
		"option=seal_key value=2",
	}
	for name, row := range map[string]struct {
		caddyfile string
		want      []string
	}{"literals": {literals, want}, "placeholders": {goodCaddyfile, nil}} {
		t.Run(name, func(t *testing.T) {
			logs := filepath.Join(t.TempDir(), "log")
			if err := provisioned(t, mustAdaptText(t, row.caddyfile), logs); err != nil {
				t.Fatal(err)
			}
			logged, err := os.ReadFile(logs)
			if err != nil {
				t.Fatal(err)
			}
			wantNone(t, string(logged), secrets)
			var got []string
			for line := range strings.Lines(string(logged)) {
				var fields map[string]any
				if err := json.Unmarshal([]byte(line), &fields); err != nil {
					t.Fatal(err)
				}
				if fields["msg"] != "a secret stands in the configuration as text" {
					continue
				}
				if fields["level"] != "warn" || fields["remedy"] == nil {
					t.Errorf("level %v, remedy %v", fields["level"], fields["remedy"])
				}
				var text []string
				for _, name := range []string{"component", "client", "block", "option", "value"} {
					if fields[name] != nil {
						text = append(text, fmt.Sprintf("%s=%v", name, fields[name]))
					}
				}
				got = append(got, strings.Join(text, " "))
			}
			slices.Sort(got)
			slices.Sort(row.want)
			if !slices.Equal(got, row.want) {
				t.Errorf("warned of\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(row.want, "\n"))
			}
		})
	}
}
