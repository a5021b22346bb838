// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// storage is what all gateways share.
type storage interface {
	// directive is how a Caddyfile names it.
	directive() string
	// take takes it away; giveBack ends that.
	take() error
	giveBack() error
	// trouble is what take does, in the words of the table.
	trouble() string
	stop()
}

func newStorage(s settings) (storage, error) {
	if s.storage == "redis" {
		return startRedis(s.folder)
	}
	return newFiles(s.folder)
}

// files is a folder below a link. While the link leads to a file, everything
// below it fails as on a disk that is gone: a folder that had merely been
// renamed would look like an empty storage, to be filled anew.
type files struct{ link, disk, nowhere string }

func newFiles(root string) (*files, error) {
	f := &files{link: filepath.Join(root, "link"), disk: filepath.Join(root, "disk"), nowhere: filepath.Join(root, "nowhere")}
	err := errors.Join(os.Mkdir(f.disk, 0o700), os.WriteFile(f.nowhere, nil, 0o600))
	return f, errors.Join(err, os.Symlink(f.disk, f.link))
}

func (f *files) directive() string {
	return fmt.Sprintf("file_system %q", filepath.Join(f.link, "storage"))
}
func (f *files) take() error     { return f.lead(f.nowhere) }
func (f *files) giveBack() error { return f.lead(f.disk) }
func (f *files) trouble() string { return "storage gone for 2 s" }
func (f *files) stop()           {}

// lead changes where the link leads, in one step.
func (f *files) lead(to string) error {
	if err := os.Symlink(to, f.link+".new"); err != nil {
		return err
	}
	return os.Rename(f.link+".new", f.link)
}

// redis is a server of our own, which keeps everything in memory.
type redis struct {
	process *exec.Cmd
	address string
}

func startRedis(folder string) (*redis, error) {
	r := &redis{address: freeAddress()}
	host, port, err := net.SplitHostPort(r.address)
	if err != nil {
		return nil, err
	}
	r.process = exec.Command("redis-server", "--bind", host, "--port", port, "--save", "", "--dir", folder)
	if err := r.process.Start(); err != nil {
		return nil, fmt.Errorf("SOAK_STORAGE=redis needs redis-server installed: %w", err)
	}
	for range 100 {
		if connection, err := net.Dial("tcp", r.address); err == nil {
			connection.Close()
			return r, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.stop()
	return nil, errors.New("redis-server does not serve")
}

func redisInstalled() bool {
	_, err := exec.LookPath("redis-server")
	return err == nil
}

func (r *redis) directive() string { return r.database(0) }

func (r *redis) database(n int) string {
	return fmt.Sprintf("redis {\naddress %s\ndb %d\n}", r.address, n)
}

func (r *redis) take() error     { return r.process.Process.Signal(syscall.SIGSTOP) }
func (r *redis) giveBack() error { return r.process.Process.Signal(syscall.SIGCONT) }
func (r *redis) trouble() string { return "storage stopped for 2 s" }

func (r *redis) stop() {
	_ = r.process.Process.Kill()
	_ = r.process.Wait()
}
