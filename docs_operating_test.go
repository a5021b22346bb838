// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	wechat "github.com/caddy-wechat/caddy-wechat"
	"github.com/caddy-wechat/caddy-wechat/internal/command"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// described collects what would be registered: the labels of each metric.
type described map[string]string

func (d described) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	form := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([\w,]*)\}`)
	for desc := range descs {
		found := form.FindStringSubmatch(desc.String())
		d[found[1]] = strings.ReplaceAll(found[2], ",", ", ")
	}
	return nil
}

func (d described) MustRegister(...prometheus.Collector) {}
func (d described) Unregister(prometheus.Collector) bool { return false }

func shownMetrics(t *testing.T) described {
	t.Helper()
	all := make(described)
	if err := metrics.Register(all); err != nil || len(all) < 10 {
		t.Fatalf("%d metrics, %v", len(all), err)
	}
	return all
}

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A page has each metric with its labels, and all values of the labels of answers and of
// calls that are no refusals: dashboards are built from them.
func TestDocumentedMetricsAreComplete(t *testing.T) {
	all := shownMetrics(t)
	for _, name := range []string{"docs/logs-and-metrics.md", "docs/zh/logs-and-metrics.md"} {
		text, row := document(t, name), make(map[string]string)
		for metric, labels := range all {
			if labels != "" {
				metric += "{" + labels + "}"
			}
			at := strings.Index(text, "\n| `"+metric+"` |")
			if at < 0 {
				t.Errorf("%s has no row | `%s` |", name, metric)
				continue
			}
			row[metric], _, _ = strings.Cut(text[at+1:], "\n")
		}
		for metric, values := range map[string][]string{
			"caddy_wechat_answers_total{client, errcode}": metrics.Answers(), "caddy_wechat_calls_total{client, outcome}": metrics.Outcomes(),
			"caddy_wechat_accounts{component, state}": {"authorized", "unauthorized", "needs_authorization", "failing"},
		} {
			for _, value := range values {
				if !strings.Contains(row[metric], "`"+value+"`") {
					t.Errorf("%s does not name the value %s of %s", name, value, metric)
				}
			}
		}
		for _, value := range regexp.MustCompile("`(-?[0-9]+|http_[0-9]+)`").FindAllStringSubmatch(row["caddy_wechat_answers_total{client, errcode}"], -1) {
			if !slices.Contains(metrics.Answers(), value[1]) {
				t.Errorf("%s names the value %s of answers, which there is not", name, value[1])
			}
		}
	}
}

// forUsers returns the names of the files that users load or read.
func forUsers(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "README.zh-CN.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "sandbox/README.md"}
	for _, folder := range []string{"docs", "deploy"} {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// What users load or read names no metric that there is not.
func TestNoMetricIsInvented(t *testing.T) {
	all := shownMetrics(t)
	for _, file := range forUsers(t) {
		for _, metric := range regexp.MustCompile(`caddy_wechat_\w+`).FindAllString(document(t, file), -1) {
			name := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(metric, "")
			if _, exists := all[name]; !exists {
				t.Errorf("%s names %s", file, metric)
			}
		}
	}
}

// Whoever is refused finds the header's value on the page about errors, and what tells him
// more.
func TestDocumentedErrorsAreComplete(t *testing.T) {
	for _, name := range []string{"docs/errors.md", "docs/zh/errors.md"} {
		text := document(t, name)
		for _, slug := range append(problem.Slugs(), openapi.HintHeader) {
			if !strings.Contains(text, "`"+slug+"`") {
				t.Errorf("%s does not name %s", name, slug)
			}
		}
	}
}

// Operators find every command, and every request of the admin API, on the page about
// operating; the commands to begin with are in the README.
func TestOperatorsFindWhatThereIs(t *testing.T) {
	operating := map[string]string{"README.md": "docs/operating.md", "README.zh-CN.md": "docs/zh/operating.md"}
	for readme, page := range operating {
		text := document(t, readme) + document(t, page)
		for _, cmd := range command.Commands() {
			if !strings.Contains(text, "caddy wechat "+cmd.Name()) {
				t.Errorf("neither %s nor %s names caddy wechat %s", readme, page, cmd.Name())
			}
		}
		text = document(t, page)
		for _, route := range (wechat.Admin{}).Routes() {
			pattern := strings.TrimSuffix(route.Pattern, "/")
			if action, isAction := strings.CutPrefix(pattern, "/wechat/events/"); isAction && action != "replay" {
				pattern = "`" + action + "`" // in the row of replay
			}
			if !strings.Contains(text, pattern) {
				t.Errorf("%s does not name the request %s", page, pattern)
			}
		}
	}
}

// Whoever types what he has read, also in an answer of the gateway, gets no error: each
// command there is, and has the flags that are named with it.
func TestNoCommandIsInvented(t *testing.T) {
	root := &cobra.Command{Use: "wechat"}
	root.AddCommand(command.Commands()...)
	named, found := regexp.MustCompile(`(of )?caddy wechat ((?:--)?[a-z][^`+"`"+`.;,:|)\n"]*)`), 0
	sources, err := filepath.Glob("internal/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	isTest := func(file string) bool { return strings.HasSuffix(file, "_test.go") }
	for _, file := range append(forUsers(t), slices.DeleteFunc(sources, isTest)...) {
		for _, each := range named.FindAllStringSubmatch(document(t, file), -1) {
			if each[1] != "" { // "the commands of caddy wechat" are none
				continue
			}
			found++
			cmd, _, err := root.Find(strings.Fields(each[2]))
			if cmd == root || err != nil && !cmd.HasSubCommands() {
				t.Errorf("%s names %q: %v", file, each[0], err)
				continue
			}
			for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(each[2], -1) {
				if cmd.Flag(flag[1]) == nil {
					t.Errorf("%s names %q, which has no flag --%s", file, each[0], flag[1])
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("%d commands are found", found)
	}
}
