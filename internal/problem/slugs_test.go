// SPDX-License-Identifier: Apache-2.0

package problem_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// Who counts by slug must know all of them: those of every problem that is declared.
func TestSlugsAreThoseOfAllProblems(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []string
	ast.Inspect(file, func(node ast.Node) bool {
		literal, ok := node.(*ast.CompositeLit)
		if !ok || len(literal.Elts) != 4 {
			return true
		}
		if name, ok := literal.Type.(*ast.Ident); ok && name.Name == "Problem" {
			slug, _ := strconv.Unquote(literal.Elts[2].(*ast.BasicLit).Value)
			declared = append(declared, slug)
		}
		return true
	})
	slices.Sort(declared)
	declared = slices.Compact(declared)
	listed := slices.Sorted(slices.Values(problem.Slugs()))
	if len(declared) < 25 || !slices.Equal(declared, listed) {
		t.Errorf("listed are %q, declared %q", listed, declared)
	}
}
