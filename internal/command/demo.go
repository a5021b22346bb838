// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// The two accounts of the sandbox, and the secret of the only client. None of
// them is worth anything outside the demo.
const (
	demoOfficialAccount = "wxaaaaaaaaaaaaaaaa"
	demoMiniProgram     = "wxbbbbbbbbbbbbbbbb"
	demoClientSecret    = "demo-secret-of-the-client-shop-0001"
)

// demo is a gateway, the sandbox and an application in one process. They call each
// other over HTTP, as they would over the internet. One goroutine uses it.
type demo struct {
	out                                     io.Writer
	once                                    bool   // exit after the steps
	sandboxAt, platformAt, proxyAt, adminAt string // addresses to listen at

	// The fields below are set by start.
	weChat   *sandbox.Sandbox
	api      string // base URL of the sandbox
	platform string // base URL of the gateway for WeChat and admins
	proxy    string // base URL of the gateway for applications
	browser  *http.Client

	application    application
	applicationURL string // base URL of the application
}

// demoCommand returns the command that shows all steps of a deployment, from
// WeChat's ticket to the reply that a follower gets.
func demoCommand() *cobra.Command {
	d := &demo{out: os.Stdout}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole flow, from WeChat's ticket to the reply that a follower gets",
		Long: `Starts the sandbox, which plays WeChat, a gateway and an application in one
process, and walks the whole flow over real HTTP: a ticket is pushed, an official
account and a mini program authorise the platform, an application calls WeChat
through the gateway, a token dies and is healed, a follower writes and the
application replies, and WeChat's publish test passes. It then stays up for you
to try.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			return code(untilSignal(d.run))
		}),
	}
	flags := cmd.Flags()
	flags.BoolVar(&d.once, "once", false, "exit after the walk")
	flags.StringVar(&d.proxyAt, "proxy", "127.0.0.1:8080", "address of the gateway for applications")
	flags.StringVar(&d.platformAt, "platform", "127.0.0.1:8081", "address of the gateway for WeChat and admins")
	flags.StringVar(&d.sandboxAt, "wechat", "127.0.0.1:8082", "address of the sandbox")
	flags.StringVar(&d.adminAt, "admin", "127.0.0.1:2019", "address of Caddy's admin API, which the commands of caddy wechat ask")
	return cmd
}

// run runs the demo until ctx ends, or until the last step if once is set. The
// storage of the gateway is a temporary folder, which is deleted at the end.
func (d *demo) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	folder, err := os.MkdirTemp("", "caddy-wechat-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if err := d.start(ctx, folder); err != nil {
		return err
	}
	defer func() { _ = caddy.Stop() }()
	if err := d.walk(ctx); err != nil {
		return err
	}
	if d.once {
		return nil
	}
	d.invite()
	if err := d.weChat.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// checkAddresses fails if an address is in use, or named twice. Caddy would report that
// less clearly, and share one address among several servers.
func (d *demo) checkAddresses() error {
	for _, each := range []struct{ address, flag string }{
		{d.proxyAt, "--proxy"}, {d.platformAt, "--platform"}, {d.sandboxAt, "--wechat"}, {d.adminAt, "--admin"},
	} {
		listener, err := net.Listen("tcp", each.address)
		if err != nil {
			return inUse(each.address, each.flag, err)
		}
		defer listener.Close() // when all are checked
	}
	return nil
}

// start starts the sandbox and the application, and then Caddy with a gateway, in
// this process. The application has an address that the system chooses: nobody needs
// to know it.
func (d *demo) start(ctx context.Context, folder string) error {
	err := d.checkAddresses()
	if err != nil {
		return err
	}
	d.platform, d.proxy = "http://"+d.platformAt, "http://"+d.proxyAt
	if d.weChat, err = newSandbox(sandbox.Config{
		EventsURL:    d.platform + "/wechat/events",
		MessagesURL:  d.platform + "/wechat/messages/$APPID$",
		LaunchDomain: d.platformAt,
	}); err != nil {
		return err
	}
	if d.api, err = serve(ctx, d.sandboxAt, "--wechat", d.weChat); err != nil {
		return err
	}
	if d.applicationURL, err = serve(ctx, "127.0.0.1:0", "the application", &d.application); err != nil {
		return err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	d.browser = &http.Client{Jar: jar, Timeout: 10 * time.Second}
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(d.caddyfile(folder)), nil)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// caddyfile returns the configuration of the gateway. It turns off what would
// have an effect outside the demo: the saved configuration and certificates.
func (d *demo) caddyfile(folder string) string {
	appSecret, token, aesKey := d.weChat.Keys()
	return fmt.Sprintf(`{
	admin %[12]s
	persist_config off
	auto_https off
	storage file_system %[1]q
	log {
		level ERROR
		exclude admin
	}
	servers {
		protocols h1
	}
	wechat {
		component %[2]s {
			app_secret       %[3]s
			token            %[4]s
			encoding_aes_key %[5]s
			display_name     示例科技
		}
		client shop {
			secret      %[6]s
			authorizers *
			deliver %[10]s/wechat {
				webhook_secret %[11]s
				match          msg_type text
			}
		}
		api   %[7]s
		pages %[7]s
	}
}
%[8]s
	wechat_platform /wechat
}
%[9]s
	wechat_proxy
}
`, folder, d.weChat.Component(), appSecret, token, aesKey, demoClientSecret, d.api, site(d.platformAt), site(d.proxyAt),
		d.applicationURL, demoWebhookSecret(), d.adminAt)
}

// site returns the beginning of a site block that listens at an address and
// answers every Host. Without bind, a site would listen at all addresses of
// the machine.
func site(address string) string {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf("http://:%s {\n\tbind %s", port, host)
}

// walk does the steps of a new deployment one after the other, and prints each
// with its result. It ends at the first step that fails.
func (d *demo) walk(ctx context.Context) error {
	fmt.Fprintf(d.out, "\n  WeChat (sandbox)  %s\n  gateway           %s  for WeChat and admins\n                    %s  for applications\n                    http://%s  for operators, Caddy's admin API\n", d.api, d.platform, d.proxy, d.adminAt)
	steps := []struct {
		title string
		do    func(context.Context) (string, error)
	}{
		{"WeChat pushes the component_verify_ticket", d.ticket},
		{"An admin authorises an official account in the browser", func(ctx context.Context) (string, error) { return d.authorize(ctx, demoOfficialAccount) }},
		{"An admin authorises a mini program", func(ctx context.Context) (string, error) { return d.authorize(ctx, demoMiniProgram) }},
		{"An application fetches a token, as any WeChat SDK does", d.fetchToken},
		{"It sends a customer message through the gateway", d.call},
		{"WeChat kills the real token behind the gateway's back; the application notices nothing", d.heal},
		{"A hand-written caller uses its secret as bearer", d.bearer},
		{"A follower writes to the official account, and an application replies", d.reply},
		{"WeChat's publish test (全网发布检测) passes, without an application", d.publish},
	}
	for i, step := range steps {
		fmt.Fprintf(d.out, "\n%d. %s\n", i+1, step.title)
		shown, err := step.do(ctx)
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step.title, err)
		}
		for _, line := range strings.Split(shown, "\n") {
			fmt.Fprintf(d.out, "   %s\n", line)
		}
	}
	fmt.Fprintf(d.out, "\nAll steps passed. Calls that WeChat saw: %d, tokens it issued: %d for the component, %d for authorizers.\n",
		len(d.weChat.Calls()), d.weChat.Count("/cgi-bin/component/api_component_token"),
		d.weChat.Count("/cgi-bin/component/api_query_auth")+d.weChat.Count("/cgi-bin/component/api_authorizer_token"))
	return nil
}

// invite prints commands that the user can try while the demo runs.
func (d *demo) invite() {
	fmt.Fprintf(d.out, `
It stays up until you press Ctrl-C. Try, in another terminal:

  TOKEN=$(curl -s '%[1]s/cgi-bin/token?grant_type=client_credential&appid=%[4]s&secret=%[5]s' | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl "%[1]s/cgi-bin/user/get?access_token=$TOKEN"
  curl %[3]s/_sandbox/kill -d '{"appid":"%[4]s"}'      # kill the real token, call again: healed
  curl %[3]s/_sandbox/message -d '{"appid":"%[4]s","openid":"o-some-follower","content":"hi"}' | sed 's/.*"reply":/"reply":/'   # a follower writes
  curl %[3]s/_sandbox/revoke -d '{"appid":"%[4]s"}'    # the admin withdraws: errcode 61003
  xdg-open %[2]s/wechat/authorize                      # authorise again, in a browser
  %[6]s wechat status --address %[7]s                       # is it well? also accounts, pushes, usage, events, doctor

An SDK needs two changes: base URL %[1]s, secret %[5]s.
`, d.proxy, d.platform, d.api, demoOfficialAccount, demoClientSecret, os.Args[0], d.adminAt)
}
