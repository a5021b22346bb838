// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"
	_ "github.com/caddyserver/caddy/v2/modules/logging"

	_ "github.com/caddy-wechat/caddy-wechat"
	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
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
	shop, crm *deliveryApp
	alien     *deliveryApp
	pushes    *http.Client // reaches the gateway
	dir       string
	config    []byte
}

// deliveryApp is an application that answers as its test says.
type deliveryApp struct {
	mu     sync.Mutex
	bodies []string
	query  []url.Values
	answer func(query url.Values, body string) (int, string)
}

func (a *deliveryApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.bodies, a.query = append(a.bodies, string(body)), append(a.query, r.URL.Query())
	answer := a.answer
	a.mu.Unlock()
	status, text := answer(r.URL.Query(), string(body))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

func (a *deliveryApp) answers(answer func(query url.Values, body string) (int, string)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answer
}

// count is how many deliveries have a body with this in it.
func (a *deliveryApp) count(part string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, body := range a.bodies {
		if strings.Contains(body, part) {
			n++
		}
	}
	return n
}

func success(url.Values, string) (int, string) { return http.StatusOK, "success" }

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
	w := &deliveryWorld{t: t, shop: &deliveryApp{answer: success}, crm: &deliveryApp{answer: success}, alien: &deliveryApp{answer: success},
		pushes: &http.Client{Transport: toGateway}, dir: dir}
	w.Sandbox, err = sandbox.New(sandbox.Config{EventsURL: "http://gateway.test/wechat/events",
		MessagesURL: "http://gateway.test/wechat/messages/$APPID$", Transport: toGateway})
	if err != nil {
		t.Fatal(err)
	}
	for _, appid := range []string{shopAccount, otherAccount} {
		if err := w.AddAccount(sandbox.Account{AppID: appid}); err != nil {
			t.Fatal(err)
		}
	}
	serve := func(handler http.Handler) string {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return server.URL
	}
	for name, value := range map[string]string{"APP_SECRET": sandbox.DefaultAppSecret, "TOKEN": sandbox.DefaultToken,
		"AES_KEY": sandbox.DefaultEncodingAESKey, "SHOP_TOKEN": shopToken, "CRM_TOKEN": crmToken, "CRM_AES_KEY": crmAESKey} {
		t.Setenv("TEST_"+name, value)
	}
	w.load(fmt.Sprintf(deliveryConfig, dir, serve(w.Sandbox), serve(w.shop), serve(w.crm), serve(w.alien)))
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
		if n := w.alien.count(""); n != 0 {
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

// eventually waits for what happens in the background, over real sockets.
func (w *deliveryWorld) eventually(what string, condition func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("in vain: %s", what)
		}
	}
}

const hello = "<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[hello]]></Content><MsgId>1</MsgId>"

func passive(content string) string {
	return "<xml><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[" + content + "]]></Content></xml>"
}

func TestTheReplyOfAnApplicationReachesTheFollower(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.answers(func(query url.Values, body string) (int, string) {
		if query.Get("signature") != bizmsg.Sign(secret.New(shopToken), query.Get("timestamp"), query.Get("nonce"), "") ||
			query.Get("appid") != shopAccount || query.Get("openid") != "follower" || !strings.Contains(body, "hello") {
			return http.StatusForbidden, ""
		}
		return http.StatusOK, passive("from shop")
	})
	reply, err := w.PushMessage(t.Context(), shopAccount, "follower", hello)
	if err != nil || reply != passive("from shop") {
		t.Errorf("%q, %v", reply, err)
	}
	w.eventually("crm gets it too", func() bool { return w.crm.count("<Encrypt>") == 1 })
}

