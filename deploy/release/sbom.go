// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM writes which modules a program is made of, as Go has written it into the
// program: what is not linked into it is not there.
func writeSBOM(path string, p *program) error {
	main := component(&p.info.Main)
	main.Type = cyclonedx.ComponentTypeApplication
	standard := cyclonedx.Component{
		Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: p.info.GoVersion,
		PackageURL: "pkg:golang/std@" + strings.TrimPrefix(p.info.GoVersion, "go"),
	}
	standard.BOMRef = standard.PackageURL
	components, refs := []cyclonedx.Component{standard}, []string{standard.BOMRef}
	for _, module := range p.info.Deps { // in the order of their paths
		each := component(module)
		components, refs = append(components, each), append(refs, each.BOMRef)
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: p.time.UTC().Format(time.RFC3339), Component: &main,
		Properties: &[]cyclonedx.Property{{Name: "cdx:gomod:build:env:GOOS", Value: p.os}, {Name: "cdx:gomod:build:env:GOARCH", Value: p.arch}},
	}
	bom.Components = &components
	bom.Dependencies = &[]cyclonedx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	return create(path, func(out io.Writer) error {
		return cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6) // which scanners read
	})
}

// component describes a module, with the checksum that go.sum has of it.
func component(module *debug.Module) cyclonedx.Component {
	if module.Replace != nil {
		module = module.Replace
	}
	url := "pkg:golang/" + module.Path + "@" + strings.ReplaceAll(module.Version, "+", "%2B")
	described := cyclonedx.Component{
		BOMRef: url, Type: cyclonedx.ComponentTypeLibrary, Name: module.Path, Version: module.Version, PackageURL: url,
	}
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(module.Sum, "h1:")); err == nil && len(sum) > 0 {
		described.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	}
	return described
}
