// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// licensesName is the name of the file with the licences of others.
const licensesName = "LICENSES-OF-MODULES.txt"

// licenseFile is the name of a file that must be handed on with a program.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|copyright)([.-].*)?$`)

// licenses returns the licences of Go and of all modules that are linked into a program:
// most want their text to go with it. Source is the folder that it was built of. A module
// without one may not be handed on, and is an error.
func licenses(source string, p *program) ([]byte, error) {
	root, err := goCommand(source, p, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := addLicenses(&text, "Go "+p.info.GoVersion, strings.TrimSpace(root)); err != nil {
		return nil, err
	}
	if len(p.info.Deps) == 0 {
		return text.Bytes(), nil
	}
	list := []string{"list", "-m", "-f", "{{.Path}} {{.Version}}\t{{.Dir}}"}
	for _, module := range p.info.Deps {
		list = append(list, module.Path)
	}
	found, err := goCommand(source, p, list...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(found) { // in the order of the arguments
		module, folder, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if err := addLicenses(&text, module, folder); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// addLicenses adds the licences that are in a folder.
func addLicenses(text *bytes.Buffer, what, folder string) error {
	entries, err := os.ReadDir(folder) // in the order of names
	if err != nil {
		return fmt.Errorf("looking for the licence of %s: %w", what, err)
	}
	before := text.Len()
	for _, entry := range entries {
		if entry.IsDir() || !licenseFile.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".go") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(text, "==== %s: %s\n\n%s\n\n", what, entry.Name(), bytes.TrimSpace(content))
	}
	if text.Len() == before {
		return fmt.Errorf("%s has no licence in %s", what, folder)
	}
	return nil
}

// goCommand runs Go as for a build, and returns what it prints.
func goCommand(source string, p *program, arguments ...string) (string, error) {
	command := exec.Command("go", arguments...)
	command.Dir, command.Env = source, buildEnvironment(p.platform)
	var complaint bytes.Buffer
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", arguments[0], err, complaint.Bytes())
	}
	return string(output), nil
}
