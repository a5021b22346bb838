// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// messageRate is how many messages WeChat pushes a second; one in eventShare of them is
// an authorisation event.
const (
	messageRate = 30
	eventShare  = 10
)

// deliveries are the messages and events that WeChat pushes, and the application that
// gets them. Whatever was acknowledged has to arrive, once at least.
type deliveries struct {
	weChat *sandbox.Sandbox
	appids []string
	record *record
	server *httptest.Server

	mu       sync.Mutex // guards all below
	state    state
	changed  chan struct{}   // closed when the state changes
	promised map[string]bool // texts that WeChat needs to push no more
	taken    map[string]int  // text → how often it was taken
	pushed   int
	replies  int
	trouble  int // pushes after which a follower sees that the account is out of service
}

// number is what stands in a text: an event may be written in another way than WeChat has.
var number = regexp.MustCompile(`delivery [0-9]+`)

// state is how the application is.
type state string

const (
	well    state = "well"
	gone    state = "down"    // it breaks every connection
	hanging state = "hanging" // it accepts what comes, and answers nothing
	failing state = "failing" // it answers 500
)

func newDeliveries(weChat *sandbox.Sandbox, r *record) *deliveries {
	d := &deliveries{weChat: weChat, record: r, state: well, changed: make(chan struct{}), promised: make(map[string]bool), taken: make(map[string]int)}
	d.server = httptest.NewServer(d)
	return d
}

// client is the application's block in a Caddyfile.
func (d *deliveries) client() string {
	return "client crm {\nsecret crm-secret-0123456789abcdef0123456789\nauthorizers *\ndeliver " + d.server.URL + " {\nname main\ntoken CRMTOKEN\n}\n}"
}

// run pushes until ctx ends, and returns when WeChat waits for no answer any more.
func (d *deliveries) run(ctx context.Context, seed uint64) {
	rng, tick := rand.New(rand.NewPCG(seed, 2<<32)), time.NewTicker(time.Second/messageRate)
	defer tick.Stop()
	var all sync.WaitGroup
	for i := 0; ctx.Err() == nil; i++ {
		appid := d.appids[rng.IntN(len(d.appids))]
		all.Go(func() { d.push(i, appid) })
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	all.Wait()
}

// push pushes a message, or an event, as WeChat does.
func (d *deliveries) push(i int, appid string) {
	text := fmt.Sprintf("delivery %d", i)
	p := d.weChat.Text(appid, fmt.Sprintf("follower%d", i), text)
	if i%eventShare == 0 {
		p = sandbox.Push{Plain: fmt.Sprintf("<xml><AppId>%s</AppId><CreateTime>%d</CreateTime><InfoType>news_of_the_soak</InfoType>"+
			"<AuthorizerAppid>%s</AuthorizerAppid><Content><![CDATA[%s]]></Content></xml>", sandbox.DefaultComponent, time.Now().Unix(), appid, text)}
	}
	answer, err := d.weChat.Push(context.Background(), p)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pushed++
	d.promised[text] = err == nil
	if answer.Reply != "" {
		d.replies++
	}
	if answer.Shown == sandbox.ShownUnavailable {
		d.trouble++
	}
}

// become changes the state of the application.
func (d *deliveries) become(s state) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state = s
	close(d.changed)
	d.changed = make(chan struct{})
}

// ServeHTTP is the application.
func (d *deliveries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if credential := findCredential(append(body, r.URL.RawQuery...)); credential != "" {
		d.record.problem("a delivery carries a credential: " + credential)
	}
	d.mu.Lock()
	state, changed := d.state, d.changed
	d.mu.Unlock()
	switch state {
	case gone:
		panic(http.ErrAbortHandler)
	case failing:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case hanging:
		select {
		case <-changed:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
	text := number.FindString(string(body))
	d.mu.Lock()
	d.taken[text]++
	d.mu.Unlock()
	if follower := r.URL.Query().Get("openid"); follower != "" {
		fmt.Fprintf(w, "<xml><ToUserName>%s</ToUserName><FromUserName>gh_soak</FromUserName><MsgType>text</MsgType><Content>%s</Content></xml>", follower, text)
	}
}

// lost returns what was acknowledged and has not arrived.
func (d *deliveries) lost() (texts []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for text, promised := range d.promised {
		if promised && d.taken[text] == 0 {
			texts = append(texts, text)
		}
	}
	return texts
}

// settle waits until all that was acknowledged has arrived, and notes what has not.
func (d *deliveries) settle(ctx context.Context) (took time.Duration) {
	began := time.Now()
	for len(d.lost()) > 0 && time.Since(began) < recoveryLimit && ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
	}
	for _, text := range d.lost() {
		d.record.problem("lost: " + text)
	}
	return time.Since(began)
}

// print adds to the table what became of the deliveries.
func (d *deliveries) print(settled time.Duration) {
	d.mu.Lock()
	var promised, twice int
	for text, yes := range d.promised {
		if yes {
			promised++
		}
		if d.taken[text] > 1 {
			twice++
		}
	}
	pushed, replies, trouble := d.pushed, d.replies, d.trouble
	d.mu.Unlock()
	line("messages and events pushed", pushed, "")
	line("  acknowledged", promised, fmt.Sprintf("all have arrived %.1f s after the last call", settled.Seconds()))
	line("  with a reply", replies, "")
	line("  the follower sees trouble", trouble, "no gateway or no storage at three attempts")
	line("  delivered more than once", twice, "")
	line("  lost", len(d.lost()), "")
}

// breakApplication lets the application be down, hang or fail for a while.
func (c *chaos) breakApplication() func() string {
	states := []state{gone, hanging, failing}
	s, lasts := states[c.rng.IntN(len(states))], time.Second+time.Duration(c.rng.Int64N(int64(14*time.Second)))
	return func() string {
		if !c.sick.TryLock() {
			return ""
		}
		defer c.sick.Unlock()
		c.deliveries.become(s)
		c.wait(lasts)
		c.deliveries.become(well)
		return "application " + string(s)
	}
}
