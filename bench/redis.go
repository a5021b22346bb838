// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// startRedis runs a Redis that keeps everything in memory, and returns its
// address.
func (f *fleet) startRedis() (string, error) {
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(out, "redis.log"))
	if err != nil {
		return "", err
	}
	defer log.Close() // the process has its own handle
	command := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", f.folder)
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return "", err
	}
	p := watch(command, nil)
	f.processes = append(f.processes, p)
	return address, p.reach(address)
}

// pipe is what github.com/pberkel/caddy-storage-redis makes of Redis, for
// writing only, and without waiting for the answer to each command.
type pipe struct {
	vault.Storage // the rest is not called
	mu            sync.Mutex
	conn          net.Conn
	commands      *bufio.Writer
	sent          int
	folders       map[string]bool
}

func newPipe(address string) (*pipe, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &pipe{conn: conn, commands: bufio.NewWriterSize(conn, 1<<20), folders: make(map[string]bool)}
	return p, p.send("FLUSHALL")
}

func (*pipe) Lock(context.Context, string) error           { return nil }
func (*pipe) Unlock(context.Context, string) error         { return nil }
func (*pipe) Load(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }

// Store writes the value, and the name into the sorted set that its folder is.
func (p *pipe) Store(_ context.Context, key string, value []byte) error {
	stored, err := json.Marshal(map[string]any{"value": value, "modified": time.Now(), "size": len(value), "compression": 0, "encryption": 0})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key = path.Join("caddy", key)
	if err := p.send("SET", key, string(stored)); err != nil {
		return err
	}
	name, folder := path.Base(key), path.Dir(key)
	for folder != "." {
		if err := p.send("ZADD", folder, "1", name); err != nil || p.folders[folder] {
			return err
		}
		p.folders[folder] = true
		name, folder = path.Base(folder)+"/", path.Dir(folder)
	}
	return nil
}

func (p *pipe) send(words ...string) error {
	p.sent++
	_, err := fmt.Fprintf(p.commands, "*%d\r\n", len(words))
	for _, word := range words {
		_, err = fmt.Fprintf(p.commands, "$%d\r\n%s\r\n", len(word), word) // an error stays
	}
	return err
}

// Close waits for the answers, which say whether anything failed. Until then
// Redis keeps them: a few bytes for each command.
func (p *pipe) Close() error {
	defer p.conn.Close()
	if err := p.commands.Flush(); err != nil {
		return err
	}
	answers := bufio.NewReader(p.conn)
	for range p.sent {
		line, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "-") {
			return errors.New("redis: " + line)
		}
	}
	return nil
}
