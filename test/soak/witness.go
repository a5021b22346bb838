// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const componentAPI = "/cgi-bin/component/"

// witness stands before WeChat and writes down what each gateway asks and is
// answered. Every gateway has an address of its own for WeChat, so that it is
// known who asks. Only an injected fault makes the sandbox break off, answer
// anything but JSON, another status than 200, or errcode -1: so the answer tells
// what was struck.
type witness struct {
	weChat *sandbox.Sandbox
	record *record
}

// of returns WeChat as one gateway sees it.
func (w *witness) of(node int) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		heard := &overheard{ResponseWriter: rw}
		if strings.HasPrefix(r.URL.Path, componentAPI) {
			appid, asked := aboutWhom(r), time.Now()
			defer func() { w.noteQuestion(node, r.URL.Path, appid, asked, heard) }() // also when a fault breaks off
		} else if id, err := strconv.ParseUint(r.URL.Query().Get(idParameter), 10, 64); err == nil {
			w.record.arrive(id)
			defer func() { w.record.answered(id, !heard.genuine(), tokenRefused(heard.errcode())) }()
		}
		w.weChat.ServeHTTP(heard, r)
		heard.whole = true
	})
}

// aboutWhom returns the account that a question is about, the component if
// it names none, and puts the body back.
func aboutWhom(r *http.Request) string {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // a body that breaks off is the sandbox's to refuse
	r.Body = io.NopCloser(bytes.NewReader(body))
	var named struct {
		Component  string `json:"component_appid"`
		Authorizer string `json:"authorizer_appid"`
	}
	_ = json.Unmarshal(body, &named)
	if named.Authorizer != "" {
		return named.Authorizer
	}
	return named.Component
}

// someCode stands for the account where a code was asked about in vain: only
// the answer would have told whose it is.
const someCode = "code"

// noteQuestion writes down a call of the component API and its answer. The
// answer has not left yet, unless it was struck.
func (w *witness) noteQuestion(node int, path, appid string, asked time.Time, heard *overheard) {
	if path == componentAPI+"api_query_auth" {
		appid = someCode
	}
	switch {
	case !heard.genuine():
		w.record.fail(node, appid, asked)
	case heard.errcode() == 0:
		var answer struct {
			Info struct {
				AppID string `json:"authorizer_appid"`
			} `json:"authorization_info"`
		}
		if appid == someCode && json.Unmarshal(heard.body, &answer) == nil {
			appid = answer.Info.AppID
		}
		w.record.give(node, path, appid)
	}
}

// give notes a question that was answered well. With a token, the renewal that
// asked has succeeded.
func (r *record) give(node int, path, appid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch strings.TrimPrefix(path, componentAPI) {
	case "api_component_token":
		r.componentTokens++
	case "api_authorizer_token", "api_query_auth":
		r.authorizerTokens++
		r.given[appid] = time.Now()
	case "api_get_authorizer_info":
		r.recoveries++
		return
	default:
		return
	}
	r.succeed(condition{cooling, node, appid}, time.Now())
}

// tokenRefused reports whether WeChat says that the token is not valid.
func tokenRefused(errcode int) bool {
	switch errcode {
	case 40001, 40014, 42001, 42006:
		return true
	}
	return false
}

// overheard keeps the beginning of an answer.
type overheard struct {
	http.ResponseWriter
	status int
	body   []byte
	whole  bool // the sandbox has not broken it off
}

func (o *overheard) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

func (o *overheard) Write(p []byte) (int, error) {
	if len(o.body) < 4<<10 {
		o.body = append(o.body, p...)
	}
	return o.ResponseWriter.Write(p)
}

// Flush lets the sandbox send half an answer.
func (o *overheard) Flush() { _ = http.NewResponseController(o.ResponseWriter).Flush() }

// Hijack lets the sandbox reset the connection.
func (o *overheard) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(o.ResponseWriter).Hijack()
}

// genuine reports whether this is an answer of WeChat's and no injected fault.
func (o *overheard) genuine() bool {
	return o.whole && o.status == http.StatusOK && bytes.HasPrefix(o.body, []byte("{")) && o.errcode() != -1
}

func (o *overheard) errcode() int { return errcodeIn(o.body) }

var errcode = regexp.MustCompile(`"errcode":"?(-?[0-9]+)`)

// errcodeIn returns the errcode of an answer, which WeChat also writes as a
// text; 0 if it has none. Of an answer that was cut in half it may be in the
// first one, and the gateway acts on it then.
func errcodeIn(body []byte) int {
	found := errcode.FindSubmatch(body)
	if found == nil {
		return 0
	}
	code, _ := strconv.Atoi(string(found[1]))
	return code
}
