// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/caddy-wechat/caddy-wechat"

// mayImport is the layout: which packages of this module each one may import,
// from the ground up. Names are those below internal/. The leaves, which import
// nothing of the module, may be imported by all. ARCHITECTURE.md says what each
// is for.
var mayImport = []struct{ pkg, arrows string }{
	{"secret", leaf}, {"subject", leaf}, {"rewrite", leaf}, {"policy", leaf}, {"upstream", leaf}, {"logging", leaf}, {"backoff", leaf}, {"apart", leaf}, {"usage", leaf}, {"permission", leaf},
	{"pushlog", leaf}, {"version", leaf},

	{"bizmsg", ""},
	{"memory", ""},
	{"gwtoken", ""},
	{"audit", ""},
	{"buffered", "caddy"}, // a module of Caddy that knows nothing of the app
	{"advice", ""},
	{"openapi", ""},
	{"vault", "gwtoken"}, // a client's name has one form, as a part of a token and of a key

	{"census", "vault"}, // knows from what is stored who is in which state

	{"check", "bizmsg gwtoken vault"},
	{"metrics", "bizmsg vault"},
	{"problem", "openapi vault"},
	{"delivery", "bizmsg metrics vault"},

	{"tokens", "metrics openapi problem vault"},

	{"profile", "openapi tokens vault"}, // learns what kind of account it is from what the engine asks WeChat
	{"relay", "openapi problem tokens"},
	{"gateway", "advice check gwtoken metrics openapi problem relay tokens"},
	{"push", "bizmsg delivery metrics tokens"}, // never gateway: it asks whom a push is for
	{"authorize", "openapi problem tokens"},

	{"publishtest", "bizmsg openapi tokens vault"}, // vault: a code that WeChat has sent must outlive a crash; never push: it is handed to it as a function

	{"operate", "advice audit bizmsg census delivery metrics openapi problem tokens vault"}, // shows what goes on, and acts on it
	{"command", "openapi operate sandbox caddy"},

	{"sandbox", ""}, // a fake that borrowed our code would agree with our mistakes
	{"wechat", "advice audit authorize bizmsg buffered census check command delivery gateway gwtoken logging memory metrics openapi operate problem profile publishtest push relay tokens vault caddy"},
	{"cmd/caddy", "wechat caddy"},

	// For tests alone: nothing else imports these.
	{"gwtest", "gwtoken wechat sandbox caddy"},
	{"metrics/metricstest", "metrics"},
	{"vault/vaulttest", ""},
}

const leaf = "leaf"

// goPackage is what go list tells of a package. Tests do not count.
type goPackage struct {
	ImportPath, Dir, Export string
	GoFiles, Imports        []string
}

// name is that of the tables above.
func (p goPackage) name() string {
	name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module+"/"), "internal/")
	if name == module {
		return "wechat"
	}
	return name
}

// goList lists packages, with the export data of all that they import.
var goList = sync.OnceValues(func() ([]goPackage, error) {
	command := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Imports", "./...")
	command.Stderr = os.Stderr
	command.Env = append(os.Environ(), "CGO_ENABLED=0") // as all but the race detector; what is compiled is used again
	out, err := command.Output()
	if err != nil {
		return nil, err
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

// ours are the packages of this module.
func ours(t *testing.T) []goPackage {
	t.Helper()
	all, err := goList()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(slices.Clone(all), func(p goPackage) bool {
		return p.ImportPath != module && !strings.HasPrefix(p.ImportPath, module+"/")
	})
}

// Imports point one way, and a new one is a decision.
func TestPackagesImportWhatTheLayoutAllows(t *testing.T) {
	leaves, known := make(map[string]bool), make(map[string][]string)
	for _, row := range mayImport {
		known[row.pkg] = strings.Fields(row.arrows)
		leaves[row.pkg] = row.arrows == leaf
	}
	used := make(map[string]bool) // "package arrow"
	for _, p := range ours(t) {
		arrows, listed := known[p.name()]
		if !listed {
			t.Errorf("package %s is in no room: add it to mayImport in layout_test.go and to the tree in ARCHITECTURE.md, with what it may import", p.name())
			continue
		}
		for _, path := range p.Imports {
			to, own := strings.CutPrefix(path, module)
			switch {
			case own:
				to = goPackage{ImportPath: module + to}.name()
			case strings.HasPrefix(path, "github.com/caddyserver/"):
				to = "caddy"
			default:
				continue
			}
			used[p.name()+" "+to] = true
			if !slices.Contains(arrows, to) && (!leaves[to] || leaves[p.name()]) {
				t.Errorf("package %s may not import %s: hand it what it needs when the engine is built (module.go), or add the arrow to mayImport in layout_test.go with the reason", p.name(), to)
			}
		}
	}
	for pkg, arrows := range known {
		for _, to := range arrows {
			if to != leaf && !used[pkg+" "+to] {
				t.Errorf("package %s does not import %s: take the arrow out of mayImport in layout_test.go", pkg, to)
			}
		}
	}
}

// The root is Caddy's face, and not the room where new things land because there
// is no other.
func TestRootStaysSmall(t *testing.T) {
	const maxFiles, maxLines = 20, 3500
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	lines := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
	}
	if len(files) > maxFiles || lines > maxLines {
		t.Errorf("the root package has %d files and %d lines, at most %d and %d: move what knows no Caddy below internal/. "+
			"These are the limits of the end", len(files), lines, maxFiles, maxLines)
	}
}
