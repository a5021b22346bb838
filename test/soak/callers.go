// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	// idParameter names every call in its query, so that it is found again in
	// what WeChat saw. The gateway passes on what it does not know.
	idParameter = "soak"

	// callLimit is more than the longest wait there is: a renewal takes up to
	// 30 s in the gateway, a silent WeChat 30 s more.
	callLimit = 90 * time.Second
)

// callers are the applications. They behave as SDKs do: a gateway token is
// fetched once for each account, used through every gateway, and fetched anew
// on 40001 or 42001, once, with the call repeated.
type callers struct {
	nodes  []*node
	appids []string
	record *record
	http   *http.Client

	ids atomic.Uint64

	mu       sync.Mutex        // covers everything below
	tokens   map[string]string // appid → gateway token
	made     int
	longest  time.Duration // until an answer that was good
	failures []failure
}

// failure is a call that did not get its answer.
type failure struct {
	from, to time.Time
	node     int
	appid    string
	id       uint64
	answer   answer
}

// answer is what an application is told.
type answer struct {
	err     error // no answer, or one that breaks off
	idle    bool  // it was to come over a connection that had been idle
	status  int
	slug    string // of a refusal of the gateway's own
	errcode int
	body    string
}

func newCallers(nodes []*node, appids []string, r *record) *callers {
	return &callers{
		nodes: nodes, appids: appids, record: r, tokens: make(map[string]string),
		http: &http.Client{Timeout: callLimit, Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
}

// run makes calls until ctx ends, from workers at a time, rate a second.
func (c *callers) run(ctx context.Context, seed uint64, workers, rate int) {
	var all sync.WaitGroup
	for worker := range workers {
		rng := rand.New(rand.NewPCG(seed, uint64(worker)+1))
		all.Go(func() {
			for ctx.Err() == nil {
				select {
				case <-time.After(time.Duration(rng.ExpFloat64() * float64(time.Second) * float64(workers) / float64(rate))):
					c.one(rng)
				case <-ctx.Done():
				}
			}
		})
	}
	all.Wait()
}

// one makes one call of an account's chosen by chance, or of the component's,
// and notes how it went.
func (c *callers) one(rng *rand.Rand) {
	what, n := rng.IntN(100), c.nodes[rng.IntN(len(c.nodes))]
	// A few accounts are called all the time, so that their tokens are renewed
	// ahead; most so seldom that no gateway has their token in memory.
	appid := c.appids[int(float64(len(c.appids))*math.Pow(rng.Float64(), 3))]
	if what < 5 {
		appid = sandbox.DefaultComponent
	}
	from := time.Now()
	a, id := c.call(n, appid, shapes[shapeOf(what)])
	to := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	if a.good() {
		c.longest = max(c.longest, to.Sub(from))
		return
	}
	c.failures = append(c.failures, failure{from, to, n.number, appid, id, a})
}

// shape is a kind of call.
type shape struct{ method, path, body string }

const (
	componentRead = iota
	read
	send
	large // more than the gateway keeps for a repetition
)

var shapes = map[int]shape{
	componentRead: {http.MethodGet, "/wxa/gettemplatelist", ""},
	read:          {http.MethodGet, "/cgi-bin/user/get", ""},
	send:          {http.MethodPost, "/cgi-bin/message/custom/send", `{"touser":"o123","msgtype":"text","text":{"content":"你好 🎉"}}`},
	large:         {http.MethodPost, "/cgi-bin/draft/add", `{"articles":"` + strings.Repeat("好", 30_000) + `"}`},
}

// shapeOf spreads a number below 100 over the shapes.
func shapeOf(what int) int {
	switch {
	case what < 5:
		return componentRead
	case what < 65:
		return read
	case what < 98:
		return send
	}
	return large
}

// call makes a call as an SDK does and returns its last answer, with the id
// that it had.
func (c *callers) call(n *node, appid string, s shape) (answer, uint64) {
	token, a := c.token(n, appid)
	if token == "" {
		return a, 0
	}
	a, id := c.attempt(n, token, s)
	if a.err == nil && (a.errcode == 40001 || a.errcode == 42001 || a.errcode == 40014) {
		c.forget(appid, token)
		if token, a = c.token(n, appid); token == "" {
			return a, 0
		}
		a, id = c.attempt(n, token, s)
	}
	return a, id
}

// attempt sends a call once.
func (c *callers) attempt(n *node, token string, s shape) (answer, uint64) {
	id := c.ids.Add(1)
	return c.exchange(s.method, fmt.Sprintf("http://%s%s?access_token=%s&%s=%d", n.Proxy, s.path, token, idParameter, id), s.body), id
}

// token returns the gateway token of an account, fetched if there is none yet.
func (c *callers) token(n *node, appid string) (string, answer) {
	c.mu.Lock()
	token := c.tokens[appid]
	c.mu.Unlock()
	if token != "" {
		return token, answer{}
	}
	var a answer
	if appid == sandbox.DefaultComponent {
		a = c.exchange(http.MethodPost, "http://"+n.Proxy+"/cgi-bin/component/api_component_token",
			fmt.Sprintf(`{"component_appid":%q,"component_appsecret":%q,"component_verify_ticket":"ticket@@@x"}`, appid, caddy.ClientSecret))
	} else {
		a = c.exchange(http.MethodGet, fmt.Sprintf("http://%s/cgi-bin/token?grant_type=client_credential&appid=%s&secret=%s", n.Proxy, appid, caddy.ClientSecret), "")
	}
	var got struct {
		Authorizer string `json:"access_token"`
		Component  string `json:"component_access_token"`
	}
	_ = json.Unmarshal([]byte(a.body), &got)
	token = got.Authorizer + got.Component
	if token != "" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tokens[appid] = token
	}
	return token, a
}

func (c *callers) forget(appid, token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens[appid] == token {
		delete(c.tokens, appid)
	}
}

// exchange makes one HTTP request.
func (c *callers) exchange(method, url, body string) answer {
	// An empty body that net/http cannot know to be empty: it would send a GET
	// again by itself, and WeChat see it twice without the gateway's doing.
	r, err := http.NewRequest(method, url, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return answer{err: err}
	}
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Type", "application/json")
	var idle bool
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { idle = info.WasIdle },
	}))
	response, err := c.http.Do(r)
	if err != nil {
		return answer{err: errors.Unwrap(err), idle: idle} // without the URL, which has a token
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if credential := findCredential(content); credential != "" {
		c.record.problem("an answer carries a credential: " + credential)
	}
	for _, values := range response.Header {
		if credential := findCredential([]byte(strings.Join(values, " "))); credential != "" {
			c.record.problem("a header carries a credential: " + credential)
		}
	}
	return answer{
		err: err, status: response.StatusCode, slug: response.Header.Get("Wechat-Gateway-Error"),
		errcode: errcodeIn(content), body: string(bytes.TrimSpace(content)),
	}
}

// good reports whether this is WeChat's answer to a call that has worked.
func (a answer) good() bool {
	return a.err == nil && a.status == http.StatusOK && a.slug == "" && a.errcode == 0 && json.Valid([]byte(a.body))
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("HTTP status %d, %s %.200s", a.status, a.slug, a.body)
}
