// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"go/ast"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stack is the order of the files of package tokens, from the ground up. A file
// uses only what files before it declare, so that a reader goes down once and
// comes back once.
var stack = strings.Fields(`
	events token lifetime
	lookups forced health doubts heldtickets
	unsaved codes base
	outcome remember records
	retry notices news tickets
	questions
	source
	rejected
	components authorizers
	sharedtickets
	exchange
	authorization componentapi
	operating
	keeper operators`)

// The engine is a stack: what a file needs from above is handed to it as a
// function, see newAuthorizers and newExchange.
func TestTokensAreStacked(t *testing.T) {
	files, err := filepath.Glob("internal/tokens/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := stackName(file); !strings.HasSuffix(name, "_test") && !slices.Contains(stack, name) {
			t.Errorf("internal/tokens/%s.go has no place: add it to the stack in layout_stack_test.go and to the package comment in keeper.go", name)
		}
	}
	inspect(t, func(p goPackage, at string, info *types.Info, node ast.Node) {
		ident, ok := node.(*ast.Ident)
		if !ok || p.name() != "tokens" {
			return
		}
		used := info.Uses[ident]
		if used == nil || used.Pkg() == nil || used.Pkg().Path() != p.ImportPath {
			return
		}
		if _, local := used.(*types.Func); !local && used.Parent() != used.Pkg().Scope() {
			return
		}
		user, declared := stackName(at), stackName(position(used))
		if slices.Index(stack, declared) > slices.Index(stack, user) {
			t.Errorf("%s: %s.go uses %s of %s.go, which stands above it: hand it down as a function, or move it", at, user, used.Name(), declared)
		}
	})
}

// stackName is the name of a file, of which a position may follow.
func stackName(at string) string {
	name, _, _ := strings.Cut(filepath.Base(at), ".go")
	return name
}

func TestStackIsDocumented(t *testing.T) {
	text, err := os.ReadFile("internal/tokens/keeper.go")
	if err != nil {
		t.Fatal(err)
	}
	comment, _, _ := strings.Cut(string(text), "package tokens\n")
	for _, name := range stack {
		if !strings.Contains(comment, name+".go") {
			t.Errorf("%s.go stands in no line of the package comment of internal/tokens/keeper.go", name)
		}
	}
}
