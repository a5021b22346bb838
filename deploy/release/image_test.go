// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// descriptor, index, manifest and configuration are what OCI says of an image, read here
// without the library that has written it.
type descriptor struct {
	MediaType   string
	Digest      string
	Size        int64
	Platform    struct{ OS, Architecture string }
	Annotations map[string]string
}

type index struct {
	MediaType   string
	Manifests   []descriptor
	Annotations map[string]string
}

type manifest struct {
	MediaType string
	Config    descriptor
	Layers    []descriptor
}

type configuration struct {
	OS, Architecture string
	Created          time.Time
	Config           struct {
		User        string
		Env, Cmd    []string
		Entrypoint  []string
		Labels      map[string]string
		Healthcheck struct{ Test []string }
	}
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	}
}

// image is one for a platform, with all that its layers have.
type image struct {
	configuration
	files map[string]entry
}

// entry is a file of a layer.
type entry struct {
	tar.Header
	content []byte
}

// blob returns what a descriptor names, after a look at its size and digest.
func blob(t *testing.T, folder string, d descriptor) []byte {
	t.Helper()
	digest := strings.TrimPrefix(d.Digest, "sha256:")
	content, err := os.ReadFile(filepath.Join(folder, "blobs", "sha256", digest))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest || int64(len(content)) != d.Size {
		t.Fatalf("blob %s has %d bytes and the digest %x, want %d bytes", d.Digest, len(content), sum, d.Size)
	}
	return content
}

func decode[T any](t *testing.T, text []byte) (value T) {
	t.Helper()
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return value
}

// images reads the images in a folder, by platform.
func images(t *testing.T, folder string) map[string]image {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	outer := decode[index](t, text)
	if len(outer.Manifests) != 1 || outer.Manifests[0].MediaType != "application/vnd.oci.image.index.v1+json" {
		t.Fatalf("index.json has %+v, want one index", outer.Manifests)
	}
	all := make(map[string]image)
	for _, each := range decode[index](t, blob(t, folder, outer.Manifests[0])).Manifests {
		of := decode[manifest](t, blob(t, folder, each))
		if of.MediaType != "application/vnd.oci.image.manifest.v1+json" || of.Config.MediaType != "application/vnd.oci.image.config.v1+json" {
			t.Errorf("media types %s, %s", of.MediaType, of.Config.MediaType)
		}
		i := image{decode[configuration](t, blob(t, folder, of.Config)), make(map[string]entry)}
		for n, layer := range of.Layers {
			if layer.MediaType != "application/vnd.oci.image.layer.v1.tar+gzip" {
				t.Errorf("media type %s of a layer", layer.MediaType)
			}
			i.read(t, blob(t, folder, layer), strings.TrimPrefix(i.RootFS.DiffIDs[n], "sha256:"))
		}
		all[each.Platform.OS+"/"+each.Platform.Architecture] = i
	}
	return all
}

// read adds the files of a layer, of which the uncompressed digest is known.
func (i image) read(t *testing.T, layer []byte, digest string) {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(zipped)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest {
		t.Fatalf("a layer has the digest %x, the configuration says %s", sum, digest)
	}
	for r := tar.NewReader(bytes.NewReader(content)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		i.files[strings.TrimSuffix(header.Name, "/")] = entry{*header, content}
	}
}

