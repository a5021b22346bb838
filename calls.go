// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"reflect"
	"runtime/debug"
)

// version returns the version of this module in the program, "(devel)" for one that was
// built from its source.
func version() string {
	const unknown = "(devel)"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	path := reflect.TypeFor[App]().PkgPath()
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == path && module.Version != "" {
			return module.Version
		}
	}
	return unknown
}
