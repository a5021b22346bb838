// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// PathKinds are the kinds of paths that an operator has configured, for paths that
// WeChat has added since, or where the table is wrong. A key is a path in lower
// case; its route is complete. A nil map has none. It must not be changed while
// Lookup is used.
type PathKinds map[string]Route

// kindNames are the kinds that an operator may give to a path.
var kindNames = map[string]Route{"component": component, "authorizer": authorizer, "either": either}

// NewPathKinds returns PathKinds from the names of kinds by path, and the paths of
// which the table, or their family, says otherwise. It goes in the order of the paths,
// so that of several errors the same one is always returned.
func NewPathKinds(named map[string]string) (kinds PathKinds, overridden []string, err error) {
	kinds = make(PathKinds)
	for _, path := range slices.Sorted(maps.Keys(named)) {
		overrides, err := kinds.Add(named[path], path)
		if err != nil {
			return nil, nil, err
		}
		if overrides {
			overridden = append(overridden, path)
		}
	}
	return kinds, overridden, nil
}

// Add adds a path, whose kind is named as in a configuration. It fails for an
// unknown kind, for a path that has a kind already in any spelling, and for a path
// whose calls are more than relayed: those of token endpoints, logins and end users,
// and those that the gateway answers itself, would lose what keeps credentials
// back. It reports whether the table, or the path's family, says otherwise.
func (k PathKinds) Add(kind, path string) (overrides bool, err error) {
	if _, ok := Clean(path); !ok {
		return false, fmt.Errorf("%q is not a plain path, such as /wxa/new/path; wildcards are not possible", path)
	}
	route, known := kindNames[kind]
	if !known {
		return false, fmt.Errorf("%s: want the kind authorizer, component or either", path)
	}
	lower := strings.ToLower(path)
	if _, twice := k[lower]; twice {
		return false, fmt.Errorf("%s has a kind already", path)
	}
	before, inTable := builtIn(lower)
	switch before.Kind {
	case None, Login, User:
		return false, fmt.Errorf("%s is a token endpoint or a login, or takes an end user's token: its kind is fixed", path)
	}
	if before.Endpoint != Relayed {
		return false, fmt.Errorf("%s is answered by the gateway itself, because credentials pass: its kind is fixed", path)
	}
	if before.Kind == Component && route.Kind == Component {
		route.Param = before.Param
	}
	k[lower] = route
	return inTable && (before.Kind != route.Kind || before.Actions != nil), nil
}

// Lookup returns the route that is configured for a path, which passed Clean, and
// otherwise that of the function Lookup.
func (k PathKinds) Lookup(path string) Route {
	path = strings.ToLower(path)
	if route, ok := k[path]; ok {
		return route
	}
	route, _ := builtIn(path)
	return route
}
