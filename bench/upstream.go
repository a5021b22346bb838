// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// link is how a proxy reaches the upstream.
type link string

const (
	plain link = "plain"
	h1    link = "TLS-h1"
	h2    link = "TLS-h2"
)

// What is asked for: paths of WeChat's that take an authorizer's token.
const (
	smallPath  = "/cgi-bin/user/info"                 // 100 bytes
	mediumPath = "/cgi-bin/get_current_selfmenu_info" // 2 KB
	largePath  = "/cgi-bin/media/get"                 // 1 MB
	sendPath   = "/cgi-bin/message/custom/send"       // POST, answered like the first
	slowPath   = "/cgi-bin/media/get/jssdk"           // see answerSlowly
	countPath  = "/counts"                            // what was answered so far
	renewPath  = "/cgi-bin/component/api_authorizer_token"
)

// upstream is where the processes meet: an address for each link.
type upstream map[link]string

// serveUpstream plays WeChat: a server that costs as little as one in Go can,
// and whose answers never change. It ends with its standard input.
func serveUpstream(folder string) error {
	certificate, err := tls.LoadX509KeyPair(certificateFile(folder), keyFile(folder))
	if err != nil {
		return err
	}
	addresses, answers := make(upstream), newAnswers()
	for _, l := range []link{plain, h1, h2} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		addresses[l] = listener.Addr().String()
		server := &http.Server{Handler: answers, ErrorLog: log.New(io.Discard, "", 0)}
		switch l {
		case h1:
			server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // no h2
			fallthrough
		case h2:
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
			go func() { _ = server.ServeTLS(listener, "", "") }()
		default:
			go func() { _ = server.Serve(listener) }()
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(addresses); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// counts is what the upstream has answered. A row of refusals by a proxy,
// which look just as good to the load generator, is found out by it.
type counts struct {
	Served   int // calls of applications
	Renewals int // of tokens
	Renewed  int // accounts whose token was renewed
}

type counter struct {
	served  atomic.Int64
	mu      sync.Mutex
	renewed map[string]int // by account
}

// renew answers with a new token for the account that the body names.
func (c *counter) renew(w http.ResponseWriter, r *http.Request) {
	var question struct {
		Account string `json:"authorizer_appid"`
	}
	if json.NewDecoder(r.Body).Decode(&question) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed[question.Account]++
	fmt.Fprintf(w, `{"authorizer_access_token":"91_%s%s%04d","expires_in":7200,"authorizer_refresh_token":"refreshtoken@@@%s"}`,
		strings.Repeat("x", 132), question.Account, c.renewed[question.Account], strings.Repeat("z", 43))
}

// forget begins to count renewals anew.
func (c *counter) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.renewed)
}

func (c *counter) counts() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := counts{Served: int(c.served.Load()), Renewed: len(c.renewed)}
	for _, n := range c.renewed {
		all.Renewals += n
	}
	return all
}

type answer struct {
	kind string
	body []byte
}

func newAnswers() http.Handler {
	count := &counter{renewed: make(map[string]int)}
	small := answer{"application/json; encoding=utf-8", jsonOfSize(100)}
	answers := map[string]answer{
		smallPath:  small,
		sendPath:   small,
		mediumPath: {"application/json; encoding=utf-8", jsonOfSize(2 << 10)},
		largePath:  {"image/jpeg", make([]byte, 1<<20)},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		switch {
		case r.URL.Path == countPath && r.Method == http.MethodDelete:
			count.forget()
			return
		case r.URL.Path == countPath:
			_ = json.NewEncoder(w).Encode(count.counts())
			return
		case r.URL.Path == slowPath:
			answerSlowly(w, r)
			return
		case r.URL.Path == renewPath:
			count.renew(w, r)
			return
		case !known:
			http.NotFound(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		count.served.Add(1)
		w.Header().Set("Content-Type", answer.kind)
		w.Header().Set("Content-Length", strconv.Itoa(len(answer.body)))
		_, _ = w.Write(answer.body)
	})
}

// jsonOfSize is an answer like that of user/info, without an errcode.
func jsonOfSize(size int) []byte {
	const head, tail = `{"subscribe":1,"openid":"o6_bmjrPTlm6_2sgVt7hMZOPfL2M","remark":"`, `"}`
	return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
}
