// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	storageredis "github.com/pberkel/caddy-storage-redis"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

// storage is what the nodes share. The methods of certmagic.Storage reach it
// past every gateway.
type storage interface {
	certmagic.Storage
	directive(t *testing.T, node string) string // for the node's Caddyfile
	folders() []string                          // what is on disk
}

// folder is Caddy's own file system storage.
type folder struct{ *certmagic.FileStorage }

func newFolder(t *testing.T) folder {
	return folder{&certmagic.FileStorage{Path: filepath.Join(t.TempDir(), "storage")}}
}

func (f folder) directive(*testing.T, string) string { return fmt.Sprintf("file_system %q", f.Path) }
func (f folder) folders() []string                   { return []string{f.Path} }

// redis is a server of the test's own, without a port: every node comes
// through a wire.
type redis struct {
	*storageredis.RedisStorage
	t      *testing.T
	folder string
	server *exec.Cmd
	wires  map[string]*wire // by node
}

func newRedis(t *testing.T) *redis {
	t.Helper()
	need.Command(t, "apt-get install redis-server", "redis-server")
	folder, err := os.MkdirTemp("", "redis-")
	if err != nil {
		t.Fatal(err)
	}
	r := &redis{t: t, folder: folder, wires: make(map[string]*wire)}
	t.Cleanup(func() {
		r.kill()
		os.RemoveAll(folder)
	})
	r.run()
	r.RedisStorage = storageredis.New()
	r.Address = []string{newWire(t, r.socket()).address}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := r.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *redis) socket() string    { return filepath.Join(r.folder, "socket") }
func (r *redis) folders() []string { return []string{r.folder} }

// directive lays a wire for the node.
func (r *redis) directive(t *testing.T, node string) string {
	r.wires[node] = newWire(t, r.socket())
	return "redis {\naddress " + r.wires[node].address + "\n}"
}

// run starts the server on what its folder holds.
func (r *redis) run() {
	r.t.Helper()
	r.server = exec.Command("redis-server", "--port", "0", "--unixsocket", r.socket(), "--dir", r.folder,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--logfile", filepath.Join(r.folder, "log"))
	if err := r.server.Start(); err != nil {
		r.t.Fatal(err)
	}
	for range 500 {
		if connection, err := net.Dial("unix", r.socket()); err == nil {
			connection.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	r.t.Fatal("redis-server does not listen")
}

// kill ends the server as a power cut would.
func (r *redis) kill() {
	_ = r.server.Process.Kill()
	_ = r.server.Wait()
	os.Remove(r.socket())
}

// forget throws away what the server, which does not run, has stored.
func (r *redis) forget() {
	if err := os.RemoveAll(filepath.Join(r.folder, "appendonlydir")); err != nil {
		r.t.Fatal(err)
	}
}

// record opens what the cluster has stored of an account or the component.
func (c *cluster) record(of string) (vault.Record, error) {
	ring, err := vault.NewKeyring(vault.DeriveKey(secret.New(sandbox.DefaultAppSecret), component), sealKey(1), sealKey(2))
	c.must(err)
	v := vault.New(func() vault.Storage { return c.storage }, func(string) *vault.Keyring { return ring })
	who := subject.Of(component, of)
	if of == component {
		who = subject.Of(component, "")
	}
	return v.Load(c.Context(), who)
}

// sealKey is the n-th of the seal keys that nodes may be given.
func sealKey(n byte) []byte { return bytes.Repeat([]byte{n}, vault.KeySize) }

// wantRefreshToken waits until the refresh token that stands in the storage is the one
// that WeChat takes. A token is served also while it cannot be stored.
func (c *cluster) wantRefreshToken(appid string) {
	c.Helper()
	c.until("the refresh token of "+appid+" is stored", time.Minute, func() bool {
		record, err := c.record(appid)
		return err == nil && record.Refresh.Reveal() == c.weChat.ValidToken(sandbox.KindRefresh, appid)
	})
}
