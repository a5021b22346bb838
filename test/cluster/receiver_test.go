// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// receiver is an application to which messages and events are delivered, at an address at
// which it need not listen.
type receiver struct {
	t       *testing.T
	address string
	ended   chan struct{} // closed when the test ends

	mu   sync.Mutex
	got  []arrived
	slow map[string]time.Duration // by text: how long the first delivery takes
}

// arrived is one delivery.
type arrived struct {
	id, appid, text string // text is the Content of a message, or the Number of an event
	taken           bool
}

func newReceiver(t *testing.T) *receiver {
	a := &receiver{t: t, address: caddy.FreeAddress(t), ended: make(chan struct{}), slow: make(map[string]time.Duration)}
	t.Cleanup(func() { close(a.ended) })
	return a
}

// client is its block in a Caddyfile.
func (a *receiver) client() string {
	return "client crm {\nsecret crm-secret-0123456789abcdef0123456789\nauthorizers *\ndeliver http://" + a.address + "/ {\nname main\ntoken CRMTOKEN\n}\n}"
}

// takes says how long the first delivery of a text takes.
func (a *receiver) takes(text string, pause time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slow[text] = pause
}

// serve makes it listen until the test ends.
func (a *receiver) serve() {
	a.t.Helper()
	listener, err := net.Listen("tcp", a.address)
	if err != nil {
		a.t.Fatal(err)
	}
	server := &http.Server{Handler: a}
	go func() { _ = server.Serve(listener) }()
	a.t.Cleanup(func() { _ = server.Close() })
}

func (a *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	text := element(string(body), "Content") + element(string(body), "Number")
	query := r.URL.Query()
	a.mu.Lock()
	pause := a.slow[text]
	delete(a.slow, text)
	number := len(a.got)
	a.got = append(a.got, arrived{id: query.Get("event_id"), appid: query.Get("appid"), text: text})
	a.mu.Unlock()
	select {
	case <-time.After(pause):
	case <-r.Context().Done():
		return
	case <-a.ended:
		return
	}
	a.mu.Lock()
	a.got[number].taken = true
	a.mu.Unlock()
	if query.Get("openid") != "" {
		fmt.Fprint(w, "<xml><ToUserName><![CDATA["+query.Get("openid")+"]]></ToUserName><FromUserName><![CDATA["+
			element(string(body), "ToUserName")+"]]></FromUserName><CreateTime>1</CreateTime><MsgType><![CDATA[text]]></MsgType>"+
			"<Content><![CDATA["+replyTo(text)+"]]></Content></xml>")
	}
}

func replyTo(text string) string { return "reply to " + text }

// element is the text of an element.
func element(document, name string) string {
	_, rest, _ := strings.Cut(document, "<"+name+">")
	text, _, _ := strings.Cut(rest, "</"+name+">")
	return strings.TrimSuffix(strings.TrimPrefix(text, "<![CDATA["), "]]>")
}

// deliveries returns those of a text, or all if there is none.
func (a *receiver) deliveries(text string) (got []arrived) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.got {
		if text == "" || d.text == text {
			got = append(got, d)
		}
	}
	return got
}

// taken returns how many deliveries of a text were answered.
func (a *receiver) taken(text string) (n int) {
	for _, d := range a.deliveries(text) {
		if d.taken {
			n++
		}
	}
	return n
}

// wantOnce fails the test unless a text was delivered once.
func (a *receiver) wantOnce(text string) {
	a.t.Helper()
	if got := a.deliveries(text); len(got) != 1 {
		a.t.Errorf("%q was delivered %d times, want once: %v", text, len(got), got)
	}
}

// patient carries pushes to gateways that may be ending or starting: it waits until one
// accepts a connection, as a load balancer does.
type patient struct{ http.Transport }

func newPatient() *patient {
	return &patient{http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		for {
			connection, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil || ctx.Err() != nil {
				return connection, err
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}}}
}

// RoundTrip makes the request again if its connection breaks at once: it has reached a
// process that was being killed. That is no attempt of WeChat's, which would have too few
// left.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		began := time.Now()
		response, err := p.Transport.RoundTrip(r)
		if err == nil || r.Context().Err() != nil || time.Since(began) > time.Second {
			return response, err
		}
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = body
	}
}

// startDelivering starts n gateways with an application. Pushes reach the first one, or
// those that a push names.
func startDelivering(t *testing.T, s storage, n int) (*cluster, *receiver) {
	t.Helper()
	app := newReceiver(t)
	// A gateway answers after 4.5 s at the latest, and has to store first. A busy machine gets
	// half a second more for that than WeChat gives.
	c := start(t, s, n, sandbox.Config{Transport: newPatient(), PushTimeout: 5500 * time.Millisecond}, app.client())
	for _, appid := range []string{shop, cafe} {
		c.must(c.weChat.AddAccount(sandbox.Account{AppID: appid}))
	}
	c.weChat.SetURLs("http://"+c.nodes[0].Platform+"/wechat/events", c.nodes[0].messages())
	return c, app
}

// messages is the URL to which WeChat pushes messages.
func (n *node) messages() string { return "http://" + n.Platform + "/wechat/messages/$APPID$" }

// shown is what a follower sees of one message.
type shown struct {
	sandbox.PushAnswer
	text string
	err  error
}

// push lets followers send texts, at the same time, and returns what they see.
func (c *cluster) push(texts []string, to ...string) <-chan shown {
	answers := make(chan shown, len(texts))
	for _, text := range texts {
		p := c.weChat.Text(shop, "follower-"+text, text)
		p.To = to
		go func() {
			answer, err := c.weChat.Push(c.Context(), p)
			answers <- shown{answer, text, err}
		}()
	}
	return answers
}

// wantReply fails the test unless the follower sees the application's reply.
func (c *cluster) wantReply(s shown) {
	c.Helper()
	if s.err != nil || s.Shown != sandbox.ShownReply || element(s.Reply, "Content") != replyTo(s.text) {
		c.Errorf("%q: the follower sees %s %q at attempt %d, want the reply (%v)", s.text, s.Shown, s.Reply, s.Attempts, s.err)
	}
}
