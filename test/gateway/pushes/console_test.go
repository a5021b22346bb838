// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"crypto/rand"
	"crypto/subtle"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// console is an application as docs/authorize.md describes it: its customers connect
// their accounts, each his own. It believes nothing that a browser brings to its
// return_url.
//
//	POST /connect?appid=<appid>     the customer names his account; leads to the launch page
//	GET  /connected?appid=&state=   the return_url: tells the customer where he stands
//	POST /wechat                    deliveries of the gateway
type console struct {
	LaunchPage string // of the gateway
	Self       string // base URL

	token, aesKey string // of deliver
	events        chan string

	mu       sync.Mutex // protects the fields below
	sessions map[string]*session
	owners   map[string]string // appid → customer
}

// session is that of a customer who is logged in. It is kept here, and known by a
// cookie.
type session struct {
	customer string
	begun    struct { // what he has begun last
		appid string
		state string // "" when it is used
		at    time.Time
	}
}

// patience is how long a customer may take from /connect to the event.
const patience = 30 * time.Minute

func newConsole() *console {
	return &console{
		token: "CONSOLEDELIVERYTOKEN", aesKey: "CONSOLEDELIVERYAESKEY0000000000000000000000",
		events: make(chan string, 100), sessions: make(map[string]*session), owners: make(map[string]string),
	}
}

// Login makes a session and returns its cookie. It stands for whatever login an
// application has.
func (c *console) Login(customer string) *http.Cookie {
	c.mu.Lock()
	defer c.mu.Unlock()
	cookie := &http.Cookie{Name: "console", Value: rand.Text(), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
	c.sessions[cookie.Value] = &session{customer: customer}
	return cookie
}

// Owner returns to whom an account is connected; "" for nobody.
func (c *console) Owner(appid string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owners[appid]
}

func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.URL.Path == "/wechat" {
		c.take(w, r)
		return
	}
	cookie, err := r.Cookie("console")
	if err != nil || c.sessions[cookie.Value] == nil {
		http.Error(w, "log in first", http.StatusForbidden)
		return
	}
	switch s := c.sessions[cookie.Value]; r.Method + " " + r.URL.Path {
	case "POST /connect":
		c.connect(w, r, s)
	case "GET /connected":
		c.connected(w, r, s)
	default:
		http.NotFound(w, r)
	}
}

// connect makes a state for this session. With biz_appid WeChat lets only an admin
// of this account agree, so the event for it can be told from those for others.
func (c *console) connect(w http.ResponseWriter, r *http.Request, s *session) {
	s.begun.appid, s.begun.state, s.begun.at = r.URL.Query().Get("appid"), rand.Text(), time.Now()
	http.Redirect(w, r, c.LaunchPage+"?"+url.Values{
		"biz_appid": {s.begun.appid}, "state": {s.begun.state}, "return_url": {c.Self + "/connected"},
	}.Encode(), http.StatusSeeOther)
}

// connected takes the state once, in the session for which it was made. Then it tells
// what is known. It connects nothing, and does not read the appid: both parameters can
// be typed by anybody.
func (c *console) connected(w http.ResponseWriter, r *http.Request, s *session) {
	state := r.URL.Query().Get("state")
	if s.begun.state == "" || subtle.ConstantTimeCompare([]byte(state), []byte(s.begun.state)) != 1 {
		http.Error(w, "this is not what you have begun here", http.StatusForbidden)
		return
	}
	s.begun.state = ""
	if c.owners[s.begun.appid] == s.customer {
		_, _ = io.WriteString(w, s.begun.appid+" is connected")
		return
	}
	_, _ = io.WriteString(w, "waiting until WeChat confirms "+s.begun.appid)
}

// take takes a delivery. The key of deliver shows that it comes from the gateway, which
// has checked that it comes from WeChat. An account is connected to the only customer
// who has begun for it, if it has no owner yet.
func (c *console) take(w http.ResponseWriter, r *http.Request) {
	event, err := c.open(r)
	if err != nil {
		http.Error(w, "not from the gateway", http.StatusForbidden)
		return
	}
	appid := event.AuthorizerAppID
	switch event.InfoType {
	case bizmsg.InfoAuthorized, bizmsg.InfoUpdateAuthorized:
		var begun []string
		for _, s := range c.sessions {
			if s.begun.appid == appid && time.Since(s.begun.at) < patience {
				begun = append(begun, s.customer)
			}
		}
		if c.owners[appid] == "" && len(begun) == 1 {
			c.owners[appid] = begun[0]
		}
	case bizmsg.InfoUnauthorized:
		delete(c.owners, appid)
	}
	_, _ = io.WriteString(w, "success")
	c.events <- event.InfoType + " " + appid
}

// open verifies and decrypts a delivery, as the message server of any SDK does.
func (c *console) open(r *http.Request) (bizmsg.Event, error) {
	key, err := bizmsg.ParseKey(secret.New(c.aesKey))
	if err != nil {
		return bizmsg.Event{}, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return bizmsg.Event{}, err
	}
	envelope, err := bizmsg.ParseEnvelope(body)
	if err != nil {
		return bizmsg.Event{}, err
	}
	query := r.URL.Query()
	codec := bizmsg.Codec{ReceiveID: query.Get("appid"), Tokens: []secret.Secret{secret.New(c.token)}, Keys: []bizmsg.Key{key}}
	message, err := codec.Open(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt)
	if err != nil {
		return bizmsg.Event{}, err
	}
	return bizmsg.ParseEvent(message.Plain)
}

// Await waits for an event.
func (c *console) Await(t *testing.T, want string) {
	t.Helper()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case event := <-c.events:
			if event == want {
				return
			}
		case <-timeout:
			t.Fatalf("the event %s was not delivered", want)
		}
	}
}
