// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// publishGateway is a gateway that passes the publish test. Each of its functions
// can be replaced by one that makes a mistake.
type publishGateway struct {
	*world
	component string
	tokens    map[string]string // of accounts, by appid

	event    func(infoType string) string
	text     func(p pushed) string
	location func(p pushed) string
	query    func(p pushed, code string) string
	// send is called with the code, once the query is answered.
	send func(appid string, p pushed, code string)
	// late: codes of events are not exchanged.
	late bool
}

// playPublishTest runs a test with a gateway that passes, under virtual time.
func playPublishTest(t *testing.T, switches sandbox.Switches, test func(t *testing.T, g *publishGateway)) {
	t.Helper()
	bubble(t, sandbox.Config{Switches: switches}, func(t *testing.T, w *world) {
		g := &publishGateway{world: w, tokens: map[string]string{}}
		g.event = func(string) string { return "success" }
		g.text = func(p pushed) string { return g.reply(p, p.field("Content")+"_callback") }
		g.location = func(p pushed) string { return g.reply(p, p.field("Event")+"from_callback") }
		g.query = func(pushed, string) string { return "" }
		g.send = func(appid string, p pushed, code string) {
			g.exchange(appid, code)
			g.sendText(g.tokens[appid], p.field("FromUserName"), code+"_from_api")
		}
		w.receiver.reply = g.answer
		test(t, g)
		time.Sleep(time.Minute) // what the gateway still does in the background
	})
}

// answer answers a push.
func (g *publishGateway) answer(p pushed) string {
	appid := strings.TrimPrefix(p.request.URL.Path, "/wechat/messages/")
	code, asked := strings.CutPrefix(p.field("Content"), "QUERY_AUTH_CODE:")
	switch infoType := p.field("InfoType"); {
	case infoType == "component_verify_ticket":
		g.component = g.tokenFor(p.field("ComponentVerifyTicket")).text("component_access_token")
		return g.event(infoType)
	case infoType == "authorized" && !g.late:
		g.exchange(p.field("AuthorizerAppid"), p.field("AuthorizationCode"))
		return g.event(infoType)
	case infoType != "":
		return g.event(infoType)
	case asked:
		go func() {
			time.Sleep(time.Second)
			g.send(appid, p, code)
		}()
		return g.query(p, code)
	case p.field("Event") == "LOCATION":
		return g.location(p)
	case p.field("Content") == "TESTCOMPONENT_MSG_TYPE_TEXT":
		return g.text(p)
	}
	return "success"
}

// exchange exchanges a code, if it is good.
func (g *publishGateway) exchange(appid, code string) {
	info := g.world.component("api_query_auth", g.component, "authorization_code", code).in("authorization_info")
	if token := info.text("authorizer_access_token"); token != "" {
		g.tokens[appid] = token
	}
}

func (g *publishGateway) sendText(token, to, content string) {
	g.sendMessage(token, map[string]any{"touser": to, "msgtype": "text", "text": map[string]string{"content": content}})
}

func (g *publishGateway) sendMessage(token string, message map[string]any) {
	body, _ := json.Marshal(message)
	g.post("/cgi-bin/message/custom/send?access_token="+token, string(body))
}

func (g *publishGateway) reply(p pushed, content string) string {
	return sealedReply(textReply(p.field("FromUserName"), content))
}
