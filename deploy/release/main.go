// SPDX-License-Identifier: Apache-2.0

// Command release builds what is published of a version: for each platform an archive
// with the program and a list of what it is made of (SBOM, CycloneDX), an image for
// containers, and the checksums of all of them. It needs Go and git, no Docker:
//
//	go -C deploy run ./release -out ../dist
//
// The same commit and the same Go make the same bytes, wherever and whenever: paths are
// left out, all times are that of the commit, and the version is the one that Go itself
// derives from the tags. With files that are not committed, it ends in +dirty.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// platforms are those for which programs are published.
var platforms = []platform{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

func main() {
	out := flag.String("out", "../dist", "folder to write into, which must not exist yet")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "release: %q is no option\n", flag.Arg(0))
		flag.Usage()
		os.Exit(2)
	}
	if err := release("..", *out); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release builds what is in the folder source, the gateway's repository, into the folder
// out.
func release(source, out string) error {
	source, err := filepath.Abs(source) // builds run there
	if err != nil {
		return err
	}
	if err := checkSource(source); err != nil {
		return err
	}
	if err := os.Mkdir(out, 0o755); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: remove it, or name another folder with -out", out)
	} else if err != nil {
		return err
	}
	programs, err := os.MkdirTemp("", "caddy-wechat-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(programs)
	var built, contained []*program
	for _, p := range platforms {
		fmt.Println("building for", p)
		one, err := build(source, programs, p)
		if err != nil {
			return fmt.Errorf("building for %s: %w", p, err)
		}
		built = append(built, one)
		if p.os == "linux" {
			contained = append(contained, one)
		}
	}
	for _, p := range built {
		name := fmt.Sprintf("%s_%s_%s", p.stem(), p.os, p.arch)
		if err := errors.Join(writeArchive(out, name, source, p), writeSBOM(filepath.Join(out, name+".cdx.json"), p)); err != nil {
			return err
		}
	}
	image := filepath.Join(out, "image") // for tools that push; people get the archive of it
	if err := writeImage(image, source, contained); err != nil {
		return fmt.Errorf("making the image: %w", err)
	}
	if err := tarFolder(filepath.Join(out, built[0].stem()+"_image.tar"), image, built[0].time); err != nil {
		return err
	}
	fmt.Println("built", built[0].version)
	return writeSums(out)
}

// stem is the beginning of the names of what is published.
func (p *program) stem() string { return "caddy-wechat_" + strings.TrimPrefix(p.version, "v") }
