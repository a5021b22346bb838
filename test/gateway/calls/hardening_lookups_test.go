// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// A client with a right to all accounts tries appids while WeChat is busy, or while the
// quota of the question is spent. It can cause no more questions than while WeChat
// answers that there is no such account.
func TestTriedAppIDsAreRationedWhileWeChatRefuses(t *testing.T) {
	for name, answer := range map[string]string{
		"busy":        `{"errcode":-1,"errmsg":"system error"}`,
		"quota spent": `{"errcode":45009,"errmsg":"reach max api daily quota limit"}`,
		"garbage":     `<html>`,
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			g := gwtest.StartThenRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{
				"/cgi-bin/component/api_get_authorizer_info": func(w http.ResponseWriter, _ *http.Request) {
					asked.Add(1)
					_, _ = io.WriteString(w, answer)
				},
			})
			began := time.Now()
			var trying sync.WaitGroup
			for i := range 10 {
				trying.Go(func() {
					for j := range 50 {
						g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, fmt.Sprintf("wx%016x", 1000*i+j)))
					}
				})
			}
			trying.Wait()
			took := time.Since(began) // each second of it allows one more question
			if n, most := asked.Load(), int64(100+took/time.Second); n > most {
				t.Errorf("WeChat was asked about %d of 500 appids in %v, want %d at most", n, took, most)
			}
		})
	}
}
