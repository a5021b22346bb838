// SPDX-License-Identifier: Apache-2.0

// Package subject names whose token is meant: a component, or an authorizer
// under a component.
package subject

import "strings"

// Subject is "component_appid" for a component and
// "component_appid/authorizer_appid" for an authorizer. It is a string, so
// that it serves as a key and can be cut out of a gateway token without a copy.
type Subject string

// Of returns the subject of an authorizer under a component, or of the
// component itself when authorizer is empty.
func Of(component, authorizer string) Subject {
	if authorizer == "" {
		return Subject(component)
	}
	return Subject(component + "/" + authorizer)
}

// Component returns the component_appid.
func (s Subject) Component() string {
	component, _, _ := strings.Cut(string(s), "/")
	return component
}

// Authorizer returns the authorizer_appid, "" for a component.
func (s Subject) Authorizer() string {
	_, authorizer, _ := strings.Cut(string(s), "/")
	return authorizer
}

// IsComponent reports whether s names a component.
func (s Subject) IsComponent() bool { return strings.IndexByte(string(s), '/') < 0 }

// ValidAppID reports whether s has the form of a WeChat appid: wx and sixteen
// lower-case hexadecimal digits. Only such names become storage keys.
func ValidAppID(s string) bool {
	if len(s) != 18 || s[0] != 'w' || s[1] != 'x' {
		return false
	}
	for _, c := range []byte(s[2:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Named returns the component with this appid out of those that are configured, or
// the only one if the appid is empty. It reports false if there is none, or if
// there are several and none is named.
func Named[V any](components map[string]V, appid string) (named string, component V, ok bool) {
	if appid == "" && len(components) == 1 {
		for appid, component := range components {
			return appid, component, true
		}
	}
	component, ok = components[appid]
	return appid, component, ok
}
