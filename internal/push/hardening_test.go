// SPDX-License-Identifier: Apache-2.0

package push

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/logging"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Both URLs are public. Somebody sends forged pushes as fast as he can, each a
// little different and from another address: the log must neither fill the disk
// nor hide what else it says. It tells of each kind once a minute, with the count
// and the last sender.
func TestFloodOfForgedPushesIsALineAMinuteOfEachKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		tally := logging.NewTally()
		defer tally.Stop()
		rx := &Receiver{
			Codecs: map[string]*bizmsg.Codec{"wx134c8103faa5a59e": {ReceiveID: "wx134c8103faa5a59e", Tokens: []secret.Secret{secret.New("token")}}},
			Log:    logging.Throttle(zap.New(core), tally),

			Address: func(*http.Request) netip.Addr { return netip.Addr{} },
		}
		const each = 5000
		kinds := map[string]func(i int) (path, query, body string){
			"signature": func(i int) (string, string, string) {
				return "/events", fmt.Sprintf("msg_signature=%040x&timestamp=1&nonce=%d", i, i), "<xml><AppId>wx134c8103faa5a59e</AppId><Encrypt>AAAA</Encrypt></xml>"
			},
			"foreign component": func(i int) (string, string, string) {
				return "/events", "", fmt.Sprintf("<xml><AppId>wx%016x</AppId><Encrypt>AAAA</Encrypt></xml>", i)
			},
			"malformed at another byte each time": func(i int) (string, string, string) {
				return "/events", "", "<xml>" + strings.Repeat(" ", i) + "<"
			},
			"too large": func(int) (string, string, string) { return "/events", "", strings.Repeat("a", maxPush+1) },
			"no appid":  func(i int) (string, string, string) { return fmt.Sprintf("/messages/%d", i), "", "" },
			"message": func(i int) (string, string, string) {
				return "/messages/wxaaaaaaaaaaaaaaaa", fmt.Sprintf("msg_signature=%040x", i), "<xml><ToUserName>gh_1</ToUserName><Encrypt>AAAA</Encrypt></xml>"
			},
		}
		for _, kind := range kinds {
			for i := range each {
				path, query, body := kind(i)
				w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, path+"?"+query, strings.NewReader(body))
				r.RemoteAddr = fmt.Sprintf("203.0.113.%d:%d", i%256, i)
				url, err := EventsURL, error(nil)
				if strings.HasPrefix(path, "/messages/") {
					url = MessagesURL
					_, err = rx.OpenMessage(w, r)
				} else {
					_, err = rx.OpenEvent(w, r)
				}
				if err == nil {
					t.Fatalf("%s %s is accepted", path, body)
				}
				rx.Reject(w, r, url, err)
			}
		}
		if n := logs.Len(); n != len(kinds) {
			t.Errorf("%d lines at once, want one of each of the %d kinds: %v", n, len(kinds), logs.All())
		}
		logs.TakeAll()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if n := logs.Len(); n != len(kinds) {
			t.Errorf("%d lines a minute later, want one of each of the %d kinds", n, len(kinds))
		}
		for _, line := range logs.TakeAll() {
			fields := line.ContextMap()
			if fields["count"] != int64(each-1) || fields["remote"] != fmt.Sprintf("203.0.113.%d:%d", (each-1)%256, each-1) {
				t.Errorf("%v: want the count %d and the last sender", fields, each-1)
			}
		}
		time.Sleep(10 * time.Minute)
		if n := logs.Len(); n != 0 {
			t.Errorf("%d lines after the flood, want none", n)
		}
	})
}