// Both images have what a program needs beside itself, and say how it is run.
func TestImage(t *testing.T) {
	made := images(t, built(t))
	if len(made) != 2 {
		t.Fatalf("images for %d platforms", len(made))
	}
	for platform, machine := range map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64} {
		i := made[platform]
		if got := i.OS + "/" + i.Architecture; got != platform || !i.Created.Equal(commitTime) {
			t.Errorf("the image for %s says it is for %s, created %s", platform, got, i.Created)
		}
		program, err := elf.NewFile(bytes.NewReader(i.files["usr/bin/caddy"].content))
		if err != nil || program.Machine != machine || i.files["usr/bin/caddy"].Mode != 0o755 {
			t.Errorf("%s: the program: %v, mode %o", platform, err, i.files["usr/bin/caddy"].Mode)
		}
		c := i.Config
		if c.User != "65532:65532" || len(c.Entrypoint) != 0 || !slices.Equal(c.Cmd, strings.Fields("caddy run --config /etc/caddy/Caddyfile")) ||
			!slices.Equal(c.Healthcheck.Test, strings.Fields("CMD caddy wechat health")) ||
			!slices.Contains(c.Env, "GOGC=200") { // what docs/deploying.md says was measured
			t.Errorf("%s: %+v", platform, c)
		}
		for label, want := range map[string]string{"version": "v1.2.3", "revision": commit, "licenses": "Apache-2.0", "created": "2026-11-30T12:00:00Z"} {
			if got := c.Labels["org.opencontainers.image."+label]; got != want {
				t.Errorf("%s: label %s is %q, want %q", platform, label, got, want)
			}
		}
		checkFiles(t, platform, i.files)
	}
}

// checkFiles looks at the files that all images have.
func checkFiles(t *testing.T, platform string, files map[string]entry) {
	t.Helper()
	for name, f := range files {
		owner, mode := 0, f.FileInfo().Mode()
		if name == "data" || name == "config" {
			owner = uid
		}
		if f.Uid != owner || f.Gid != owner || !f.ModTime.Equal(commitTime) || mode.Perm()&0o002 != 0 && name != "tmp" || mode&(os.ModeSetuid|os.ModeSetgid|os.ModeSymlink) != 0 {
			t.Errorf("%s: %s belongs to %d:%d, mode %s, time %s", platform, name, f.Uid, f.Gid, mode, f.ModTime)
		}
	}
	for name, want := range map[string]string{"tmp": "dtrwxrwxrwx", "data": "drwx------", "config": "drwx------", "etc/caddy/Caddyfile": "-rw-r--r--", "usr/share/zoneinfo/Asia/Shanghai": "-rw-r--r--", documents + "/LICENSE": "-rw-r--r--", documents + "/" + licensesName: "-rw-r--r--"} {
		if f := files[name]; f.FileInfo().Mode().String() != want {
			t.Errorf("%s: %s has the mode %s, want %s", platform, name, f.FileInfo().Mode(), want)
		}
	}
	if users := string(files["etc/passwd"].content); !strings.Contains(users, "\ncaddy:x:65532:65532:") {
		t.Errorf("%s: users %q", platform, users)
	}
	authorities := 0
	for rest := files["etc/ssl/certs/ca-certificates.crt"].content; ; authorities++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
	}
	if authorities < 100 {
		t.Errorf("%s: %d authorities", platform, authorities)
	}
}

// The same programs make the same image: whoever builds a version anew can compare.
func TestImageIsTheSameEachTime(t *testing.T) {
	for _, name := range []string{"index.json", "oci-layout"} {
		first, err := os.ReadFile(filepath.Join(built(t), name))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(filepath.Join(makeImage(t, t.TempDir()), name))
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("%s: %s, and then %s, %v", name, first, second, err)
		}
	}
}

// A program that would not start in its image makes none.
func TestProgramsThatDoNotFitAreRefused(t *testing.T) {
	arm := programs(t)[1]
	confused := *arm
	confused.arch = "amd64"
	if err := checkProgram(&confused); err == nil || !strings.Contains(err.Error(), "EM_AARCH64") {
		t.Errorf("one for arm64 as one for amd64: %v", err)
	}
	text := *arm
	text.path = "image_test.go"
	if err := checkProgram(&text); err == nil {
		t.Error("a text is taken for a program")
	}
	if err := writeImage(t.TempDir(), source, []*program{&confused}); err == nil {
		t.Error("an image is made of it")
	}
}
