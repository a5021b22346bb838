// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A map that names what is no longer there leads astray, and so does a promise whose
// test is gone: whatever ARCHITECTURE.md, CONTRIBUTING.md and SECURITY.md name as
// `file.go: name` is declared in that file.
func TestMapsNameWhatIsThere(t *testing.T) {
	named := regexp.MustCompile("`([\\w/.-]+\\.go): (\\w+)`")
	for _, document := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllStringSubmatch(string(text), -1)
		if len(found) < 3 {
			t.Errorf("%s names %d places only: has their form changed?", document, len(found))
		}
		for _, place := range found {
			if !declares(t, place[1], place[2]) {
				t.Errorf("%s names %s in %s, which is not declared there: say where it is now", document, place[2], place[1])
			}
		}
	}
}

// Whoever adds a package says what it is for.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range mayImport {
		if name := path.Base(row.pkg); row.pkg != "wechat" && !regexp.MustCompile(`\b`+name+`\b`).Match(text) {
			t.Errorf("package %s stands nowhere in ARCHITECTURE.md: add it to the tree, with what it is for", row.pkg)
		}
	}
}

// The tree shows the imports that the layout allows.
func TestArchitectureShowsTheLayout(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, row := range mayImport {
		known[row.pkg] = true
	}
	for _, row := range mayImport {
		if row.arrows == leaf || slices.Contains([]string{"wechat", "cmd/caddy", "gwtest", "metrics/metricstest"}, row.pkg) {
			continue
		}
		line := regexp.MustCompile(`(?m)^  ` + row.pkg + `/.*$`).Find(text)
		_, shown, _ := strings.Cut(string(line), "▸")
		var arrows []string
		for _, name := range regexp.MustCompile(`\w+`).FindAllString(shown, -1) {
			if known[name] || name == "Caddy" {
				arrows = append(arrows, strings.ToLower(name))
			}
		}
		want := strings.Fields(row.arrows)
		slices.Sort(arrows)
		slices.Sort(want)
		if !slices.Equal(arrows, want) {
			t.Errorf("the tree in ARCHITECTURE.md shows ▸ %v for package %s, mayImport in layout_test.go allows %v", arrows, row.pkg, want)
		}
	}
}

// declares reports whether a file declares a name at its top level.
func declares(t *testing.T, source, name string) bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return false
	}
	for _, declared := range file.Decls {
		switch d := declared.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == name {
				return true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.Name == name {
						return true
					}
				case *ast.ValueSpec:
					for _, ident := range s.Names {
						if ident.Name == name {
							return true
						}
					}
				}
			}
		}
	}
	return false
}
