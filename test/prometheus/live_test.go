// SPDX-License-Identifier: Apache-2.0

package prometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

const account = "wxaaaaaaaaaaaaaaaa"

func TestMain(m *testing.M) { caddy.Main(m) }

// Every query of the dashboard and of the rules finds what it asks for in a Prometheus
// that has scraped a gateway at work. Most alarms are quiet then, so of the rules it is
// what they select that must be there.
func TestQueriesFindWhatAGatewayShows(t *testing.T) {
	program := need.Command(t, hint, "prometheus")
	load := newLoad(t)
	p := scrape(t, program, load.admin)
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$client", ".*")
	asked := 0
	for _, panel := range parseDashboard(t).Panels {
		for _, target := range panel.Targets {
			query := variables.Replace(target.Expr)
			if strings.Contains(query, "$") {
				t.Fatalf("panel %q: a variable is not known to this test: %s", panel.Title, query)
			}
			p.find(fmt.Sprintf("panel %q, %s", panel.Title, target.RefID), query, load.work)
			asked++
		}
	}
	for _, v := range parseDashboard(t).Templating.List[1:] {
		of := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`).FindStringSubmatch(v.Definition)
		if of == nil || of[2] != v.Name {
			t.Fatalf("variable %s has the values of %q", v.Name, v.Definition)
		}
		p.find("variable "+v.Name, fmt.Sprintf(`count by (%s) (%s{%[1]s!=""})`, of[2], of[1]), load.work)
	}
	selectors := regexp.MustCompile(`caddy_wechat_\w+(\{[^}]*\})?`)
	for _, rule := range p.rules() {
		selected := selectors.FindAllString(rule.Query, -1)
		if rule.Health != "ok" || len(selected) == 0 {
			t.Errorf("rule %s is %s (%s) and selects %v", rule.Name, rule.Health, rule.LastError, selected)
		}
		for _, selector := range selected {
			p.find("rule "+rule.Name, "count("+selector+")", load.work)
			asked++
		}
	}
	if asked < 40 {
		t.Errorf("%d queries are found: has the form of the files changed?", asked)
	}
}

// load is a gateway whose clients, accounts and applications are busy.
type load struct {
	t      *testing.T
	admin  string
	proxy  string
	weChat *sandbox.Sandbox
}

// spent is a path whose quota at WeChat is spent.
const spent = "/cgi-bin/user/get"

func newLoad(t *testing.T) *load {
	t.Helper()
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "success") }))
	t.Cleanup(application.Close)
	platform := caddy.FreeAddress(t)
	weChat, err := sandbox.New(sandbox.Config{EventsURL: "http://" + platform + "/wechat/events", MessagesURL: "http://" + platform + "/wechat/messages/$APPID$"})
	if err != nil {
		t.Fatal(err)
	}
	if err := weChat.AddAccount(sandbox.Account{AppID: account}); err != nil {
		t.Fatal(err)
	}
	weChat.SetQuota(spent, 0)
	api := httptest.NewServer(weChat)
	t.Cleanup(api.Close)
	n := caddy.Node{
		Admin: caddy.FreeAddress(t), Storage: fmt.Sprintf("file_system %q", t.TempDir()), WeChat: api.URL, Platform: platform, Proxy: caddy.FreeAddress(t),
		Clients: "client shop {\nsecret " + caddy.ClientSecret + "\nauthorizers *\ndeliver " + application.URL + " {\nname main\ntoken SHOPTOKEN\n}\n}",
	}
	n.Run(t, filepath.Join(t.TempDir(), "Caddyfile")).Serves(n.Platform, n.Proxy, n.Admin)
	return &load{t, n.Admin, n.Proxy, weChat}
}

// work lets happen once what an operator wants to see: a ticket, an authorisation, calls
// that WeChat answers, repeats with a new token and refuses, and a message.
func (l *load) work() {
	l.t.Helper()
	if err := l.weChat.PushTicket(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	if !l.weChat.Authorized(account) {
		if _, err := l.weChat.Authorize(l.t.Context(), account); err != nil {
			l.t.Fatal(err)
		}
	}
	l.call("/cgi-bin/get_api_domain_ip")
	l.weChat.KillTokens(account)
	l.call("/cgi-bin/get_api_domain_ip")
	l.call(spent)
	if _, err := l.weChat.Push(l.t.Context(), l.weChat.Text(account, "o123", "hi")); err != nil {
		l.t.Fatal(err)
	}
}

func (l *load) call(path string) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, "http://"+l.proxy+path, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+caddy.ClientSecret)
	r.Header.Set("Wechat-Appid", account)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
}

// prometheus is a Prometheus at work.
type prometheus struct {
	t   *testing.T
	url string
}

// scrape runs a Prometheus that reads the metrics of a gateway every second, and has
// loaded the rules.
func scrape(t *testing.T, program, gateway string) *prometheus {
	t.Helper()
	folder, address := t.TempDir(), caddy.FreeAddress(t)
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(folder, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs:\n  - job_name: wechat\n    static_configs: [{targets: [%q]}]\n", rules, gateway)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, program, "--config.file", config, "--storage.tsdb.path", filepath.Join(folder, "data"), "--web.listen-address", address)
	printed := new(strings.Builder)
	command.Stdout, command.Stderr = printed, printed
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("Prometheus printed\n%s", printed)
		}
	})
	return &prometheus{t, "http://" + address}
}

// ask asks the API of Prometheus. It reports false if it does not answer yet.
func (p *prometheus) ask(path string, answer any) bool {
	p.t.Helper()
	response, err := http.Get(p.url + path)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusServiceUnavailable { // it starts
		return false
	}
	var envelope struct {
		Status, Error string
		Warnings      []string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&envelope); err != nil {
		p.t.Fatalf("%s: %v", path, err)
	}
	if envelope.Status != "success" || len(envelope.Warnings) > 0 {
		p.t.Fatalf("%s: %s, %s, %v", path, envelope.Status, envelope.Error, envelope.Warnings)
	}
	if err := json.Unmarshal(envelope.Data, answer); err != nil {
		p.t.Fatalf("%s: %v", path, err)
	}
	return true
}

// find asks until a query has a value. Before each further attempt there is work for the
// gateway, because a rate needs two values that differ.
func (p *prometheus) find(what, query string, work func()) {
	p.t.Helper()
	for range 60 {
		var found struct {
			Result []struct{ Value [2]any }
		}
		if p.ask("/api/v1/query?query="+url.QueryEscape(query), &found) {
			for _, sample := range found.Result {
				text, _ := sample.Value[1].(string)
				if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) {
					return
				}
			}
		}
		work()
		time.Sleep(500 * time.Millisecond) // Prometheus scrapes every second
	}
	p.t.Errorf("%s finds nothing: %s", what, query)
}

type rule struct{ Name, Query, Health, LastError string }

// rules returns the rules, after each was evaluated once.
func (p *prometheus) rules() (all []rule) {
	p.t.Helper()
	for range 60 {
		var loaded struct{ Groups []struct{ Rules []rule } }
		if all = nil; p.ask("/api/v1/rules", &loaded) {
			unknown := false
			for _, group := range loaded.Groups {
				for _, rule := range group.Rules {
					unknown = unknown || rule.Health == "unknown"
					all = append(all, rule)
				}
			}
			if !unknown && len(all) > 0 {
				return all
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	p.t.Fatal("the rules are not evaluated")
	return nil
}
