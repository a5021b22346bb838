// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// node is one gateway: the program with a Caddyfile of its own.
type node struct {
	caddy.Node
	number         int
	binary, folder string

	mu      sync.Mutex // one thing at a time is done to it
	process *exec.Cmd
	ended   chan struct{} // closed when the process is gone
}

// newNode makes a gateway that calls WeChat at api; options are more lines of
// its wechat block. Number 0 writes everything there is into its log, for the
// search at the end.
func newNode(s settings, number int, storage, api, options string) (*node, error) {
	n := &node{number: number, binary: s.binary, folder: filepath.Join(s.folder, fmt.Sprintf("gateway%d", number)), Node: caddy.Node{
		Admin: freeAddress(), Platform: freeAddress(), Proxy: freeAddress(),
		Storage: storage, WeChat: api, Wechat: options,
		Clients: strings.Replace(caddy.Shop, "authorizers *", "authorizers *\ncomponent_api", 1),
		Global:  "persist_config off",
	}}
	if number == 0 {
		n.Global += "\nlog {\nlevel DEBUG\n}"
		n.Site = "log"
	}
	if err := os.MkdirAll(n.folder, 0o700); err != nil {
		return nil, err
	}
	return n, os.WriteFile(n.caddyfile(), []byte(n.Caddyfile()), 0o600)
}

func (n *node) caddyfile() string { return filepath.Join(n.folder, "Caddyfile") }

// start runs the gateway until it serves. Its log goes on where it was.
func (n *node) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(n.folder, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.process = n.command("run", "--config", n.caddyfile())
	n.process.Stdout, n.process.Stderr = log, log
	if err := n.process.Start(); err != nil {
		return err
	}
	n.ended = make(chan struct{})
	go func(process *exec.Cmd, ended chan struct{}) {
		_ = process.Wait()
		close(ended)
	}(n.process, n.ended)
	return n.untilServing(ctx)
}

// command is the program with a home in the gateway's folder.
func (n *node) command(arguments ...string) *exec.Cmd {
	c := exec.Command(n.binary, arguments...)
	c.Env = append(os.Environ(), "HOME="+n.folder, "XDG_CONFIG_HOME="+n.folder, "XDG_DATA_HOME="+n.folder)
	return c
}

// untilServing waits until both sides of the gateway take connections.
func (n *node) untilServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, address := range []string{n.Platform, n.Proxy} {
		for {
			connection, err := net.Dial("tcp", address)
			if err == nil {
				connection.Close()
				break
			}
			select {
			case <-n.ended:
				return fmt.Errorf("gateway %d ended before it served: %v", n.number, n.process.ProcessState)
			case <-ctx.Done():
				return fmt.Errorf("gateway %d does not serve %s: %w", n.number, address, context.Cause(ctx))
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}

// kill ends the gateway as a power cut would.
func (n *node) kill() error {
	if n.process == nil {
		return nil
	}
	if err := n.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-n.ended
	return nil
}

// stop ends the gateway in good order.
func (n *node) stop() error {
	if err := n.process.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	select {
	case <-n.ended:
	case <-time.After(time.Minute):
		return fmt.Errorf("gateway %d does not stop", n.number)
	}
	if code := n.process.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("gateway %d stopped with exit code %d", n.number, code)
	}
	return nil
}

// alive reports whether the process runs.
func (n *node) alive() bool {
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// reload loads the same configuration again; Caddy would leave it at that if
// it were not told that it must.
func (n *node) reload() error {
	r, err := http.NewRequest(http.MethodPost, "http://"+n.Admin+"/load", strings.NewReader(n.Caddyfile()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	r.Header.Set("Cache-Control", "must-revalidate")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		return fmt.Errorf("gateway %d: reload answered with status %d: %s", n.number, response.StatusCode, text)
	}
	return nil
}

// freeAddress returns an address that nobody listens on at the moment. It is
// not taken from the ports that the system hands out to callers: one of those
// could get it while a gateway is down.
func freeAddress() string {
	for {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
}
