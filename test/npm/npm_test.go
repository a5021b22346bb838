// SPDX-License-Identifier: Apache-2.0

// Package npm_test lets an implementation of WXBizMsgCrypt that is not ours,
// the npm package wechat-crypto, speak to the gateway: had gateway and sandbox
// misread the specification in the same way, it would disagree with both.
package npm_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/need"
)

type fields map[string]string

// node runs crypto.js; what it prints is decoded into answer. Credentials go
// through standard input: arguments are everybody's to read.
func node(t *testing.T, verb string, given fields, answer any) {
	t.Helper()
	path := need.Command(t, "install Node.js 18 or newer (apt-get install nodejs npm)", "node")
	need.File(t, "run npm ci --ignore-scripts in test/npm", "node_modules/wechat-crypto")
	input, err := json.Marshal(given)
	if err != nil {
		t.Fatal(err)
	}
	var complaints bytes.Buffer
	command := exec.CommandContext(t.Context(), path, "--no-deprecation", "crypto.js", verb)
	command.Stdin, command.Stderr = bytes.NewReader(input), &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("crypto.js %s: %v\n%s", verb, err, &complaints)
	}
	if err := json.Unmarshal(output, answer); err != nil {
		t.Fatalf("crypto.js %s printed %q: %v", verb, output, err)
	}
}

// answer is what a push got.
type answer struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// lossy loses what the sandbox pushes, and says that it arrived.
type lossy struct{ losing atomic.Bool }

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	if !l.losing.Load() {
		return http.DefaultTransport.RoundTrip(r)
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("success")), Request: r}, nil
}

// startWithoutTicket starts a gateway that no push has reached yet, and returns
// the ticket event that the sandbox pushed last.
func startWithoutTicket(t *testing.T) (g *gwtest.Gateway, wire *lossy, event string) {
	t.Helper()
	wire = new(lossy)
	wire.losing.Store(true)
	g = gwtest.Start(t, gwtest.Options{Quiet: true, Sandbox: sandbox.Config{Transport: wire}})
	if err := g.WeChat.PushTicket(t.Context()); err != nil {
		t.Fatal(err)
	}
	pushes := g.WeChat.Pushes()
	return g, wire, pushes[len(pushes)-1].Plain
}

// sealed returns what crypto.js needs to push to the gateway's events URL.
func sealed(g *gwtest.Gateway, plain string) fields {
	_, token, key := g.WeChat.Keys()
	return fields{"token": token, "key": key, "appid": g.WeChat.Component(), "url": g.Platform + "/wechat/events", "plain": plain}
}

func TestTicketPush(t *testing.T) {
	g, wire, event := startWithoutTicket(t)
	var got answer
	node(t, "push", sealed(g, event), &got)
	if want := (answer{http.StatusOK, "success"}); got != want {
		t.Fatalf("the push was answered %+v, want %+v\n%s", got, want, g.Logs())
	}
	// Without that ticket there is no component token, and without one no
	// authorisation can be exchanged.
	wire.losing.Store(false)
	if _, err := g.WeChat.Authorize(t.Context(), gwtest.OfficialAccount); err != nil {
		t.Fatal(err)
	}
	answer := g.Post("/cgi-bin/message/custom/send?access_token="+g.Token(gwtest.OfficialAccount),
		`{"touser":"o123","msgtype":"text","text":{"content":"你好"}}`)
	if !strings.Contains(answer, `"errcode":0`) {
		t.Errorf("a call was answered %s\n%s", answer, g.Logs())
	}
	if n := g.WeChat.Count("/cgi-bin/component/api_component_token"); n != 1 {
		t.Errorf("%d component tokens fetched, want 1", n)
	}
}

func TestForgedTicketPush(t *testing.T) {
	g, _, event := startWithoutTicket(t)
	for name, change := range map[string]fields{
		"another token signs": {"token": "anothertoken"},
		"another key seals":   {"key": strings.Repeat("x", 43)},
		"another receiver":    {"appid": "wx0000000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			push := sealed(g, event)
			for field, value := range change {
				push[field] = value
			}
			var got answer
			node(t, "push", push, &got)
			if want := (answer{http.StatusForbidden, ""}); got != want {
				t.Errorf("answered %+v, want %+v", got, want)
			}
		})
	}
}

func TestSealedReplyOpens(t *testing.T) {
	key, err := bizmsg.ParseKey(secret.New(sandbox.DefaultEncodingAESKey))
	if err != nil {
		t.Fatal(err)
	}
	codec := bizmsg.Codec{
		ReceiveID: sandbox.DefaultComponent,
		Tokens:    []secret.Secret{secret.New(sandbox.DefaultToken)},
		Keys:      []bizmsg.Key{key},
	}
	// Over these lengths the padding takes every size.
	for length := range 33 {
		plain := "<xml>回复 🎉" + strings.Repeat("x", length) + "</xml>"
		envelope := codec.Seal([]byte(plain), time.Now(), "1847204693")
		given := fields{
			"token": sandbox.DefaultToken, "key": sandbox.DefaultEncodingAESKey, "appid": sandbox.DefaultComponent,
			"encrypt": envelope.Encrypt, "msgSignature": envelope.MsgSignature, "timestamp": envelope.TimeStamp, "nonce": envelope.Nonce,
		}
		var got struct {
			Genuine bool
			Message string
			ID      string
		}
		node(t, "open", given, &got)
		if !got.Genuine || got.Message != plain || got.ID != sandbox.DefaultComponent {
			t.Errorf("a reply of %d bytes opens as %+v", len(plain), got)
		}
	}
}
