// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// step is one of a job in a workflow.
type step struct {
	ID, Name, Uses, Run string
	With                map[string]any
}

// job returns a job of a workflow.
func job(t *testing.T, file, name string) (steps []step, permissions map[string]string, needs []string) {
	t.Helper()
	var workflow struct {
		Jobs map[string]struct {
			Steps       []step
			Permissions map[string]string
			Needs       []string
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join("..", ".github", "workflows", file))), &workflow); err != nil {
		t.Fatal(err)
	}
	found := workflow.Jobs[name]
	if len(found.Steps) == 0 {
		t.Fatalf("%s has no job %s", file, name)
	}
	return found.Steps, found.Permissions, found.Needs
}

// script returns the commands of a step, which is found by its name or id.
func script(t *testing.T, steps []step, name string) string {
	t.Helper()
	for _, each := range steps {
		if each.Name == name || each.ID == name {
			return each.Run
		}
	}
	t.Fatalf("there is no step %q", name)
	return ""
}

// shell runs the commands of a step as GitHub does, in an empty folder, with a gh and a go
// that note how they were called and print what is given for each. It returns the note.
func shell(t *testing.T, commands string, prints map[string]string, environment ...string) (called string, err error) {
	t.Helper()
	folder := t.TempDir()
	note := filepath.Join(folder, "called")
	for _, name := range []string{"gh", "go"} {
		stub := "#!/bin/sh\necho \"" + name + " $*\" >>" + note + "\n"
		for arguments, text := range prints {
			stub += "[ \"" + name + " $*\" = '" + arguments + "' ] && { " + text + "; exit; }\n"
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(stub+"true\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("bash", "-e", "-c", commands)
	command.Dir = t.TempDir()
	command.Env = append([]string{"PATH=" + folder + ":" + os.Getenv("PATH"), "IMAGE=ghcr.io/x/y", "GITHUB_OUTPUT=" + filepath.Join(folder, "output")}, environment...)
	output, err := command.CombinedOutput()
	t.Logf("%s", output)
	noted, _ := os.ReadFile(note)
	return string(noted), err
}

// A tag that is no version is refused before anything is built, and a version that is
// published before anything is pushed.
func TestReleaseOfWhat(t *testing.T) {
	build, _, _ := job(t, "release.yml", "build")
	publish, _, _ := job(t, "release.yml", "publish")
	for tag, wanted := range map[string]bool{
		"v1.2.3": true, "v1.3.0-rc.1": true,
		"v1": false, "v1.2": false, "version-2": false, "v1.2.3+x": false, "v1.2.3;id": false, "v1.2.3-": false,
	} {
		if _, err := shell(t, script(t, build, "Is the tag a version?"), nil, "GITHUB_REF_NAME="+tag); (err == nil) != wanted {
			t.Errorf("%s: %v", tag, err)
		}
	}
	if _, err := shell(t, script(t, build, "Does Go say the same?"), nil, "GITHUB_REF_NAME=v1.2.3"); err == nil {
		t.Error("a build without the version of the tag is taken")
	}
	for answer, wanted := range map[string]bool{"exit 1": true, "echo true": true, "echo false": false} {
		if _, err := shell(t, script(t, publish, "Is it not published yet?"), map[string]string{"gh release view v1.2.3 --json isDraft --jq .isDraft": answer}, "GITHUB_REF_NAME=v1.2.3"); (err == nil) != wanted {
			t.Errorf("gh release view says %q: %v", answer, err)
		}
	}
}

// Nothing is pushed before all tests have passed, nothing is called latest before it is
// signed, and the release, which can be made once, comes at the end.
func TestReleaseInOrder(t *testing.T) {
	steps, _, needs := job(t, "release.yml", "publish")
	if !slices.Equal(needs, []string{"test", "build"}) {
		t.Errorf("it is published after %q", needs)
	}
	var text strings.Builder
	for _, each := range steps {
		text.WriteString(each.Uses + "\n" + each.Run + "\n")
	}
	last := -1
	for _, each := range []string{"gh release view", "sha256sum --check", "crane push", "cosign sign ", "cosign sign-blob", "actions/attest-build-provenance", "crane tag", "gh release create"} {
		at := strings.Index(text.String(), each)
		if at <= last {
			t.Errorf("%s comes too early, or never", each)
		}
		last = at
	}
	for _, name := range []string{"test", "build"} {
		if _, permissions, _ := job(t, "release.yml", name); len(permissions) != 1 || permissions["contents"] != "read" {
			t.Errorf("job %s may %v", name, permissions)
		}
	}
}

// A correction of an older version does not become latest, and a prerelease neither.
func TestReleaseIsTheLatest(t *testing.T) {
	steps, _, _ := job(t, "release.yml", "publish")
	for _, each := range []struct {
		tag, there string
		latest     bool
		flag       string
	}{
		{"v1.10.0", "1.9.0 1.10.0 latest", true, "--latest"},
		{"v1.9.1", "1.9.0 1.9.1 1.10.0 sha256-0.sig", false, "--latest=false"},
		{"v1.11.0-rc.1", "1.10.0 1.11.0-rc.1", false, "--prerelease"},
		{"v0.1.0-rc.1", "0.1.0-rc.1", false, "--prerelease"},
	} {
		list := map[string]string{"go -C deploy tool crane ls ghcr.io/x/y": "printf '%s\\n' " + each.there}
		commands := script(t, steps, "latest") + "\nNEWEST=$newest\n" + script(t, steps, "Publish")
		called, err := shell(t, commands, list, "GITHUB_REF_NAME="+each.tag)
		tagged := strings.Contains(called, "crane tag ghcr.io/x/y:"+each.tag[1:]+" latest\n")
		if err != nil || tagged != each.latest || !strings.Contains(called, "gh release create "+each.tag+" --verify-tag --generate-notes "+each.flag+" ") {
			t.Errorf("%s, with %s there: %v\n%s", each.tag, each.there, err, called)
		}
	}
}

// What is published, and what looks for known weaknesses, uses the newest Go of the line
// that go.mod names: with the oldest its weaknesses would be published, and found each
// night.
func TestNewestGo(t *testing.T) {
	line := regexp.MustCompile(`(?m)^go (\d+\.\d+)\.\d+$`).FindStringSubmatch(read(t, "../go.mod"))
	for file, names := range map[string][]string{"release.yml": {"test", "build", "publish"}, "nightly.yml": {"govulncheck"}} {
		for _, name := range names {
			steps, _, _ := job(t, file, name)
			at := slices.IndexFunc(steps, func(s step) bool { return strings.HasPrefix(s.Uses, "actions/setup-go@") })
			if with := steps[at].With; with["go-version"] != line[1]+".x" || with["check-latest"] != true {
				t.Errorf("%s, job %s: %v, want the newest of %s", file, name, with, line[1])
			}
		}
	}
}

// xcaddy.sh builds without xcaddy where that fails, and then fails itself only if a
// module is missing. What CI builds with it is what docs/deploying.md tells.
func TestXcaddyIsTried(t *testing.T) {
	steps, _, _ := job(t, "ci.yml", "build")
	command := regexp.MustCompile(`(?m)^\./xcaddy\.sh --with .*$`)
	told := command.FindString(read(t, "../docs/deploying.md"))
	if run := command.FindString(steps[len(steps)-1].Run); run == "" || run != told {
		t.Errorf("CI runs %q, docs/deploying.md tells %q", run, told)
	}
}

// What documents, manifests and compose.yml call the image is what the workflow pushes, and
// who signs it is the workflow that there is.
func TestImageHasOneName(t *testing.T) {
	module := regexp.MustCompile(`(?m)^module github\.com/(.*)$`).FindStringSubmatch(read(t, "../go.mod"))
	if pushed := "IMAGE: ghcr.io/${{ github.repository }}\n"; !strings.Contains(read(t, "../.github/workflows/release.yml"), pushed) {
		t.Errorf("release.yml does not have %q", pushed)
	}
	image, workflow := regexp.MustCompile(`ghcr\.io/[\w/-]+`), regexp.MustCompile(`https://github\.com/([\w-]+/[\w-]+)/(\.github/workflows/[\w.-]+)@refs/tags/v`)
	for _, file := range []string{"../docs/deploying.md", "../docs/zh/deploying.md", "../docs/upgrading.md", "../docs/zh/upgrading.md", "compose.yml", "kubernetes/deployment.yaml"} {
		names := image.FindAllString(read(t, file), -1)
		if len(names) == 0 {
			t.Errorf("%s names no image", file)
		}
		for _, name := range names {
			if name != "ghcr.io/"+module[1] {
				t.Errorf("%s has the image %s, published is ghcr.io/%s", file, name, module[1])
			}
		}
		for _, signer := range workflow.FindAllStringSubmatch(read(t, file), -1) {
			if _, err := os.Stat(filepath.Join("..", signer[2])); err != nil || signer[1] != module[1] {
				t.Errorf("%s: nobody signs as %s: %v", file, signer[0], err)
			}
		}
	}
}
