// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// wanted are the files of an archive in the order of their names, with their modes.
func wanted(t *testing.T, folder, program string, more ...string) []string {
	t.Helper()
	all := []string{folder + "/" + program + " -rwxr-xr-x"}
	names := []string{"LICENSE", "README.md", "README.zh-CN.md", "CHANGELOG.md", "SECURITY.md", "Caddyfile.example", licensesName, "deploy/compose.yml"}
	files := os.DirFS(source)
	for _, part := range []string{"docs", "deploy/grafana", "deploy/kubernetes", "deploy/prometheus"} {
		err := fs.WalkDir(files, part, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && !strings.HasSuffix(name, ".test.yml") {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range append(names, more...) {
		all = append(all, folder+"/"+name+" -rw-r--r--")
	}
	slices.Sort(all)
	return all
}

// small is a program for a platform, which is as good as any for an archive.
func small(t *testing.T, system, name string) *program {
	t.Helper()
	p := *programs(t)[1]
	path := filepath.Join(t.TempDir(), name)
	content, err := os.ReadFile(p.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil { // what mode it has must not matter
		t.Fatal(err)
	}
	p.os, p.path = system, path
	return &p
}

// Whoever unpacks an archive has the program and what to read first; it is the same each
// time, on whatever machine it is made.
func TestArchive(t *testing.T) {
	p := small(t, "linux", "caddy")
	first, again := t.TempDir(), t.TempDir()
	for _, out := range []string{first, again} {
		if err := writeArchive(out, "caddy-wechat_1.2.3_linux_arm64", source, p); err != nil {
			t.Fatal(err)
		}
	}
	archive := sameFile(t, first, again, "caddy-wechat_1.2.3_linux_arm64.tar.gz")
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for r := tar.NewReader(zipped); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !header.ModTime.Equal(commitTime) || header.Uid != 0 || header.Uname != "" {
			t.Errorf("%s: time %s, owner %d %q", header.Name, header.ModTime, header.Uid, header.Uname)
		}
		found = append(found, header.Name+" "+header.FileInfo().Mode().String())
	}
	slices.Sort(found)
	if want := wanted(t, "caddy-wechat_1.2.3_linux_arm64", "caddy", "caddy-wechat.service"); !slices.Equal(found, want) {
		t.Errorf("it has %q, want %q", found, want)
	}
}

// A page of an archive leads to no page or file that is missing there, but for what
// developers read, which is in the source alone.
func TestPagesOfAnArchiveLeadSomewhere(t *testing.T) {
	there := make(map[string]bool)
	for _, name := range wanted(t, "", "caddy", "caddy-wechat.service") {
		there[strings.Fields(name)[0][1:]] = true
	}
	inSource := regexp.MustCompile(`^(test|bench|sandbox|\.github|deploy/image)/|^(ARCHITECTURE\.md|CONTRIBUTING\.md|go\.mod)$|^deploy/caddy-wechat\.service$`)
	links := 0
	for name := range there {
		if path.Ext(name) != ".md" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			links++
			if to := path.Join(path.Dir(name), link[1]); !there[to] && !inSource.MatchString(to+"/") && !inSource.MatchString(to) {
				t.Errorf("%s links to %s, which is not in the archive", name, to)
			}
		}
	}
	if links < 100 {
		t.Errorf("%d links are found", links)
	}
}

func TestArchiveForWindows(t *testing.T) {
	p := small(t, "windows", "caddy.exe")
	first, again := t.TempDir(), t.TempDir()
	for _, out := range []string{first, again} {
		if err := writeArchive(out, "caddy-wechat_1.2.3_windows_arm64", source, p); err != nil {
			t.Fatal(err)
		}
	}
	archive := sameFile(t, first, again, "caddy-wechat_1.2.3_windows_arm64.zip")
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range r.File {
		if !f.Modified.Equal(commitTime) {
			t.Errorf("%s: time %s", f.Name, f.Modified)
		}
		found = append(found, f.Name+" "+f.Mode().String())
	}
	slices.Sort(found)
	if want := wanted(t, "caddy-wechat_1.2.3_windows_arm64", "caddy.exe"); !slices.Equal(found, want) {
		t.Errorf("it has %q, want %q", found, want)
	}
}

// sameFile returns a file, which must be the same in two folders.
func sameFile(t *testing.T, first, second, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(first, name))
	if err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(filepath.Join(second, name))
	if err != nil || !bytes.Equal(content, again) {
		t.Errorf("%s is another one each time, %v", name, err)
	}
	return content
}

// sha256sum -c must understand the sums. The folder of the image has none: its blobs have
// their own.
func TestSums(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{"b.zip": "two", "a.tar.gz": "one"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(folder, "image"), 0o700), writeSums(folder)); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x  a.tar.gz\n%x  b.zip\n", sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two")))
	if got, err := os.ReadFile(filepath.Join(folder, "SHA256SUMS")); string(got) != want {
		t.Errorf("SHA256SUMS has %q, %v, want %q", got, err, want)
	}
}