func TestAClientInSafeModeIsSpokenToAsAnOrdinaryAccount(t *testing.T) {
	w := newDeliveryWorld(t)
	key, err := bizmsg.ParseKey(secret.New(crmAESKey))
	if err != nil {
		t.Fatal(err)
	}
	account := bizmsg.Codec{ReceiveID: otherAccount, Tokens: []secret.Secret{secret.New(crmToken)}, Keys: []bizmsg.Key{key}}
	w.crm.answers(func(query url.Values, body string) (int, string) {
		envelope, err := bizmsg.ParseEnvelope([]byte(body))
		if err != nil {
			return http.StatusBadRequest, ""
		}
		message, err := account.Open(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt)
		if err != nil || !strings.Contains(string(message.Plain), "hello") || query.Get("x") != "1" {
			return http.StatusForbidden, ""
		}
		return http.StatusOK, string(account.Seal([]byte(passive("from crm")), time.Now(), query.Get("nonce")).XML())
	})
	reply, err := w.PushMessage(t.Context(), otherAccount, "follower", hello)
	if err != nil || reply != passive("from crm") {
		t.Errorf("%q, %v", reply, err)
	}
	if n := w.shop.count("hello"); n != 0 {
		t.Error("shop got a message of an account it may not act for")
	}
}

func TestTwoRepliesAreSettledByName(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.answers(func(url.Values, string) (int, string) { return http.StatusOK, passive("from shop") })
	w.crm.answers(func(url.Values, string) (int, string) { return http.StatusOK, passive("in clear, so not a reply") })
	reply, err := w.PushMessage(t.Context(), shopAccount, "follower", hello)
	if err != nil || reply != passive("from shop") {
		t.Errorf("a failing client before it: %q, %v", reply, err)
	}
}

func TestAMessageNobodyTookIsPushedAgain(t *testing.T) {
	w := newDeliveryWorld(t)
	down := func(url.Values, string) (int, string) { return http.StatusBadGateway, "" }
	w.shop.answers(down)
	w.crm.answers(down)
	if answer, err := w.Push(t.Context(), sandbox.Push{Plain: "<xml>hello</xml>", AppID: shopAccount}); err == nil ||
		answer.Status != http.StatusServiceUnavailable || answer.Attempts != 3 {
		t.Errorf("%+v, %v", answer, err)
	}
	if n := w.shop.count("hello"); n != 3 {
		t.Errorf("%d attempts", n)
	}
	w.shop.answers(success)
	if _, err := w.PushMessage(t.Context(), shopAccount, "follower", hello); err != nil {
		t.Errorf("one taker is enough: %v", err)
	}
}

func TestMessagesDoNotDependOnStorage(t *testing.T) {
	w := newDeliveryWorld(t)
	w.breakStorage()
	w.shop.answers(func(url.Values, string) (int, string) { return http.StatusOK, passive("from shop") })
	if reply, err := w.PushMessage(t.Context(), shopAccount, "follower", hello); err != nil || reply != passive("from shop") {
		t.Errorf("%q, %v", reply, err)
	}
}

func TestTheDoorForMessages(t *testing.T) {
	w := newDeliveryWorld(t)
	for name, row := range map[string]struct {
		push sandbox.Push
		want int
	}{
		"another signature":       {sandbox.Push{ForgedSignature: true}, 403},
		"another token":           {sandbox.Push{Token: "WRONGTOKEN"}, 403},
		"another key":             {sandbox.Push{EncodingAESKey: crmAESKey}, 403},
		"another platform's":      {sandbox.Push{ReceiveID: shopAccount}, 403},
		"11 minutes old":          {sandbox.Push{Age: 11 * time.Minute}, 403},
		"11 minutes early":        {sandbox.Push{Age: -11 * time.Minute}, 403},
		"9 minutes old is well":   {sandbox.Push{Age: 9 * time.Minute}, 200},
		"more than 64 KiB":        {sandbox.Push{Plain: strings.Repeat("a", 64<<10)}, 413},
		"no appid in the path":    {sandbox.Push{AppID: "$APPID$"}, 403},
		"something like an appid": {sandbox.Push{AppID: "wxAAAAAAAAAAAAAAAA"}, 403},
		"another path below":      {sandbox.Push{AppID: shopAccount + "/x"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			if row.push.AppID == "" {
				row.push.AppID = shopAccount
			}
			if row.push.Plain == "" {
				row.push.Plain = "<xml>" + name + "</xml>"
			}
			row.push.Attempts = 1
			answer, _ := w.Push(t.Context(), row.push)
			if answer.Status != row.want || row.want != 200 && answer.Body != "" {
				t.Errorf("%+v", answer)
			}
			if n := w.shop.count(name); row.want != 200 && n != 0 {
				t.Error("it was delivered")
			}
		})
	}
	response, err := w.pushes.Get("http://gateway.test/wechat/messages/" + shopAccount)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != http.MethodPost {
		t.Errorf("GET: %d", response.StatusCode)
	}
}

