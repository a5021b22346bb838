// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// What systemd does for {file.{$CREDENTIALS_DIRECTORY}/…} is to set that variable: the
// path gets into the configuration, and the secrets do not.
func TestSecretsComeOutOfTheCredentialsDirectory(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", folder)
	platform, proxy := caddy.FreeAddress(t), caddy.FreeAddress(t)
	weChat, err := sandbox.New(sandbox.Config{EventsURL: "http://" + platform + "/wechat/events"})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(weChat)
	t.Cleanup(api.Close)
	text := caddy.Node{
		Admin: "off", Storage: fmt.Sprintf("file_system %q", t.TempDir()), WeChat: api.URL,
		Platform: platform, Proxy: proxy, Clients: caddy.Shop,
	}.Caddyfile()
	for name, secret := range map[string]string{
		"wechat_app_secret": sandbox.DefaultAppSecret, "wechat_token": sandbox.DefaultToken,
		"wechat_aes_key": sandbox.DefaultEncodingAESKey, "wechat_shop_secret": caddy.ClientSecret,
	} {
		if !strings.Contains(text, secret) {
			t.Fatalf("the Caddyfile has no %s", name)
		}
		text = strings.Replace(text, secret, "{file.{$CREDENTIALS_DIRECTORY}/"+name+"}", 1)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(secret+"\n"), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	p := caddy.Launch(t, "run", "--config", file)
	p.Serves(platform, proxy)
	// Only with the token and the key can a ticket be opened.
	if err := weChat.PushTicket(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, p.Printed())
	}
	p.Terminate()

	adapt := caddy.Launch(t, "adapt", "--config", file)
	if code := adapt.Wait(); code != 0 || !strings.Contains(adapt.Printed(), folder+"/wechat_app_secret") {
		t.Errorf("caddy adapt returned %d:\n%s", code, adapt.Printed())
	}
	caddy.WantNoCredential(t, append(weChat.Credentials(), caddy.ClientSecret), "the configuration", adapt.Printed())
}
