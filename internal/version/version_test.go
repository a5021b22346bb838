// SPDX-License-Identifier: Apache-2.0

package version

import (
	"runtime"
	"runtime/debug"
	"testing"
)

const (
	gateway = "github.com/caddy-wechat/caddy-wechat"
	caddy   = "github.com/caddyserver/caddy/v2"
)

// However the program was built, the version is that of the gateway, and not that of the
// program around it.
func TestVersion(t *testing.T) {
	vcs := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "0123abc"}, {Key: "vcs.time", Value: "2026-11-30T12:00:00Z"}}
	deps := func(modules ...*debug.Module) []*debug.Module {
		return append(modules, &debug.Module{Path: caddy, Version: "v2.11.9"})
	}
	for name, row := range map[string]struct {
		build debug.BuildInfo
		want  Info
	}{
		"a release": {
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: gateway, Version: "v1.2.3"}, Deps: deps(), Settings: vcs},
			Info{Version: "v1.2.3", Revision: "0123abc", Time: "2026-11-30T12:00:00Z", Caddy: "v2.11.9", Go: "go1.26.8"},
		},
		"a clone without stamps": {
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: gateway, Version: "(devel)"}, Deps: deps()},
			Info{Version: "(devel)", Caddy: "v2.11.9", Go: "go1.26.8"},
		},
		"xcaddy": {
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "caddy"}, Deps: deps(&debug.Module{Path: gateway, Version: "v1.2.3"})},
			Info{Version: "v1.2.3", Caddy: "v2.11.9", Go: "go1.26.8"},
		},
		"xcaddy in somebody's repository": {
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "caddy"}, Deps: deps(&debug.Module{Path: gateway, Version: "v1.2.3"}), Settings: vcs},
			Info{Version: "v1.2.3", Caddy: "v2.11.9", Go: "go1.26.8"},
		},
		"xcaddy with a folder, which says v0.0.0": {
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "caddy"}, Deps: deps(&debug.Module{Path: gateway, Version: "v0.0.0", Replace: &debug.Module{Path: "/src"}})},
			Info{Version: "(devel)", Caddy: "v2.11.9", Go: "go1.26.8"},
		},
		"xcaddy with a fork": {
			debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "caddy"}, Deps: deps(&debug.Module{Path: gateway, Version: "v1.2.3", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.2.4"}})},
			Info{Version: "v1.2.4", Caddy: "v2.11.9", Go: "go1.26.8"},
		},
		"nothing is known": {debug.BuildInfo{}, Info{Version: "(devel)", Caddy: "(devel)", Go: runtime.Version()}},
	} {
		row.want.OS, row.want.Arch = runtime.GOOS, runtime.GOARCH
		if got := of(&row.build); got != row.want {
			t.Errorf("%s: %+v, want %+v", name, got, row.want)
		}
	}
}

// The path of the module is read from this package: it must not depend on its name.
func TestGetFindsTheModule(t *testing.T) {
	if build, ok := debug.ReadBuildInfo(); !ok || build.Main.Path != gateway {
		t.Fatalf("this test is built as a part of %+v", build)
	}
	if got := Get(); got.Version == "" || got.Go != runtime.Version() {
		t.Errorf("%+v", got)
	}
}
