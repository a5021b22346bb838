// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// workflow is what the tests read of a file in .github/workflows.
type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Timeout int `yaml:"timeout-minutes"`
		Steps   []struct {
			Uses, Run string
			With      map[string]any
		}
	}
}

// eachWorkflow calls do with every workflow and its text.
func eachWorkflow(t *testing.T, do func(t *testing.T, w workflow, text string)) {
	t.Helper()
	files, err := filepath.Glob(".github/workflows/*.y*ml")
	if err != nil || len(files) < 2 {
		t.Fatalf("workflows: %q, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			var w workflow
			do(t, w, readYAML(t, file, &w))
		})
	}
}

// readYAML decodes a file into v and returns its text.
func readYAML(t *testing.T, file string, v any) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return string(text)
}

// Whoever takes over an action's repository can move its tags, and would then run in
// ours. A commit stays what it is.
func TestActionsArePinned(t *testing.T) {
	pinned := regexp.MustCompile(`^\s+(?:- )?uses: ([\w-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$`)
	commits := make(map[string]string) // action's repository → commit and version
	eachWorkflow(t, func(t *testing.T, _ workflow, text string) {
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "uses:") {
				continue
			}
			found := pinned.FindStringSubmatch(strings.TrimRight(line, "\n"))
			if found == nil {
				t.Errorf("%s: want owner/action@<40 hex digits> # v<version>", strings.TrimSpace(line))
				continue
			}
			repository := strings.Join(strings.SplitN(found[1], "/", 3)[:2], "/")
			if commit := found[2] + " " + found[3]; commits[repository] == "" {
				commits[repository] = commit
			} else if commits[repository] != commit {
				t.Errorf("%s is used as %s and as %s", repository, commits[repository], commit)
			}
		}
	})
}

// A workflow may read the source or nothing, and a job more only where it says so itself.
// What strangers write, such as the title of a pull request, does not become a command.
func TestWorkflowsMayDoLittle(t *testing.T) {
	made := makeTargets(t)
	eachWorkflow(t, func(t *testing.T, w workflow, text string) {
		// Where nothing stands, GitHub gives what the repository's settings say.
		if w.Permissions == nil || len(w.Permissions) > 0 && !maps.Equal(w.Permissions, map[string]string{"contents": "read"}) {
			t.Errorf("permissions are %v, want {} or contents: read", w.Permissions)
		}
		if strings.Contains(text, "pull_request_target") {
			t.Error("pull_request_target runs a stranger's code with our rights")
		}
		for name, job := range w.Jobs {
			if job.Timeout == 0 {
				t.Errorf("job %s has no timeout-minutes", name)
			}
			for _, step := range job.Steps {
				if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
					t.Errorf("job %s leaves a token in the clone: persist-credentials: false is missing", name)
				}
				if strings.Contains(step.Run, "${{") {
					t.Errorf("job %s runs %q: pass the value in env", name, step.Run)
				}
				for _, target := range regexp.MustCompile(`\bmake ([a-z]+)`).FindAllStringSubmatch(step.Run, -1) {
					if !slices.Contains(made, target[1]) {
						t.Errorf("job %s runs %s, which Makefile does not have", name, target[0])
					}
				}
			}
		}
	})
}

// makeTargets returns what can be made.
func makeTargets(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, targets, _ := strings.Cut(string(text), ".PHONY: ")
	targets, _, _ = strings.Cut(targets, "\n")
	return strings.Fields(targets)
}

// A package that was taken over attacks first in the scripts that npm runs when it
// installs it.
func TestNpmRunsNoScripts(t *testing.T) {
	installs := regexp.MustCompile(`\bnpm (ci|i|install|update|rebuild)\b[^\n]*`)
	calls := 0
	eachFile(t, func(file string) {
		if strings.HasSuffix(file, "workflows_test.go") {
			return
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range installs.FindAllString(string(text), -1) {
			calls++
			if !strings.Contains(call, "--ignore-scripts") {
				t.Errorf("%s: %s: without --ignore-scripts", file, call)
			}
		}
	})
	if calls == 0 {
		t.Error("npm is called nowhere: has its form changed?")
	}
}

// Dependabot looks only where it is told to.
func TestDependabotKnowsAllManifests(t *testing.T) {
	ecosystems := map[string]string{
		"go.mod": "gomod", "package.json": "npm", "requirements.txt": "pip", "pyproject.toml": "pip",
		"composer.json": "composer", "pom.xml": "maven", "Dockerfile": "docker", "compose.yml": "docker-compose",
	}
	want := []string{"github-actions /"}
	eachFile(t, func(file string) {
		if ecosystem := ecosystems[filepath.Base(file)]; ecosystem != "" {
			want = append(want, ecosystem+" "+path.Join("/", filepath.ToSlash(filepath.Dir(file))))
		}
	})
	var config struct {
		Updates []struct {
			Ecosystem   string `yaml:"package-ecosystem"`
			Directory   string
			Directories []string
		}
	}
	readYAML(t, ".github/dependabot.yml", &config)
	var got []string
	for _, update := range config.Updates {
		for _, directory := range append(update.Directories, update.Directory) {
			if directory != "" {
				got = append(got, update.Ecosystem+" "+directory)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("dependabot.yml has\n%q, and there are\n%q", got, want)
	}
}

// Everybody can read an issue.
func TestIssueFormsAskForNoSecret(t *testing.T) {
	for file, wants := range map[string][]string{
		"bug.yml":     {"Paste no secret", "请勿粘贴任何密钥", "caddy wechat status --json", "caddy wechat doctor", "SECURITY.md"},
		"feature.yml": {"Paste no secret", "请勿粘贴任何密钥"},
		"config.yml":  {"/security/advisories/new"},
	} {
		var form map[string]any
		text := readYAML(t, filepath.Join(".github/ISSUE_TEMPLATE", file), &form)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not have %q", file, want)
			}
		}
	}
}

// eachFile calls do with the files of the repository that people have written.
func eachFile(t *testing.T, do func(file string)) {
	t.Helper()
	generated := []string{".git", "node_modules", "dist", "out"}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains(generated, entry.Name()) || strings.HasPrefix(entry.Name(), "buildenv_")):
			return fs.SkipDir
		case entry.Type().IsRegular() && file != "caddy": // the program
			do(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
