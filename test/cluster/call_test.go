// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// client is what applications call with: connections are kept and no redirect
// is followed.
var client = &http.Client{
	Transport:     &http.Transport{MaxIdleConnsPerHost: 500},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// answer is what a caller gets.
type answer struct {
	Status  int
	Slug    string // of the gateway's own refusal
	Body    string
	ErrCode int
	took    time.Duration
	err     error
}

func (a answer) ok() bool { return a.err == nil && a.Status == http.StatusOK && a.ErrCode == 0 }

func (a answer) String() string {
	return fmt.Sprintf("%d %s %s %v after %v", a.Status, a.Slug, strings.TrimSpace(a.Body), a.err, a.took.Round(time.Millisecond))
}

// call makes a call for an account or, given the component's appid, one that
// takes the component token.
func (n *node) call(subject string) answer {
	path := "/cgi-bin/user/get"
	if subject == component {
		path = "/wxa/gettemplatedraftlist"
	}
	return n.ask(n.Proxy, path, "", http.Header{"Authorization": {"Bearer " + caddy.ClientSecret}, "Wechat-Appid": {subject}})
}

// wantCall fails the test unless a call succeeds.
func (n *node) wantCall(subject string) answer {
	n.c.Helper()
	a := n.call(subject)
	if !a.ok() {
		n.c.Fatalf("node %s, %s: answered %s", n.name, subject, a)
	}
	return a
}

// ask makes a request, a POST if there is content.
func (n *node) ask(address, path, content string, header http.Header) (a answer) {
	began := time.Now()
	defer func() { a.took = time.Since(began) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	method := http.MethodGet
	if content != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, strings.NewReader(content))
	if err != nil {
		return answer{err: err}
	}
	if header != nil {
		r.Header = header
	}
	response, err := client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	return read(response)
}

func read(response *http.Response) answer {
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := answer{Status: response.StatusCode, Slug: response.Header.Get("Wechat-Gateway-Error"), Body: string(body), err: err}
	_ = json.Unmarshal(body, &struct{ ErrCode *int }{&a.ErrCode}) // pages have none
	return a
}

// token asks the token endpoint for a gateway token.
func (n *node) token(appid string) (answer, string) {
	a := n.ask(n.Proxy, "/cgi-bin/token?grant_type=client_credential&appid="+appid+"&secret="+caddy.ClientSecret, "", nil)
	var issued struct {
		Token string `json:"access_token"`
	}
	_ = json.Unmarshal([]byte(a.Body), &issued)
	return a, issued.Token
}

// together makes many calls at the same time, spread over the nodes, and
// fails the test unless all succeed. It returns how long the last one took.
func (c *cluster) together(callers int, subject string) time.Duration {
	c.Helper()
	answers := make(chan answer, callers)
	began := time.Now()
	for i := range callers {
		go func() { answers <- c.nodes[i%len(c.nodes)].call(subject) }()
	}
	for range callers {
		if a := <-answers; !a.ok() {
			c.Errorf("a call was answered %s", a)
		}
	}
	return time.Since(began)
}

// eachStorage runs a test on both kinds of storage.
func eachStorage(t *testing.T, test func(t *testing.T, s storage)) {
	t.Run("folder", func(t *testing.T) { test(t, newFolder(t)) })
	t.Run("Redis", func(t *testing.T) { test(t, newRedis(t)) })
}
