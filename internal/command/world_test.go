// SPDX-License-Identifier: Apache-2.0

package command

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
)

// world is an admin API with answers that a test writes.
type world struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex
	answers map[string][]answer // by method and URI; the last one is repeated
	asked   []string            // method and URI of each request, and the body if there is one
}

type answer struct {
	status int // 0: 200
	text   string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, answers: make(map[string][]answer)}
	w.Server = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	return w
}

// answer sets what a request is answered, and the requests after it.
func (w *world) answer(request string, answers ...answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[request] = answers
}

func (w *world) serve(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	request := r.Method + " " + r.RequestURI
	w.asked = append(w.asked, strings.TrimSpace(request+" "+string(body)))
	answers := w.answers[request]
	if len(answers) == 0 {
		http.NotFound(out, r)
		return
	}
	if len(answers) > 1 {
		w.answers[request] = answers[1:]
	}
	if answers[0].status != 0 {
		out.WriteHeader(answers[0].status)
	}
	_, _ = io.WriteString(out, answers[0].text)
}

// requests returns what was asked since it was called last.
func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return asked
}

// result is what a command has printed, and its exit code.
type result struct {
	out, err string
	code     int
}

// run runs caddy wechat with these arguments against the admin API.
func (w *world) run(arguments ...string) result {
	w.t.Helper()
	return execute(append(arguments, "--address", strings.TrimPrefix(w.URL, "http://"))...)
}

// execute runs caddy wechat with these arguments, as Caddy does.
func execute(arguments ...string) (r result) {
	wechat := &cobra.Command{Use: "wechat"}
	Root(wechat)
	caddy := &cobra.Command{Use: "caddy", SilenceUsage: true}
	caddy.AddCommand(wechat)
	caddy.SetArgs(append([]string{"wechat"}, arguments...))
	var out, errors strings.Builder
	caddy.SetOut(&out)
	caddy.SetErr(&errors)
	err := caddy.Execute()
	return result{out: out.String(), err: errors.String(), code: exitCode(err)}
}

// exitCode returns the code with which Caddy ends the process for an error: its type for
// others than 1 is not exported.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if code := regexp.MustCompile(`^exiting with status (\d+)$`).FindStringSubmatch(err.Error()); code != nil {
		n, _ := strconv.Atoi(code[1])
		return n
	}
	return 1
}
