// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

const (
	platformToken = "PLATFORMTOKEN"
	platformKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	narrowSecret  = "narrow-secret-0123456789abcdef0123456789"
)

// The gateway code in an event that one node has delivered opens the account on every
// node, for every client of the account, also after all of them were killed; for others
// it opens nothing.
func TestGatewayCodeWorksOnEveryNode(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		url, codes := platformApplication(t)
		c := start(t, s, 2, sandbox.Config{}, fmt.Sprintf("client platform {\nsecret platform-secret-0123456789abcdef012345678\nauthorizers *\n"+
			"deliver %s {\nname main\ntoken %s\nencoding_aes_key %s\nas platform\n}\n}", url, platformToken, platformKey),
			"client narrow {\nsecret "+narrowSecret+"\nauthorizers "+cafe+"\n}")
		c.must(c.weChat.PushTicket(t.Context()))
		c.must(c.weChat.AddAccount(sandbox.Account{AppID: shop}))
		_, err := c.weChat.Authorize(t.Context(), shop)
		c.must(err)
		var code string
		select {
		case code = <-codes:
		case <-time.After(delivered):
			t.Fatal("the application gets no event of the authorisation")
		}
		everywhere := func() {
			for _, n := range c.nodes {
				for _, client := range []string{"platform-secret-0123456789abcdef012345678", caddy.ClientSecret} {
					if errcode, appid := n.exchange(client, code); errcode != 0 || appid != shop {
						t.Errorf("node %s answers errcode %d for %q", n.name, errcode, appid)
					}
				}
				if errcode, _ := n.exchange(narrowSecret, code); errcode != 61003 {
					t.Errorf("node %s answers errcode %d to a client without the account", n.name, errcode)
				}
			}
		}
		everywhere()
		for _, n := range c.nodes {
			n.Kill()
			n.restart()
		}
		everywhere()
		if asked := c.weChat.Count(componentAPI + queryAuth); asked != 1 {
			t.Errorf("WeChat was asked %d times about its own code, want once", asked)
		}
	})
}

// platformApplication is an application with the SDK of a platform. It returns its
// address, and the codes in the authorisation events that it gets.
func platformApplication(t *testing.T) (url string, codes <-chan string) {
	t.Helper()
	key, err := bizmsg.ParseKey(secret.New(platformKey))
	if err != nil {
		t.Fatal(err)
	}
	codec := &bizmsg.Codec{ReceiveID: component, Tokens: []secret.Secret{secret.New(platformToken)}, Keys: []bizmsg.Key{key}}
	found := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		query := r.URL.Query()
		if envelope, err := bizmsg.ParseEnvelope(body); err != nil {
			t.Error(err)
		} else if message, err := codec.Open(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt); err != nil {
			t.Error(err)
		} else if event, err := bizmsg.ParseEvent(message.Plain); err == nil && event.InfoType == "authorized" {
			found <- event.AuthorizationCode.Reveal()
		}
		_, _ = io.WriteString(w, "success")
	}))
	t.Cleanup(server.Close)
	return server.URL, found
}

// exchange exchanges a code at the node, as a client with this secret.
func (n *node) exchange(client, code string) (errcode int, appid string) {
	n.c.Helper()
	r, err := http.NewRequestWithContext(n.c.Context(), http.MethodPost, "http://"+n.Proxy+componentAPI+queryAuth,
		strings.NewReader(fmt.Sprintf(`{"component_appid":%q,"authorization_code":%q}`, component, code)))
	n.c.must(err)
	r.Header.Set("Authorization", "Bearer "+client)
	r.Close = true // the process behind a connection may have been killed
	response, err := http.DefaultClient.Do(r)
	n.c.must(err)
	defer response.Body.Close()
	var answer struct {
		ErrCode int `json:"errcode"`
		Info    struct {
			AppID string `json:"authorizer_appid"`
		} `json:"authorization_info"`
	}
	n.c.must(json.NewDecoder(response.Body).Decode(&answer))
	return answer.ErrCode, answer.Info.AppID
}
