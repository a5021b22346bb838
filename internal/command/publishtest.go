// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// runPublishTest serves the sandbox at address, for the calls of the gateway, and
// runs the publish test against the gateway. See publishTest.
func runPublishTest(ctx context.Context, out io.Writer, cfg sandbox.Config, address string, group int) error {
	weChat, err := newSandbox(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop() // stops the server
	server, err := serve(ctx, address, "--listen", weChat)
	if err != nil {
		return fmt.Errorf("%w\nif a sandbox runs there, it can make the test, too: curl http://%s/_sandbox/publish-test -d '{}'", err, address)
	}
	fmt.Fprintf(out, "WeChat's publish test (全网发布检测), played on %s\n  events URL    %s\n  messages URL  %s\n", server, cfg.EventsURL, cfg.MessagesURL)
	return publishTest(ctx, out, weChat, server, group)
}

// publishTest runs the publish test of the sandbox at server, with all groups of
// test accounts if group is 0, and prints each step as soon as it is over. The error
// tells how many steps have failed. If that looks like a matter of the gateway's
// configuration, it prints what the gateway needs.
func publishTest(ctx context.Context, out io.Writer, weChat *sandbox.Sandbox, server string, group int) error {
	var last sandbox.PublishStep
	failed := 0
	steps, err := weChat.PublishTest(ctx, group, func(step sandbox.PublishStep) {
		if step.Group != last.Group {
			fmt.Fprintf(out, "\nGroup %d of the test accounts\n", step.Group)
		}
		printStep(out, step)
		last = step
		if !step.OK {
			failed++
		}
	})
	switch {
	case err == nil:
		fmt.Fprintf(out, "\nAll %d steps passed.\n", len(steps))
		return nil
	case ctx.Err() != nil || failed == 0:
		return err
	case last.Step == sandbox.StepTicket:
		fmt.Fprintf(out, "\nThe gateway must be running, with its wechat_platform at the URLs above and with\nthese lines in its configuration:\n\n%s", gatewayFor(weChat, server))
	case len(weChat.Calls()) == 0:
		fmt.Fprintf(out, "\nThe gateway has made no call. These lines must be in its configuration:\n\n%s", gatewayFor(weChat, server))
	}
	fmt.Fprintln(out)
	return fmt.Errorf("the publish test failed: %d of %d steps", failed, len(steps))
}

// printStep prints a step. What stands behind a semicolon gets a line of its own.
func printStep(out io.Writer, step sandbox.PublishStep) {
	lines := func(text string) string { return strings.ReplaceAll(text, "; ", ";\n                  ") }
	result, account := "ok    ", ""
	if !step.OK {
		result = "FAILED"
	}
	if step.AppID != "" {
		account = " (" + step.AppID + ")"
	}
	fmt.Fprintf(out, "  %s  %s%s\n          sent    %s\n          got     %s\n          wanted  %s\n",
		result, step.Step, account, step.Sent, lines(step.Got), lines(step.Wanted))
}
