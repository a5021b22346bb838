// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mayReveal are the packages in which a secret becomes text: where it is sent,
// signed with, sealed or turned into a key.
var mayReveal = map[string]string{
	"secret":    "holds it",
	"openapi":   "sends it to WeChat",
	"relay":     "sends it to WeChat",
	"authorize": "signs the state with the app secret; the pre_auth_code is for the browser",
	"bizmsg":    "signs, opens and seals pushes",
	"gwtoken":   "derives signing keys",
	"vault":     "seals records",
	"delivery":  "signs deliveries with a webhook secret, and sends the headers that are configured",
	"gateway":   "takes the digest of a client secret",
	"wechat":    "reads a seal key and a webhook secret out of the configuration",
}

// A search for Reveal is the audit of what happens to secrets, so it is called in
// few places.
func TestSecretsAreRevealedInFewPlaces(t *testing.T) {
	called := make(map[string]bool)
	inspect(t, func(p goPackage, at string, info *types.Info, node ast.Node) {
		if !reveals(info, node) {
			return
		}
		called[p.name()] = true
		if mayReveal[p.name()] == "" {
			t.Errorf("%s: package %s may not reveal secrets: pass the secret.Secret on to one that may, or add the package to mayReveal in layout_types_test.go with the reason", at, p.name())
		}
	})
	for name := range mayReveal {
		if !called[name] && name != "secret" {
			t.Errorf("package %s reveals no secret any more: take it out of mayReveal in layout_types_test.go", name)
		}
	}
}

// reveals reports whether a node turns a secret into text: by Reveal, or by
// calling the function that a secret is.
func reveals(info *types.Info, node ast.Node) bool {
	const secret = module + "/internal/secret.Secret"
	switch n := node.(type) {
	case *ast.SelectorExpr:
		method, ok := info.Uses[n.Sel].(*types.Func)
		return ok && method.FullName() == "("+secret+").Reveal"
	case *ast.CallExpr:
		called := info.Types[n.Fun]
		return called.IsValue() && types.TypeString(called.Type, nil) == secret
	}
	return false
}

// What operators are answered can hold neither a secret nor a message: each field is
// a number, a time, a short text, or made of these, and none is named like something
// that may not be shown.
func TestOperatorsAreShownNoSecret(t *testing.T) {
	hidden := regexp.MustCompile(`(?i)secret|token|ticket|password|credential|key|body|content|payload|message|openid|username|header|url`)
	answers := 0
	inspect(t, func(p goPackage, at string, info *types.Info, node ast.Node) {
		declared, ok := node.(*ast.TypeSpec)
		if !ok || p.name() != "operate" {
			return
		}
		answer, ok := info.Defs[declared.Name].Type().Underlying().(*types.Struct)
		if !ok || !strings.Contains(fmt.Sprint(tags(answer)), "json:") {
			return
		}
		answers++
		for i := range answer.NumFields() {
			field := answer.Field(i)
			if _, list := field.Type().(*types.Slice); list && strings.Contains(answer.Tag(i), ",omit") {
				t.Errorf("%s: %s.%s is left out if it is empty: a list is answered as []", at, declared.Name.Name, field.Name())
			}
			if !showable(field.Type()) || hidden.MatchString(field.Name()) {
				t.Errorf("%s: %s.%s is a %v, in which something could be that operators may not see", at, declared.Name.Name, field.Name(), field.Type())
			}
		}
	})
	if answers < 20 {
		t.Errorf("only %d types of answers: has their form changed?", answers)
	}
}

func tags(s *types.Struct) (all []string) {
	for i := range s.NumFields() {
		all = append(all, s.Tag(i))
	}
	return all
}

// showable reports whether a field of an answer may be of this type: a basic one, a
// time, another answer, or a list of them. Bytes and interfaces can be anything.
func showable(t types.Type) bool {
	switch t := t.(type) {
	case *types.Basic:
		return t.Kind() != types.Byte
	case *types.Slice:
		return showable(t.Elem())
	case *types.Named:
		return types.TypeString(t, nil) == "time.Time" || strings.HasPrefix(types.TypeString(t, nil), module+"/internal/operate.")
	}
	return false
}

