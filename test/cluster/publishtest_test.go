// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// tested is one of the accounts with which WeChat's publish test is made.
var tested = sandbox.Account{AppID: "wx14550af28c71a144", UserName: "gh_26128078e9ab"}

// A message with a code of the publish test reaches all nodes at once: each answers it,
// and one sends the code back.
func TestPublishTestOnTwoNodesAtOnce(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c, code := startPublishTest(t, s, 2)
		message := c.weChat.Text(tested.AppID, "tester", "QUERY_AUTH_CODE:"+code)
		var all sync.WaitGroup
		for _, n := range c.nodes {
			to := message
			to.To = []string{n.messages()}
			all.Go(func() { c.wantEmptyAnswer(to) })
		}
		all.Wait()
		c.wantCodeBackOnce(code)
	})
}

// The gateway is killed between the push and the exchange of the code. After the restart
// it goes on.
func TestPublishTestKilledBeforeTheExchange(t *testing.T) {
	t.Parallel()
	eachStorage(t, func(t *testing.T, s storage) {
		t.Parallel()
		c, code := startPublishTest(t, s, 1)
		exchanging, release := c.weChat.hold(queryAuth, asked)
		defer release()
		c.wantEmptyAnswer(c.weChat.Text(tested.AppID, "tester", "QUERY_AUTH_CODE:"+code))
		c.reached("the exchange", exchanging)
		c.nodes[0].Kill()
		c.nodes[0].restart()
		c.wantCodeBackOnce(code)
	})
}

// startPublishTest starts n gateways, of which the tested account has authorised the
// platform. No event tells of it, so its code is that of the message.
func startPublishTest(t *testing.T, s storage, n int) (c *cluster, code string) {
	t.Helper()
	c, _ = startDelivering(t, s, n)
	c.must(c.weChat.PushTicket(t.Context()))
	c.must(c.weChat.AddAccount(tested))
	c.weChat.SetSwitches(sandbox.Switches{NoAuthorizedPush: true})
	code, err := c.weChat.Authorize(t.Context(), tested.AppID)
	c.must(err)
	return c, code
}

// wantEmptyAnswer pushes a message that must be answered with nothing.
func (c *cluster) wantEmptyAnswer(message sandbox.Push) {
	c.Helper()
	answer, err := c.weChat.Push(c.Context(), message)
	if err != nil || answer.Attempts != 1 || answer.Status != http.StatusOK || answer.Body != "" {
		c.Errorf("answered %d %q at attempt %d (%v), want an empty answer", answer.Status, answer.Body, answer.Attempts, err)
	}
}

// wantCodeBackOnce waits until the code is sent back and nothing of it is stored any
// more; then it was sent once.
func (c *cluster) wantCodeBackOnce(code string) {
	c.Helper()
	c.until("the code is sent back", delivered, func() bool { return len(c.weChat.SentMessages()) > 0 })
	c.until("nothing of the code is left", 2*time.Minute, func() bool {
		keys, _ := c.storage.List(c.Context(), "wechat/"+component+"/publish-test", true)
		return len(keys) == 0
	})
	sent := c.weChat.SentMessages()
	want := `{"msgtype":"text","text":{"content":"` + code + `_from_api"},"touser":"tester"}`
	if len(sent) != 1 || sent[0].AppID != tested.AppID || string(sent[0].Body) != want {
		c.Errorf("sent %+v, want %s", sent, want)
	}
}
