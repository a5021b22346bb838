// SPDX-License-Identifier: Apache-2.0

// Package prometheus_test checks what operators load into Prometheus and Grafana: with
// promtool, and against a Prometheus that has scraped a gateway at work.
package prometheus_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/test/need"
)

const (
	rulesFile = "../../deploy/prometheus/wechat.rules.yml"
	rulesTest = "../../deploy/prometheus/wechat.rules.test.yml"
	config    = "../../deploy/prometheus/prometheus.yml"
	hint      = "apt-get install prometheus"
)

// Each alarm is raised by what it is for, and by nothing else.
func TestRules(t *testing.T) {
	promtool := need.Command(t, hint, "promtool")
	for _, arguments := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTest}, {"check", "config", config}} {
		if output, err := exec.Command(promtool, arguments...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", arguments, err, output)
		}
	}
}

// An alarm that no test raises may never be raised, and one that no test keeps quiet may
// always be.
func TestEveryAlarmIsTested(t *testing.T) {
	tests := read(t, rulesTest)
	alarms := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, rulesFile), -1)
	if len(alarms) < 10 {
		t.Fatalf("%d alarms are found: has their form changed?", len(alarms))
	}
	for _, alarm := range alarms {
		if !regexp.MustCompile(`alertname: ` + alarm[1] + `\n +exp_alerts:\n +- exp_labels:`).MatchString(tests) {
			t.Errorf("no test raises %s", alarm[1])
		}
		if !strings.Contains(tests, "alertname: "+alarm[1]+"}") {
			t.Errorf("no test keeps %s quiet", alarm[1])
		}
	}
}

// Whoever is called by an alarm finds what to do.
func TestEveryAlarmIsDocumented(t *testing.T) {
	for _, page := range []string{"../../docs/operating.md", "../../docs/zh/operating.md"} {
		text := read(t, page)
		for _, alarm := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, rulesFile), -1) {
			if !strings.Contains(text, "| `"+alarm[1]+"` |") {
				t.Errorf("%s has no row about %s", page, alarm[1])
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
