// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	shopAccount  = "wxaaaaaaaaaaaaaaaa"
	otherAccount = "wxbbbbbbbbbbbbbbbb"

	shopToken = "SHOPDELIVERYTOKEN"
	crmToken  = "CRMDELIVERYTOKEN"
	crmAESKey = "CRMDELIVERYAESKEY00000000000000000000000000"
)

// deliveryWorld is WeChat's sandbox, a gateway and two applications: shop in
// plain mode for one account, crm in safe mode for all accounts; and alien, a
// client of another component, which must get nothing.
type deliveryWorld struct {
	*sandbox.Sandbox
	t         *testing.T
	shop, crm *gwtest.Application
	alien     *gwtest.Application
	pushes    *http.Client // reaches the gateway
	dir       string
	config    []byte
}

const deliveryConfig = `{
	admin off
	persist_config off
	auto_https off
	storage file_system %[1]s/storage
	log {
		output file %[1]s/log
		level DEBUG
	}
	wechat {
		component wx134c8103faa5a59e {
			app_secret       {env.TEST_APP_SECRET}
			token            {env.TEST_TOKEN}
			encoding_aes_key {env.TEST_AES_KEY}
		}
		component wxcccccccccccccccc {
			app_secret       0123456789abcdef0123456789abcdef
			token            ANOTHERPLATFORM
			encoding_aes_key abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG
		}
		client alien {
			secret      alien-secret-0123456789-012345678
			component   wxcccccccccccccccc
			authorizers *
			component_api
			deliver %[5]s/alien {
				token ALIENTOKEN
			}
		}
		client shop {
			secret      shop-secret-0123456789-0123456789
			component   wx134c8103faa5a59e
			authorizers wxaaaaaaaaaaaaaaaa
			deliver %[3]s/shop {
				token {env.TEST_SHOP_TOKEN}
			}
		}
		client crm {
			secret      crm-secret-0123456789-01234567890
			component   wx134c8103faa5a59e
			authorizers *
			component_api
			deliver %[4]s/crm?x=1 {
				token            {env.TEST_CRM_TOKEN}
				encoding_aes_key {env.TEST_CRM_AES_KEY}
			}
		}
		api %[2]s
	}
}
http://gateway.test {
	bind unix/%[1]s/socket
	wechat_platform
}`

func newDeliveryWorld(t *testing.T) *deliveryWorld {
	t.Helper()
	dir, err := os.MkdirTemp("", "wx") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "socket"))
	}
	toGateway := &http.Transport{DialContext: dial}
	t.Cleanup(toGateway.CloseIdleConnections)
	w := &deliveryWorld{t: t, shop: gwtest.NewApplication(), crm: gwtest.NewApplication(), alien: gwtest.NewApplication(),
		pushes: &http.Client{Transport: toGateway}, dir: dir}
	// The gateway answers after 4.5 s at the latest, and has to store first. A busy machine
	// gets half a second more for that than WeChat gives; the tests of internal/push,
	// in virtual time, show the 4.5 s.
	w.Sandbox, err = sandbox.New(sandbox.Config{EventsURL: "http://gateway.test/wechat/events",
		MessagesURL: "http://gateway.test/wechat/messages/$APPID$", Transport: toGateway, PushTimeout: 5500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, appid := range []string{shopAccount, otherAccount} {
		if err := w.AddAccount(sandbox.Account{AppID: appid}); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{"APP_SECRET": sandbox.DefaultAppSecret, "TOKEN": sandbox.DefaultToken,
		"AES_KEY": sandbox.DefaultEncodingAESKey, "SHOP_TOKEN": shopToken, "CRM_TOKEN": crmToken, "CRM_AES_KEY": crmAESKey} {
		t.Setenv("TEST_"+name, value)
	}
	w.load(fmt.Sprintf(deliveryConfig, dir, gwtest.Serve(t, w.Sandbox), gwtest.Serve(t, w.shop), gwtest.Serve(t, w.crm), gwtest.Serve(t, w.alien)))
	return w
}

// load runs Caddy in this process until the end of the test.
func (w *deliveryWorld) load(caddyfile string) {
	w.t.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.config = config
	w.reload()
	w.t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			w.t.Error(err)
		}
		w.noSecretInLog()
		if n := w.alien.Count(""); n != 0 {
			w.t.Errorf("%d deliveries to a client of another component", n)
		}
	})
}

func (w *deliveryWorld) reload() {
	w.t.Helper()
	if err := caddy.Load(w.config, true); err != nil {
		w.t.Fatal(err)
	}
}

func (w *deliveryWorld) noSecretInLog() {
	w.t.Helper()
	log, err := os.ReadFile(filepath.Join(w.dir, "log"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, hidden := range []string{shopToken, crmToken, crmAESKey, sandbox.DefaultToken, sandbox.DefaultEncodingAESKey,
		sandbox.DefaultAppSecret, "@@@"} {
		if strings.Contains(string(log), hidden) {
			w.t.Errorf("%s stands in the log", hidden)
		}
	}
}

// breakStorage puts a file where the storage's folder should be. The gateway,
// which may be storing something, is more than once in the way.
func (w *deliveryWorld) breakStorage() {
	w.t.Helper()
	folder := filepath.Join(w.dir, "storage")
	var err error
	for range 1000 {
		_ = os.RemoveAll(folder)
		if err = os.WriteFile(folder, nil, 0o600); err == nil {
			return
		}
	}
	w.t.Fatal(err)
}

// eventually is the function of that name, for the test of this world.
func (w *deliveryWorld) eventually(what string, condition func() bool) {
	w.t.Helper()
	eventually(w.t, what, condition)
}
