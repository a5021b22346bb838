// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// Steps 3 to 5 of docs/production.md: its Caddyfile is valid with its file of secrets.
// What is missing there is named, all of it at once.
func TestProductionPageValidates(t *testing.T) {
	const command = "caddy validate --envfile /etc/caddy/wechat.env --config /etc/caddy/Caddyfile"
	for _, name := range []string{"docs/production.md", "docs/zh/production.md"} {
		t.Run(name, func(t *testing.T) {
			text := page(t, "../../"+name)
			if !strings.Contains(text, "\n"+command+"\n") {
				t.Fatalf("the page does not have the command %s", command)
			}
			config, secrets := filepath.Join(t.TempDir(), "Caddyfile"), filepath.Join(t.TempDir(), "wechat.env")
			files := strings.NewReplacer("/etc/caddy/wechat.env", secrets, "/etc/caddy/Caddyfile", config)
			write := func(file, text string) {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(config, blockOf(t, text, "caddyfile", "wechat_proxy"))
			lines := blockOf(t, text, "sh", "/etc/caddy/wechat.env")
			all := regexp.MustCompile(`(?m)^(\w+)=…$`).FindAllStringSubmatch(lines, -1)
			if len(all) != 4 {
				t.Fatalf("%d secrets are named, want 4", len(all))
			}
			for _, missing := range []bool{false, true} {
				write(secrets, "")
				if !missing {
					write(secrets, strings.NewReplacer("APP_SECRET=…", "APP_SECRET="+sandbox.DefaultAppSecret, "TOKEN=…", "TOKEN="+sandbox.DefaultToken,
						"AES_KEY=…", "AES_KEY="+sandbox.DefaultEncodingAESKey, "SHOP_SECRET=…", "SHOP_SECRET="+caddy.ClientSecret).Replace(lines))
				}
				p := caddy.Launch(t, strings.Fields(files.Replace(command))[1:]...)
				if code := p.Wait(); (code != 0) != missing {
					t.Errorf("secrets missing: %v; exit code %d:\n%s", missing, code, p.Printed())
				}
				for _, secret := range all {
					if strings.Contains(p.Printed(), secret[1]) != missing {
						t.Errorf("secrets missing: %v; %s is named: %v", missing, secret[1], !missing)
					}
				}
			}
		})
	}
}

// blockOf returns the first block of code in a language that has a word in it.
func blockOf(t *testing.T, page, language, word string) string {
	t.Helper()
	for _, block := range regexp.MustCompile(fmt.Sprintf("(?s)\n```%s\n(.*?)```", language)).FindAllStringSubmatch(page, -1) {
		if strings.Contains(block[1], word) {
			return block[1]
		}
	}
	t.Fatalf("no block of %s has %q in it", language, word)
	return ""
}
