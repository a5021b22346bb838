// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/caddyserver/certmagic"
)

// take puts a file where the folder is: a folder that must not be read would
// not keep root out.
func (f folder) take() {
	must(os.Rename(f.Path, f.Path+".taken"))
	f.instead(func() error { return os.WriteFile(f.Path, nil, 0o600) })
}

func (f folder) putBack() { f.instead(func() error { return os.Rename(f.Path+".taken", f.Path) }) }

// instead puts something in the place of what stands there. A node may store something in
// between, which makes a folder: it is removed as well.
func (f folder) instead(put func() error) {
	var err error
	for range 1000 {
		_ = os.RemoveAll(f.Path)
		if err = put(); err == nil {
			return
		}
	}
	must(err)
}

// disk is a folder on a small disk of its own.
type disk struct {
	folder
	mounted bool
}

// newDisk mounts a disk. Who may not do so gets a folder in which, when it is
// spoilt, no lock can be made, to the same effect.
func newDisk(t *testing.T) disk {
	d := disk{folder: newFolder(t)}
	d.mounted = exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", filepath.Dir(d.Path)).Run() == nil
	if d.mounted {
		t.Cleanup(func() { must(exec.Command("umount", "-l", filepath.Dir(d.Path)).Run()) })
	}
	t.Logf("a disk of its own: %v", d.mounted)
	return d
}

func (d disk) fill() (free func()) {
	if !d.mounted {
		return d.withoutLocks()
	}
	filler := filepath.Join(filepath.Dir(d.Path), "filler")
	file, err := os.Create(filler)
	must(err)
	defer file.Close()
	for err == nil {
		_, err = file.Write(make([]byte, 512))
	}
	return func() { must(os.Remove(filler)) }
}

func (d disk) writeProtect() (undo func()) {
	if !d.mounted {
		return d.withoutLocks()
	}
	remount := func(how string) {
		must(exec.Command("mount", "-o", "remount,"+how, filepath.Dir(d.Path)).Run())
	}
	remount("ro")
	return func() { remount("rw") }
}

func (d disk) withoutLocks() (undo func()) {
	locks := folder{&certmagic.FileStorage{Path: filepath.Join(d.Path, "locks")}}
	locks.take()
	return locks.putBack
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
