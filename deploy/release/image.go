// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	repository = "https://github.com/caddy-wechat/caddy-wechat"
	documents  = "usr/share/doc/caddy-wechat" // where the image has the licences
)

// writeImage writes an image for all platforms of these programs into a folder, in the
// layout of OCI. It is made from nothing but files that are listed here.
func writeImage(folder, source string, programs []*program) error {
	about := programs[0]
	files, err := surroundings(source)
	if err != nil {
		return err
	}
	base, err := layer(files, about.time)
	if err != nil {
		return err
	}
	var index v1.ImageIndex = empty.Index
	for _, p := range programs {
		image, err := imageOf(base, source, p)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}},
		})
	}
	index = mutate.Annotations(index, labels(about)).(v1.ImageIndex)
	written, err := layout.Write(folder, empty.Index)
	if err != nil {
		return err
	}
	return written.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": about.version}))
}

// imageOf adds a program, and its licences, to what all images have.
func imageOf(base v1.Layer, source string, p *program) (v1.Image, error) {
	if err := checkProgram(p); err != nil {
		return nil, err
	}
	content, err := read("usr/bin/caddy", p.path, 0o755)
	if err != nil {
		return nil, err
	}
	own, err := read(documents+"/LICENSE", filepath.Join(source, "LICENSE"), 0o644)
	if err != nil {
		return nil, err
	}
	others, err := licenses(source, p)
	if err != nil {
		return nil, err
	}
	top, err := layer([]file{
		content, {name: "usr/share/doc", mode: fs.ModeDir | 0o755}, {name: documents, mode: fs.ModeDir | 0o755},
		own, {name: documents + "/" + licensesName, mode: 0o644, content: others},
	}, p.time)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: p.time.UTC()}
	history := func(what string) v1.History { return v1.History{Created: created, CreatedBy: what} }
	image, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		mutate.Addendum{Layer: base, History: history("certificates, time zones, users, folders, Caddyfile")},
		mutate.Addendum{Layer: top, History: history("caddy " + p.version)})
	if err != nil {
		return nil, err
	}
	made, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	made = made.DeepCopy()
	made.OS, made.Architecture, made.Created, made.Config = p.os, p.arch, created, config(p)
	return mutate.ConfigFile(image, made)
}

// config is how the image is run: as Caddy's own image is, but not as root.
func config(p *program) v1.Config {
	return v1.Config{
		User: fmt.Sprintf("%d:%[1]d", uid),
		// Of the garbage collector: docs/deploying.md, Memory, says what was measured.
		Env: []string{"PATH=/usr/bin", "XDG_CONFIG_HOME=/config", "XDG_DATA_HOME=/data", "GOGC=200"},
		Cmd: []string{"caddy", "run", "--config", "/etc/caddy/Caddyfile"},
		// Those of the Caddyfile in the image. The admin API listens inside alone.
		ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8081/tcp": {}, "8082/tcp": {}},
		Healthcheck: &v1.HealthConfig{
			Test:     []string{"CMD", "caddy", "wechat", "health"},
			Interval: 30 * time.Second, Timeout: 15 * time.Second, StartPeriod: 10 * time.Second, Retries: 3,
		},
		Labels:     labels(p),
		WorkingDir: "/",
	}
}

// labels tell people and registries what the image is.
func labels(p *program) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":         "caddy-wechat",
		"org.opencontainers.image.description":   "Gateway of a WeChat third-party platform, in Caddy",
		"org.opencontainers.image.url":           repository,
		"org.opencontainers.image.source":        repository,
		"org.opencontainers.image.documentation": repository + "#readme",
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.version":       p.version,
		"org.opencontainers.image.revision":      p.commit,
		"org.opencontainers.image.created":       p.time.UTC().Format(time.RFC3339),
	}
}

// checkProgram fails if a program would not run in its image: it is for other processors,
// or needs a library, of which the image has none.
func checkProgram(p *program) error {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	opened, err := elf.Open(p.path)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(p.path), err)
	}
	defer opened.Close()
	if opened.Machine != machines[p.arch] {
		return fmt.Errorf("the program for %s is one for %s", p, opened.Machine)
	}
	for _, segment := range opened.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("the program for %s is not static", p)
		}
	}
	return nil
}
