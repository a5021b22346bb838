// SPDX-License-Identifier: Apache-2.0

package command

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"sync"
)

// demoWebhookKey is the key with which the gateway signs what it delivers to the
// application of the demo.
const demoWebhookKey = "key-of-the-application-in-the-demo"

// demoWebhookSecret is demoWebhookKey as webhook_secret takes it.
func demoWebhookSecret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(demoWebhookKey))
}

// demoMessage is the part of a message, and of a reply, that the demo reads and
// writes.
type demoMessage struct {
	XMLName      xml.Name `xml:"xml"`
	ToUserName   string
	FromUserName string
	CreateTime   int64 // Unix seconds
	MsgType      string
	Content      string
}

// application is an application that gets the texts of followers from the gateway
// and replies to them. It may be used by several goroutines at the same time.
type application struct {
	mu      sync.Mutex // covers what follows
	arrived delivery   // the last one
}

// delivery is a delivery that the application has got.
type delivery struct {
	target string // path and query
	body   string
	reply  string
}

// ServeHTTP verifies a delivery, replies to the text in it, and remembers both. What
// the gateway has not signed is refused.
func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil || !signedByGateway(r.Header, body) {
		http.Error(w, "not from the gateway", http.StatusUnauthorized)
		return
	}
	var message demoMessage
	if err := xml.Unmarshal(body, &message); err != nil || message.MsgType != "text" {
		return // status 200 without a reply: it is taken, and the follower sees nothing
	}
	reply, err := xml.Marshal(demoMessage{
		ToUserName: message.FromUserName, FromUserName: message.ToUserName, CreateTime: message.CreateTime,
		MsgType: "text", Content: "收到：" + message.Content,
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	a.mu.Lock()
	a.arrived = delivery{r.URL.RequestURI(), string(body), string(reply)}
	a.mu.Unlock()
	_, _ = w.Write(reply) // if the gateway has hung up, it asks again
}

// last returns the last text that has arrived.
func (a *application) last() delivery {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.arrived
}

// signedByGateway verifies the signature of Standard Webhooks over body. There are
// libraries for that, which also refuse what is older than five minutes.
func signedByGateway(header http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(demoWebhookKey))
	_, _ = io.WriteString(mac, header.Get("webhook-id")+"."+header.Get("webhook-timestamp")+"."+string(body)) // a hash takes everything
	scheme, signature, _ := strings.Cut(header.Get("webhook-signature"), ",")
	got, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && scheme == "v1" && hmac.Equal(got, mac.Sum(nil))
}
