// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	wechat "github.com/caddy-wechat/caddy-wechat"
	"github.com/caddy-wechat/caddy-wechat/internal/command"
)

// What operators can do by the admin API they can do on the command line, and the other
// way round: each request has its command, and each command asks for what there is.
func TestFacesHaveTheSameFunctions(t *testing.T) {
	twins := map[string]string{
		"/wechat/status": "status", "/wechat/health/live": "health", "/wechat/health/ready": "health",
		"/wechat/accounts": "accounts", "/wechat/accounts/": "account", "/wechat/pushes": "pushes", "/wechat/usage": "usage",
		"/wechat/events": "events list", "/wechat/events/replay": "events replay", "/wechat/events/discard": "events discard", "/wechat/events/test": "events test",
		"/wechat/doctor": "doctor", "/wechat/sync": "sync", "/wechat/reseal": "reseal",
	}
	var routes []string
	for _, route := range (wechat.Admin{}).Routes() {
		routes = append(routes, route.Pattern)
	}
	slices.Sort(routes)
	if want := slices.Sorted(maps.Keys(twins)); !slices.Equal(routes, want) {
		t.Errorf("the admin API has %q, want %q: give each request its command", routes, want)
	}
	root := new(cobra.Command)
	command.Root(root)
	for route, words := range twins {
		if found, rest, err := root.Find(strings.Fields(words)); err != nil || found == root || len(rest) > 0 {
			t.Errorf("%s has no command %s", route, words)
		}
	}
	asked := askedByCommands(t)
	for _, path := range asked {
		if path != "/wechat/events/" && !slices.Contains(routes, path) { // the actions on events follow
			t.Errorf("a command asks for %s, which the admin API does not have", path)
		}
	}
	for _, route := range routes {
		if !slices.ContainsFunc(asked, func(path string) bool {
			return path == route || path == "/wechat/events/" && strings.HasPrefix(route, path)
		}) {
			t.Errorf("no command asks for %s", route)
		}
	}
}

// askedByCommands returns the paths of the admin API that stand in package command.
func askedByCommands(t *testing.T) (paths []string) {
	t.Helper()
	files, err := filepath.Glob("internal/command/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(filepath.Base(file), "demo") { // which has paths of a site
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil && strings.HasPrefix(text, "/wechat/") {
					paths = append(paths, text)
				}
			}
			return true
		})
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
