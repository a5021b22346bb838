// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Placeholder is the form of the two placeholders that a secret may have: its kind, env
// or file, and the name of the variable or the path.
var Placeholder = regexp.MustCompile(`\{(env|file)\.([^{}]+)\}`)

// Missing collects the environment variables and files that a configuration names and
// that are not there or empty, so that all are named at once. The zero value is ready
// to use. It never has a value, only names.
type Missing struct {
	variables, files map[string][]string // name → the options that name it
}

// Add notes that the value of a placeholder is missing. kind and name are the groups of
// [Placeholder]; option says where it stands.
func (m *Missing) Add(kind, name, option string) {
	into := &m.variables
	if kind == "file" {
		into = &m.files
	}
	if *into == nil {
		*into = make(map[string][]string)
	}
	if !slices.Contains((*into)[name], option) {
		(*into)[name] = append((*into)[name], option)
	}
}

// Err returns an error that names all that is missing, each once and in the order of the
// names, with the options; nil if nothing is.
func (m *Missing) Err() error {
	var texts []string
	for _, group := range []struct {
		what  string
		named map[string][]string
	}{
		{"environment variables that are not set or empty: ", m.variables},
		{"files that are missing, unreadable or empty: ", m.files},
	} {
		var each []string
		for _, name := range slices.Sorted(maps.Keys(group.named)) {
			each = append(each, name+" ("+strings.Join(group.named[name], "; ")+")")
		}
		if len(each) > 0 {
			texts = append(texts, group.what+strings.Join(each, ", "))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}
