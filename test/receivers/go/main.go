// SPDX-License-Identifier: Apache-2.0

// Command go is an application that receives deliveries of the gateway, verified by
// the headers of Standard Webhooks. It answers a text message with a reply.
//
//	LISTEN=127.0.0.1:9000 WEBHOOK_SECRET=whsec_... go run .
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// receiver handles each delivery once.
type receiver struct {
	webhook *standardwebhooks.Webhook
	// answers has, for the id of each delivery, what was answered. In an application it
	// is a table, with the id as its key: it survives a restart, and old rows are deleted.
	answers sync.Map // string → func() (string, error)
}

func (rx *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	if err := rx.webhook.Verify(body, r.Header); err != nil { // forged, or older than five minutes
		http.Error(w, "signature", http.StatusUnauthorized)
		return
	}
	id := r.Header.Get("webhook-id")
	// A repetition gets the same answer, and waits for it if need be.
	once, _ := rx.answers.LoadOrStore(id, sync.OnceValues(func() (string, error) { return handle(id, string(body)) }))
	answer, err := once.(func() (string, error))()
	if err != nil { // the gateway delivers it again
		log.Print(err)
		rx.answers.Delete(id)
		http.Error(w, "failed", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = io.WriteString(w, answer)
}

// handle does what a message or an event asks for, and returns the reply to a follower,
// or "". What it does not know it takes all the same: an error brings it back, for days.
func handle(id, body string) (string, error) {
	kind := field(body, "InfoType") // of events about the platform and its accounts
	if kind == "" {
		kind = field(body, "MsgType") // of messages and events of an account
	}
	log.Printf("handled %s %s", id, kind)
	switch kind {
	case "text":
		return reply(body, "You wrote: "+field(body, "Content")), nil
	case "authorized", "unauthorized":
		log.Printf("%s: %s", field(body, "AuthorizerAppid"), kind)
	}
	return "", nil
}

// field returns the text of the first element of a name. No XML parser: WeChat does not
// escape what followers write, who can write "]]>" and characters that XML forbids. The
// first one counts: WeChat writes names and types before a follower's text.
func field(body, name string) string {
	found := regexp.MustCompile(`(?s)<` + name + `>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*?))\s*</` + name + `>`).FindStringSubmatch(body)
	if found == nil {
		return ""
	}
	return found[1] + found[2]
}

// reply returns a text for the follower who has sent a message.
func reply(message, text string) string {
	return fmt.Sprintf("<xml><ToUserName><![CDATA[%s]]></ToUserName><FromUserName><![CDATA[%s]]></FromUserName>"+
		"<CreateTime>%d</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[%s]]></Content></xml>",
		field(message, "FromUserName"), field(message, "ToUserName"), time.Now().Unix(),
		strings.ReplaceAll(text, "]]>", "]]]]><![CDATA[>"))
}

func main() {
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal("WEBHOOK_SECRET: ", err)
	}
	listener, err := net.Listen("tcp", os.Getenv("LISTEN"))
	if err != nil {
		log.Fatal("LISTEN: ", err)
	}
	log.Print("listening on ", listener.Addr())
	log.Fatal(http.Serve(listener, &receiver{webhook: webhook}))
}
