// SPDX-License-Identifier: Apache-2.0

// Package command has the tools of the command line, caddy wechat. The command sandbox
// simulates WeChat. The command demo runs the sandbox and a gateway in one
// process. The command version tells about this program. All others call the admin API of
// a running gateway, and show nothing that it does not. No command needs a secret of a platform.
//
// Entry point: [Root].
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

// Commands returns the subcommands of caddy wechat. Each one runs until it has
// done its work or the process gets an interrupt or SIGTERM.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		statusCommand(), healthCommand(), accountsCommand(), accountCommand(), pushesCommand(), usageCommand(), doctorCommand(),
		eventsCommand(), syncCommand(), resealCommand(), versionCommand(), sandboxCommand(), demoCommand(),
	}
}

// sandboxCommand returns the command that simulates WeChat for a gateway in
// another process.
func sandboxCommand() *cobra.Command {
	var (
		cfg     sandbox.Config
		listen  string
		publish bool
		group   int
	)
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Play WeChat: its API, its authorisation pages and its pushes",
		Long: `Plays api.weixin.qq.com and both authorisation pages on one address and pushes
tickets, events and messages to a gateway, as often and as long as WeChat does.
It starts with an official account wxaaaaaaaaaaaaaaaa and a mini program
wxbbbbbbbbbbbbbbbb. The levers under /_sandbox/ push, authorise, revoke, expire
tokens and make things fail; they are listed in sandbox/README.md. It is no
WeChat: never give it real secrets.

With --publish-test it runs WeChat's full-network publish test (全网发布检测) against
a gateway, prints each step with what it sent, what it got and what it wanted, and
exits: with 0 if the gateway passes, otherwise with 1. The gateway must be running,
with the keys of the sandbox, and with its api at the address of --listen. If it
takes no ticket, the lines that it needs in its configuration are printed.`,
		Args: cobra.NoArgs,
		RunE: caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) {
			return code(untilSignal(func(ctx context.Context) error {
				switch {
				case publish:
					return runPublishTest(ctx, os.Stdout, cfg, listen, group)
				case group != 0:
					return errors.New("--group is of use only with --publish-test")
				}
				return runSandbox(ctx, cfg, listen)
			}))
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:8082", "address of the API and the pages")
	flags.StringVar(&cfg.EventsURL, "events-url", "http://127.0.0.1:8081/wechat/events", "authorisation events URL of the gateway")
	flags.StringVar(&cfg.MessagesURL, "messages-url", "http://127.0.0.1:8081/wechat/messages/$APPID$", "messages URL of the gateway")
	flags.StringVar(&cfg.LaunchDomain, "launch-domain", "", "host of the launch page; if set, Referer and redirect_uri are checked as WeChat does")
	flags.StringVar(&cfg.Component, "component", sandbox.DefaultComponent, "component_appid")
	flags.DurationVar(&cfg.TokenLifetime, "token-lifetime", 2*time.Hour, "lifetime of access tokens")
	flags.DurationVar(&cfg.PushTimeout, "push-timeout", 5*time.Second, "how long an attempt to push may take")
	flags.Float64Var(&cfg.Speed, "speed", 1, "how many seconds of lifetime pass in a second")
	flags.BoolVar(&publish, "publish-test", false, "run the publish test against a running gateway, and exit")
	flags.IntVar(&group, "group", 0, "of the publish test: one group of test accounts, 1 to 5; default: all, one after the other")
	flags.BoolVar(&cfg.Switches.DifferentCodes, "different-codes", false, "an authorisation is pushed with another code than the redirect and the publish test have")
	flags.BoolVar(&cfg.Switches.PublishOldSteps, "old-steps", false, "of the publish test: also the steps that WeChat's page has no more")
	return cmd
}

// runSandbox serves the sandbox at address, prints how to configure a gateway
// for it, and pushes tickets until ctx ends. The keys that it prints are made
// for this run.
func runSandbox(ctx context.Context, cfg sandbox.Config, address string) error {
	weChat, err := newSandbox(cfg)
	if err != nil {
		return err
	}
	server, err := serve(ctx, address, "--listen", weChat)
	if err != nil {
		return err
	}
	fmt.Printf(`The sandbox plays WeChat on %[1]s. A gateway for it:

%[2]s
It pushes to %[3]s every 10 minutes.
	curl %[1]s/_sandbox/ticket -d '{}'       # push a ticket now
	curl %[1]s/_sandbox/publish-test -d '{}' # the publish test
`, server, gatewayFor(weChat, server), cfg.EventsURL)
	if err := weChat.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// gatewayFor returns the lines of a Caddyfile that make a gateway call the sandbox
// at server. The keys in them are the sandbox's and open nothing else.
func gatewayFor(weChat *sandbox.Sandbox, server string) string {
	appSecret, token, aesKey := weChat.Keys()
	return fmt.Sprintf(`	wechat {
		component %[2]s {
			app_secret       %[3]s
			token            %[4]s
			encoding_aes_key %[5]s
		}
		api   %[1]s
		pages %[1]s
		...
	}
`, server, weChat.Component(), appSecret, token, aesKey)
}

// newSandbox returns a sandbox with one official account and one mini program.
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

// serve starts an HTTP server and returns its base URL. It does not wait; the
// server runs in the background and is closed, with its connections, when ctx
// ends. flag is the flag of the address, for the error if the address cannot be
// used.
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

// inUse returns an error that names the flag to change. If the address is in
// use, it says so.
func inUse(address, flag string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use: choose another address with %s", address, flag)
	}
	return fmt.Errorf("%s: %w", flag, err)
}

// untilSignal calls run and waits for it. The context of run ends when the
// process gets an interrupt or SIGTERM.
func untilSignal(run func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx)
}

// code returns the exit code for err.
func code(err error) (int, error) {
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	return caddy.ExitCodeSuccess, nil
}
