// SPDX-License-Identifier: Apache-2.0

// Package command holds the tools on the command line: those that speak with a
// running gateway by its admin API, and those that play WeChat.
package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// Commands returns the subcommands of caddy wechat.
func Commands() []*cobra.Command {
	return []*cobra.Command{syncCommand(), resealCommand(), sandboxCommand(), demoCommand()}
}

// sandboxCommand plays WeChat for a gateway that runs elsewhere.
func sandboxCommand() *cobra.Command {
	var cfg sandbox.Config
	var listen string
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Play WeChat: its API, its authorisation pages and its pushes",
		Long: `Plays api.weixin.qq.com and both authorisation pages on one address and pushes
tickets and events to a gateway. It starts with an official account
wxaaaaaaaaaaaaaaaa and a mini program wxbbbbbbbbbbbbbbbb. The levers under
/_sandbox/ push, authorise, revoke, expire tokens and make things fail; they
are listed in sandbox/README.md. It is no WeChat: never give it real secrets.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			return code(untilSignal(func(ctx context.Context) error { return runSandbox(ctx, cfg, listen) }))
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:8082", "address of the API and the pages")
	flags.StringVar(&cfg.EventsURL, "events-url", "http://127.0.0.1:8081/wechat/events", "authorisation events URL of the gateway")
	flags.StringVar(&cfg.MessagesURL, "messages-url", "http://127.0.0.1:8081/wechat/messages/$APPID$", "messages URL of the gateway")
	flags.StringVar(&cfg.LaunchDomain, "launch-domain", "", "host of the launch page; if set, Referer and redirect_uri are checked as WeChat does")
	flags.StringVar(&cfg.Component, "component", sandbox.DefaultComponent, "component_appid")
	flags.DurationVar(&cfg.TokenLifetime, "token-lifetime", 2*time.Hour, "lifetime of access tokens")
	flags.Float64Var(&cfg.Speed, "speed", 1, "how many seconds of lifetime pass in a second")
	return cmd
}

func runSandbox(ctx context.Context, cfg sandbox.Config, address string) error {
	weChat, err := newSandbox(cfg)
	if err != nil {
		return err
	}
	server, err := serve(ctx, address, "--listen", weChat)
	if err != nil {
		return err
	}
	appSecret, token, aesKey := weChat.Keys()
	fmt.Printf(`The sandbox plays WeChat on %[1]s. A gateway for it:

	wechat {
		component %[2]s {
			app_secret       %[3]s
			token            %[4]s
			encoding_aes_key %[5]s
		}
		api   %[1]s
		pages %[1]s
		...
	}

It pushes to %[6]s every 10 minutes.
	curl %[1]s/_sandbox/ticket -d '{}'      # push a ticket now
`, server, weChat.Component(), appSecret, token, aesKey, cfg.EventsURL)
	if err := weChat.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// newSandbox makes a sandbox with an account of either kind.
func newSandbox(cfg sandbox.Config) (*sandbox.Sandbox, error) {
	weChat, err := sandbox.New(cfg)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		weChat.AddAccount(sandbox.Account{AppID: demoOfficialAccount, NickName: "Official account 公众号"}),
		weChat.AddAccount(sandbox.Account{AppID: demoMiniProgram, NickName: "Mini program 小程序", MiniProgram: true}))
	return weChat, err
}

// serve starts an HTTP server that ends with ctx and returns its base URL.
func serve(ctx context.Context, address, flag string, handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", inUse(address, flag, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), nil
}

// inUse names the remedy where an address is taken.
func inUse(address, flag string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use: choose another address with %s", address, flag)
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// untilSignal runs something until it ends or the process is told to.
func untilSignal(run func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx)
}

func code(err error) (int, error) {
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}