func TestAMessageIsDeliveredOnceHoweverOftenItIsReplayed(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.answers(func(url.Values, string) (int, string) { return http.StatusOK, passive("once") })
	if _, err := w.PushMessage(t.Context(), shopAccount, "follower", hello); err != nil {
		t.Fatal(err)
	}
	answer, err := w.Push(t.Context(), sandbox.Push{Replay: true, Attempts: 1})
	if err != nil || answer.Body != "success" {
		t.Errorf("%+v, %v", answer, err)
	}
	if n := w.shop.count("hello"); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

func TestAuthorisationEventsReachThoseTheyConcern(t *testing.T) {
	w := newDeliveryWorld(t)
	if err := w.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Authorize(t.Context(), shopAccount); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Authorize(t.Context(), otherAccount); err != nil {
		t.Fatal(err)
	}
	if err := w.PushEvent(t.Context(), "notify_3rd_wxa_auth_and_icp", "<procedure_id>7</procedure_id>"); err != nil {
		t.Fatal(err)
	}
	if err := w.Revoke(t.Context(), shopAccount); err != nil {
		t.Fatal(err)
	}
	w.eventually("shop gets both events of its account", func() bool { return w.shop.count("<InfoType>") == 2 })
	w.eventually("crm gets all four", func() bool { return w.crm.count("<Encrypt>") == 4 })
	w.shop.mu.Lock()
	defer w.shop.mu.Unlock()
	for i, body := range w.shop.bodies {
		query := w.shop.query[i]
		if query.Get("appid") != shopAccount || len(query.Get("event_id")) != 32 {
			t.Errorf("query %v", query)
		}
		if strings.Contains(body, "@@@") || strings.Contains(body, "Code>") || strings.Contains(strings.ToLower(body), "ticket") {
			t.Errorf("a credential in %s", body)
		}
	}
	if !strings.Contains(w.shop.bodies[0], ">authorized<") || !strings.Contains(w.shop.bodies[1], ">unauthorized<") {
		t.Errorf("%v", w.shop.bodies)
	}
}

func TestAnEventThatCannotBeQueuedIsNotAcknowledged(t *testing.T) {
	w := newDeliveryWorld(t)
	w.breakStorage()
	err := w.PushEvent(t.Context(), "notify_3rd_wxa_wxverify", "<appid>"+shopAccount+"</appid>")
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Error(err)
	}
}

func TestAQueuedEventOutlivesReloadAndRestart(t *testing.T) {
	w := newDeliveryWorld(t)
	w.shop.answers(func(url.Values, string) (int, string) { return http.StatusBadGateway, "" })
	if err := w.PushEvent(t.Context(), "notify_3rd_wxa_wxverify", "<appid>"+shopAccount+"</appid>"); err != nil {
		t.Fatal(err)
	}
	attempts := func(n int) func() bool { return func() bool { return w.shop.count("wxverify") >= n } }
	w.eventually("a first attempt", attempts(1))
	w.reload()
	w.eventually("an attempt after the reload", attempts(2))
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	before := w.shop.count("wxverify")
	w.shop.answers(success)
	w.reload()
	w.eventually("the delivery after the restart", attempts(before+1))
	w.shop.mu.Lock()
	defer w.shop.mu.Unlock()
	for _, query := range w.shop.query {
		if query.Get("event_id") != w.shop.query[0].Get("event_id") {
			t.Error("the event_id has changed on the way")
		}
	}
}
