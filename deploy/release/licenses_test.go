// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Whoever gets a program gets the licences of all that is in it.
func TestLicenses(t *testing.T) {
	p := programs(t)[slices.Index([]string{"amd64", "arm64"}, runtime.GOARCH)]
	text, err := licenses(source, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.info.Deps) < 50 {
		t.Fatalf("the program has %d modules", len(p.info.Deps))
	}
	for _, module := range p.info.Deps {
		if !bytes.Contains(text, []byte("==== "+module.Path+" "+module.Version+": ")) {
			t.Errorf("no licence of %s %s", module.Path, module.Version)
		}
	}
	for _, want := range []string{"==== Go go1.", "==== github.com/caddyserver/caddy/v2 ", "Apache License", "MIT License", "Redistribution and use in source and binary forms"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("it has no %q", want)
		}
	}
	if bytes.Contains(text, []byte(scratch)) || strings.Contains(string(text), "/pkg/mod/") {
		t.Error("it names folders of this machine")
	}
}

// A module that may not be handed on is not handed on.
func TestLicensesAreNotForgotten(t *testing.T) {
	if err := addLicenses(new(bytes.Buffer), "example.com/x v1.0.0", t.TempDir()); err == nil || !strings.Contains(err.Error(), "example.com/x v1.0.0 has no licence") {
		t.Errorf("%v", err)
	}
}
