// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"net/http"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// WeChat's answer breaks off before its body. The client is shown just that, as
// it would be without the gateway. Silence would look like a kept-alive
// connection that was closed unused: then clients, net/http among them, make a
// GET again by themselves, and WeChat gets twice what it has already answered.
func TestAnswerThatBreaksOffIsNotSilence(t *testing.T) {
	var seen counted
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		seen.see(r)
		if r.Method == http.MethodPost {
			gwtest.AnswerOK(w, r)
			return
		}
		hijacked("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n")(w, r)
	}})
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}} // so that the second call takes the connection of the first
	defer client.CloseIdleConnections()
	header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	if answer, err := g.Try(client, http.MethodPost, gwtest.SendPath, "{}", header); err != nil || answer.ErrCode != 0 {
		t.Fatal(answer.Body, err)
	}
	seen.reset()
	if answer, err := g.Try(client, http.MethodGet, gwtest.SendPath, "", header); err == nil {
		t.Errorf("the answer looks whole: %s", answer.Body)
	}
	if calls, _, _ := seen.count(); calls != 1 {
		t.Errorf("WeChat saw %d calls", calls)
	}
}