// What a package remembers would survive a reload unseen, and be shared by all
// tests. So below the root there are no variables at package level but those that
// nobody writes to: errors, tables, patterns; and counters and pools, which are
// safe to share.
func TestPackagesRememberNothing(t *testing.T) {
	inspect(t, func(p goPackage, at string, info *types.Info, node ast.Node) {
		if p.name() == "wechat" || p.name() == "gwtest" { // which redirects what the process of a test prints
			return
		}
		if ident, ok := node.(*ast.Ident); ok {
			if v, ok := info.Defs[ident].(*types.Var); ok && v.Parent() == v.Pkg().Scope() && !isCounterOrPool(v.Type()) && canChange(v.Type()) {
				t.Errorf("%s: %s.%s is a %v, which can change unseen: put it into a struct that is handed on", at, p.name(), v.Name(), v.Type())
			}
		}
		for _, written := range writtenTo(info, node) {
			v := packageVariable(info, written)
			if v != nil && !isCounterOrPool(v.Type()) {
				t.Errorf("%s: %s.%s is written to: put it into a struct that is handed on, state in the root if it has to survive a reload", at, v.Pkg().Name(), v.Name())
			}
		}
	})
}

// canChange reports whether a variable of this type can change without being
// written to: through a pointer, or as a channel. Of pointers those are known that
// do not: encodings, patterns, templates, and problems, which are errors.
func canChange(t types.Type) bool {
	switch t := t.Underlying().(type) {
	case *types.Chan:
		return true
	case *types.Pointer:
		return !slices.Contains([]string{"encoding/base64.Encoding", "regexp.Regexp", "text/template.Template", "html/template.Template", module + "/internal/problem.Problem"},
			types.TypeString(t.Elem(), nil))
	}
	return false
}

// writtenTo returns what a node writes to, or lets others write to.
func writtenTo(info *types.Info, node ast.Node) []ast.Expr {
	switch n := node.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			return []ast.Expr{n.X}
		}
	case *ast.CallExpr:
		if name, ok := n.Fun.(*ast.Ident); ok && (name.Name == "delete" || name.Name == "clear") {
			return n.Args[:1]
		}
	case *ast.SelectorExpr: // a method with a pointer receiver, called on a variable
		selection := info.Selections[n]
		if selection == nil || selection.Kind() != types.MethodVal {
			return nil
		}
		receiver := selection.Obj().(*types.Func).Signature().Recv().Type()
		_, wantsPointer := receiver.(*types.Pointer)
		_, isPointer := info.TypeOf(n.X).(*types.Pointer)
		if wantsPointer && !isPointer {
			return []ast.Expr{n.X}
		}
	}
	return nil
}

// packageVariable returns the variable at package level that an expression is, or
// is a part of; nil if it is none.
func packageVariable(info *types.Info, e ast.Expr) *types.Var {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.SelectorExpr:
			if info.Selections[x] == nil { // another package's variable
				e = x.Sel
			} else {
				e = x.X
			}
		case *ast.Ident:
			v, ok := info.Uses[x].(*types.Var)
			if ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				return v
			}
			return nil
		default:
			return nil
		}
	}
}

func isCounterOrPool(t types.Type) bool {
	name := types.TypeString(t, nil)
	return name == "sync.Pool" || strings.Contains(name, "client_golang/prometheus.") ||
		strings.HasSuffix(name, "internal/metrics.queueCollector") || strings.HasSuffix(name, "internal/metrics.accountCollector") // gauges that are read at each scrape
}

// inspected are the files whose nodes inspect has visited.
var inspected = token.NewFileSet()

// position says where something is declared.
func position(o types.Object) string { return inspected.Position(o.Pos()).String() }

// inspect visits all nodes of the packages of the gateway, with their types: of
// all but the sandbox, which is a WeChat of its own, and cmd/caddy.
func inspect(t *testing.T, visit func(p goPackage, at string, info *types.Info, node ast.Node)) {
	t.Helper()
	all, err := goList()
	if err != nil {
		t.Fatal(err)
	}
	exports := make(map[string]string)
	for _, p := range all {
		exports[p.ImportPath] = p.Export
	}
	files := inspected
	imports := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range ours(t) {
		if p.name() == "sandbox" || p.name() == "cmd/caddy" {
			continue
		}
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, file)
		}
		info := &types.Info{Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object), Selections: make(map[*ast.SelectorExpr]*types.Selection), Types: make(map[ast.Expr]types.TypeAndValue)}
		if _, err := (&types.Config{Importer: imports}).Check(p.ImportPath, files, parsed, info); err != nil {
			t.Fatal(err)
		}
		for _, file := range parsed {
			ast.Inspect(file, func(node ast.Node) bool {
				if node != nil {
					visit(p, files.Position(node.Pos()).String(), info, node)
				}
				return true
			})
		}
	}
}
