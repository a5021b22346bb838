// SPDX-License-Identifier: Apache-2.0

package wechat_test

import (
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

func TestTicketToCall(t *testing.T) {
	g := gwtest.Start(t, gwtest.Options{})
	token := g.Token(gwtest.OfficialAccount)
	answer := g.Post("/cgi-bin/message/custom/send?access_token="+token, `{"touser":"o123","msgtype":"text","text":{"content":"你好 🎉"}}`)
	if !strings.Contains(answer, `"errcode":0`) {
		t.Fatalf("answer %s\n%s", answer, g.Logs())
	}
}
