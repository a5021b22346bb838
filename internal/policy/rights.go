// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Rule allows calls by method and path.
type Rule struct {
	// Method is GET or POST, all that WeChat uses; "" means any method.
	Method string `json:"method,omitempty"`

	// Path is one path, or a prefix with "/*" after it, which stands for
	// every path below the prefix but not for the prefix itself. Case counts:
	// a rule allows what it says and no other spelling.
	Path string `json:"path"`
}

// ParseRules reads the arguments of one "allow [<method>] <path>..." line.
func ParseRules(args ...string) ([]Rule, error) {
	var method string
	if len(args) > 0 && !strings.HasPrefix(args[0], "/") {
		method, args = args[0], args[1:]
	}
	if len(args) == 0 {
		return nil, errors.New("reading rule: no path (a path begins with /)")
	}
	rules := make([]Rule, 0, len(args))
	for _, path := range args {
		rule := Rule{Method: method, Path: path}
		if err := rule.Validate(); err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// Validate reports a rule that could never match, or was not meant as it
// stands.
func (r Rule) Validate() error {
	switch r.Method {
	case "", "GET", "POST":
	default:
		return fmt.Errorf("reading rule: method %q is neither GET nor POST", r.Method)
	}
	if r.Path == "/*" {
		return nil
	}
	if _, ok := Clean(strings.TrimSuffix(r.Path, "/*")); !ok {
		return fmt.Errorf("reading rule: %q is neither a plain path nor a prefix followed by /*", r.Path)
	}
	return nil
}

func (r Rule) match(method, path string) bool {
	if r.Method != "" && r.Method != method {
		return false
	}
	if prefix, ok := strings.CutSuffix(r.Path, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return path == r.Path
}

// Rights is what a client may do. The zero value allows nothing but the
// authorizer-level paths of no authorizer at all.
type Rights struct {
	// AllAuthorizers stands for every authorizer of the client's component,
	// present and future.
	AllAuthorizers bool

	// Authorizers holds the appids of the authorizers the client may act for.
	Authorizers map[string]struct{}

	// Rules are the paths the client may call; empty means every path of the
	// levels it has. They only ever narrow: a component-level path needs a
	// rule, if there are any, and ComponentAPI as well. So a list of paths is
	// the whole list, and a broad rule such as "/cgi-bin/*" opens no
	// platform call by accident.
	Rules []Rule

	// ComponentAPI opens the component-level paths. It is a right over every
	// authorizer of the component: those calls name the account in their
	// bodies, which are not read.
	ComponentAPI bool
}

// Path reports whether the client may call the path, which passed Clean. Kind
// is that of its route or, where that is Either, Authorizer or Component by
// the subject of the call; an undecided Either counts as Component. The path
// is the one the client sent, not its rewritten form.
func (r *Rights) Path(method, path string, kind Kind) bool {
	switch kind {
	case User, None:
		return true
	case Authorizer, Login:
		return r.ruled(method, path)
	default:
		return r.ComponentAPI && r.ruled(method, path)
	}
}

func (r *Rights) ruled(method, path string) bool {
	for _, rule := range r.Rules {
		if rule.match(method, path) {
			return true
		}
	}
	return len(r.Rules) == 0
}

// Authorizer reports whether the client may act for the authorizer.
func (r *Rights) Authorizer(appid string) bool {
	if r.AllAuthorizers {
		return appid != ""
	}
	_, ok := r.Authorizers[appid]
	return ok
}

// OnlyAuthorizer returns the appid a call means that names none: that of the
// client's single authorizer, "" if it has another number of them.
func (r *Rights) OnlyAuthorizer() string {
	if r.AllAuthorizers || len(r.Authorizers) != 1 {
		return ""
	}
	for appid := range r.Authorizers {
		return appid
	}
	return ""
}
