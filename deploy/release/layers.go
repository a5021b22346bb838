// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/zip"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// uid is the user that programs in the image run as, and their group: 65532 is what
// images without a system commonly use.
const uid = 65532

// surroundings are the files that a program needs beside itself, for all platforms the
// same: users, certificates of authorities, time zones, a configuration, and folders to
// write into.
func surroundings(source string) ([]file, error) {
	directory := func(name string, mode fs.FileMode, owner int) file {
		return file{name: name, mode: fs.ModeDir | mode, owner: owner}
	}
	text := func(name, content string) file { return file{name: name, mode: 0o644, content: []byte(content)} }
	caddyfile, err := read("etc/caddy/Caddyfile", filepath.Join(source, "deploy", "image", "Caddyfile"), 0o644)
	if err != nil {
		return nil, err
	}
	zones, err := zones()
	if err != nil {
		return nil, err
	}
	return append([]file{
		directory("config", 0o700, uid), directory("data", 0o700, uid), // where Caddy's own image has them
		directory("etc", 0o755, 0), directory("etc/caddy", 0o755, 0), caddyfile,
		text("etc/group", fmt.Sprintf("root:x:0:\ncaddy:x:%d:\n", uid)),
		text("etc/passwd", fmt.Sprintf("root:x:0:0:root:/:/sbin/nologin\ncaddy:x:%d:%[1]d:caddy:/data:/sbin/nologin\n", uid)),
		directory("etc/ssl", 0o755, 0), directory("etc/ssl/certs", 0o755, 0),
		text("etc/ssl/certs/ca-certificates.crt", authorities()),
		directory("tmp", fs.ModeSticky|0o777, 0),
		directory("usr", 0o755, 0), directory("usr/bin", 0o755, 0),
	}, zones...), nil
}

// authorities returns the certificates that Mozilla trusts, in PEM, from a module of Go:
// what is on the machine that builds does not matter. Those that are trusted for a part
// of what they have signed are left out, for a file cannot say that.
func authorities() string {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer takes everything
		}
	}
	return all.String()
}

// zones returns the time zones that Go has brought along.
func zones() ([]file, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("finding Go: %w", err)
	}
	zipped, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		return nil, err
	}
	defer zipped.Close()
	const folder = "usr/share/zoneinfo"
	files := []file{{name: "usr/share", mode: fs.ModeDir | 0o755}, {name: folder, mode: fs.ModeDir | 0o755}}
	known := map[string]bool{folder: true}
	for _, zone := range zipped.File {
		name := path.Join(folder, zone.Name)
		if zone.Mode().IsDir() {
			continue
		}
		for _, above := range parents(name) {
			if !known[above] && strings.HasPrefix(above, folder) {
				known[above] = true
				files = append(files, file{name: above, mode: fs.ModeDir | 0o755})
			}
		}
		content, err := fs.ReadFile(zipped, zone.Name)
		if err != nil {
			return nil, err
		}
		files = append(files, file{name: name, mode: 0o644, content: content})
	}
	return files, nil
}

// parents returns the folders that a file is in, the outermost first.
func parents(name string) (all []string) {
	for at, letter := range name {
		if letter == '/' {
			all = append(all, name[:at])
		}
	}
	return all
}

// layer makes a layer of files.
func layer(files []file, when time.Time) (v1.Layer, error) {
	var content bytes.Buffer
	if err := writeTar(&content, files, when); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
