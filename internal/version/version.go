// SPDX-License-Identifier: Apache-2.0

// Package version tells which gateway runs, from what the Go compiler writes into each
// program. So nothing has to be given to a build for it. The metric build_info, the
// status and caddy wechat version all show what stands here.
//
// Entry point: [Get].
package version

import (
	"cmp"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
)

// unknown is the version of a program that was built from a folder of source code.
const unknown = "(devel)"

// Info tells what a program was made of.
type Info struct {
	// Version is that of the gateway: a tag such as v1.2.3, a pseudo-version of Go for
	// a commit without one, with +dirty if files were changed, or "(devel)".
	Version string `json:"version"`
	// Revision is the commit, and Time its time in RFC 3339. They are empty if the
	// gateway was not built in its own repository, as with xcaddy.
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	// Caddy is the version of Caddy, Go that of the compiler.
	Caddy string `json:"caddy"`
	Go    string `json:"go"`
	OS    string `json:"os"`
	Arch  string `json:"arch"`
}

// Get tells what the program that runs was made of.
func Get() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = new(debug.BuildInfo)
	}
	return of(build)
}

// of reads what the compiler has written.
func of(build *debug.BuildInfo) Info {
	gateway, _, _ := strings.Cut(reflect.TypeFor[Info]().PkgPath(), "/internal/")
	info := Info{
		Version: moduleVersion(build, gateway), Caddy: moduleVersion(build, "github.com/caddyserver/caddy/v2"),
		Go: cmp.Or(build.GoVersion, runtime.Version()), OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	if build.Main.Path != gateway {
		return info // the commit is that of another module
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			info.Revision = setting.Value
		case "vcs.time":
			info.Time = setting.Value
		}
	}
	return info
}

// moduleVersion returns the version of a module in a program. That of a module which was
// replaced is the version of what replaces it; a folder has none.
func moduleVersion(build *debug.BuildInfo, path string) string {
	for _, module := range append(build.Deps, &build.Main) {
		if module.Path != path {
			continue
		}
		if module.Replace != nil {
			module = module.Replace
		}
		return cmp.Or(module.Version, unknown)
	}
	return unknown
}
