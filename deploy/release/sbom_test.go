// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// bill is the part of an SBOM that scanners read.
type bill struct {
	BOMFormat, SpecVersion, SerialNumber string
	Metadata                             struct {
		Timestamp string
		Component struct {
			Type, Name, PURL string
		}
	}
	Components []struct {
		Type, Name, Version, PURL string
		Hashes                    []struct{ Alg, Content string }
	}
	Dependencies []struct{ DependsOn []string }
}

// The list of what the gateway is made of has each module that is linked into it, with
// the checksum of go.sum, and the standard library; nothing in it changes with the time
// or the place.
func TestSBOM(t *testing.T) {
	p := *programs(t)[slices.Index([]string{"amd64", "arm64"}, runtime.GOARCH)]
	first, again := t.TempDir(), t.TempDir()
	for _, folder := range []string{first, again} {
		if err := writeSBOM(filepath.Join(folder, "x.cdx.json"), &p); err != nil {
			t.Fatal(err)
		}
	}
	b := decode[bill](t, sameFile(t, first, again, "x.cdx.json"))
	if b.BOMFormat != "CycloneDX" || b.SpecVersion != "1.6" || b.SerialNumber != "" || b.Metadata.Timestamp != "2026-11-30T12:00:00Z" ||
		b.Metadata.Component.Type != "application" || b.Metadata.Component.Name != "github.com/caddy-wechat/caddy-wechat" {
		t.Errorf("it says of itself %q %q %q, %+v", b.BOMFormat, b.SpecVersion, b.SerialNumber, b.Metadata)
	}
	sums, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Components) != len(p.info.Deps)+1 || len(b.Dependencies) != 1 || len(b.Dependencies[0].DependsOn) != len(b.Components) {
		t.Fatalf("it has %d components of %d modules", len(b.Components), len(p.info.Deps))
	}
	for i, c := range b.Components {
		if i == 0 {
			if want := "pkg:golang/std@" + strings.TrimPrefix(p.info.GoVersion, "go"); c.PURL != want {
				t.Errorf("the standard library is %s, want %s", c.PURL, want)
			}
			continue
		}
		if len(c.Hashes) != 1 || c.Hashes[0].Alg != "SHA-256" || c.PURL != "pkg:golang/"+c.Name+"@"+strings.ReplaceAll(c.Version, "+", "%2B") {
			t.Fatalf("%+v", c)
		}
		sum, err := hex.DecodeString(c.Hashes[0].Content)
		if line := c.Name + " " + c.Version + " h1:" + base64.StdEncoding.EncodeToString(sum) + "\n"; err != nil || !strings.Contains(string(sums), line) {
			t.Errorf("go.sum has no line %q", line)
		}
	}
}
