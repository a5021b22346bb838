// SPDX-License-Identifier: Apache-2.0

// Package calls_test tests what becomes of an application's calls: who may
// call for whom, which real token a call takes, what WeChat sees of it and what
// the application gets back, whatever breaks on the way.
package calls_test

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
