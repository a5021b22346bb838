// SPDX-License-Identifier: Apache-2.0

package sdk_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// letter is a request, without the token that the gateway exchanges.
type letter struct {
	method, path, query, contentType string
	body                             []byte
}

// readLetter reads a request, and lets it be read once more.
func readLetter(r *http.Request) (letter, error) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	pairs := slices.DeleteFunc(strings.Split(r.URL.RawQuery, "&"), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		name, _ = url.QueryUnescape(name)
		return name == "access_token" || name == "component_access_token"
	})
	return letter{r.Method, r.URL.EscapedPath(), strings.Join(pairs, "&"), r.Header.Get("Content-Type"), body}, err
}

func (l letter) equal(other letter) bool {
	return l.method == other.method && l.path == other.path && l.query == other.query &&
		l.contentType == other.contentType && bytes.Equal(l.body, other.body)
}

func (l letter) String() string {
	return fmt.Sprintf("%s %s?%s of %q with %d bytes", l.method, l.path, l.query, l.contentType, len(l.body))
}

// exchanged reports whether the gateway answers a path itself, or makes another
// call of it: logins, tickets, and what has credentials in its body.
func exchanged(path string) bool {
	return strings.HasPrefix(path, "/cgi-bin/component/") || strings.HasPrefix(path, "/sns/") ||
		path == "/cgi-bin/ticket/getticket" || path == livenessPath
}

// letters are the requests that have passed a place. They may pass at the same time.
type letters struct {
	mu  sync.Mutex
	all []letter
}

func (l *letters) add(one letter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
}

func (l *letters) list() []letter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

func (l *letters) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// lastBody returns the body of the last request to a path.
func (l *letters) lastBody(path string) []byte {
	for _, one := range slices.Backward(l.list()) {
		if one.path == path {
			return one.body
		}
	}
	return nil
}
