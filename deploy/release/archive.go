// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// file is one in an archive or in a layer of an image: its mode and owner are those that
// it is to have, and not those that it has on the machine that builds.
type file struct {
	name    string
	mode    fs.FileMode // with fs.ModeDir and fs.ModeSticky where they are wanted
	owner   int         // both user and group
	content []byte
}

// read reads the file at source.
func read(name, source string, mode fs.FileMode) (file, error) {
	content, err := os.ReadFile(source)
	return file{name: name, mode: mode, content: content}, err
}

// writeTar writes files as a tar.
func writeTar(out io.Writer, files []file, when time.Time) error {
	w := tar.NewWriter(out)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Mode: int64(f.mode.Perm()), Uid: f.owner, Gid: f.owner,
			Size: int64(len(f.content)), ModTime: when, Format: tar.FormatPAX,
		}
		if f.mode.IsDir() {
			header.Typeflag, header.Name = tar.TypeDir, f.name+"/"
		}
		if f.mode&fs.ModeSticky != 0 {
			header.Mode |= 0o1000
		}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(f.content); err != nil {
			return err
		}
	}
	return w.Close()
}

// writeTarGz writes files as a compressed tar.
func writeTarGz(out io.Writer, files []file, when time.Time) error {
	w := gzip.NewWriter(out)
	return errors.Join(writeTar(w, files, when), w.Close())
}

// writeZip writes files as a zip, for Windows.
func writeZip(out io.Writer, files []file, when time.Time) error {
	w := zip.NewWriter(out)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: when.UTC()}
		header.SetMode(f.mode)
		content, err := w.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := content.Write(f.content); err != nil {
			return err
		}
	}
	return w.Close()
}

// toRead are patterns of what goes with a program: what its users read, and what they
// install: containers, alarms, the dashboard. It is enough where nobody reaches the source.
var toRead = []string{
	"LICENSE", "README.md", "README.zh-CN.md", "CHANGELOG.md", "SECURITY.md", "Caddyfile.example",
	"docs/*.md", "docs/zh/*.md",
	"deploy/compose.yml", "deploy/kubernetes/*",
	"deploy/grafana/*.json", "deploy/grafana/provisioning/*/*", "deploy/prometheus/prometheus.yml", "deploy/prometheus/*.rules.yml",
}

// writeArchive writes the archive of a program, with what is to be read.
func writeArchive(out, name, source string, p *program) error {
	program := filepath.Base(p.path)
	var files []file
	add := func(as, from string, mode fs.FileMode) error {
		f, err := read(path.Join(name, as), from, mode)
		files = append(files, f)
		return err
	}
	err := add(program, p.path, 0o755)
	for _, pattern := range toRead {
		found, failed := fs.Glob(os.DirFS(source), pattern) // in the order of names
		if len(found) == 0 {
			failed = errors.Join(failed, fmt.Errorf("there is no %s", filepath.Join(source, pattern)))
		}
		err = errors.Join(err, failed)
		for _, each := range found {
			err = errors.Join(err, add(each, filepath.Join(source, each), 0o644))
		}
	}
	others, failed := licenses(source, p)
	files = append(files, file{name: path.Join(name, licensesName), mode: 0o644, content: others})
	err = errors.Join(err, failed)
	write, extension := writeTarGz, ".tar.gz"
	switch p.os {
	case "linux":
		err = errors.Join(err, add("caddy-wechat.service", filepath.Join(source, "deploy", "caddy-wechat.service"), 0o644))
	case "windows":
		write, extension = writeZip, ".zip"
	}
	if err != nil {
		return err
	}
	return create(filepath.Join(out, name+extension), func(out io.Writer) error { return write(out, files, p.time) })
}

// tarFolder writes all files of a folder as a tar. They are those of an image, which are
// compressed already.
func tarFolder(archive, folder string, when time.Time) error {
	var files []file
	err := filepath.WalkDir(folder, func(source string, entry fs.DirEntry, err error) error { // in the order of names
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, source)
		if err != nil {
			return err
		}
		f, err := read(filepath.ToSlash(name), source, 0o644)
		files = append(files, f)
		return err
	})
	if err != nil {
		return err
	}
	return create(archive, func(out io.Writer) error { return writeTar(out, files, when) })
}

// writeSums writes SHA256SUMS, in the form of sha256sum, about the files of a folder.
func writeSums(folder string) error {
	entries, err := os.ReadDir(folder) // in the order of names
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// create writes a new file.
func create(name string, write func(io.Writer) error) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(write(out), out.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
