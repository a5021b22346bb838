// SPDX-License-Identifier: Apache-2.0

package servers_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// told is what the user of an SDK is told.
type told struct {
	gateway string // base URL in place of https://api.weixin.qq.com
	appid   string // of the account or of the component
}

// application is a message server of an SDK and what its user has written around it: the
// lines that node/application.js describes are what the SDK has read.
type application struct {
	url string

	mu    sync.Mutex
	lines []string
}

// serve runs an application in this process. The listener is set up as the README of its
// SDK says.
func serve(t *testing.T, listener func(*application) http.Handler) *application {
	t.Helper()
	a := new(application)
	server := httptest.NewServer(listener(a))
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

// say adds a line.
func (a *application) say(words ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lines = append(a.lines, strings.Join(words, " "))
}

// said returns the first line that begins so, "" for none.
func (a *application) said(prefix string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.IndexFunc(a.lines, func(line string) bool { return strings.HasPrefix(line, prefix) }); i >= 0 {
		return a.lines[i]
	}
	return ""
}

// failed notes an error of the SDK.
func (a *application) failed(r *http.Request, err error) { a.say("failed", r.URL.Path, err.Error()) }

// receive takes a text of a follower, and returns the text to answer, "" for none.
func (a *application) receive(text string) string {
	a.say("text", text)
	if text == quiet {
		return ""
	}
	return "You wrote: " + text
}
