// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// application takes deliveries and keeps them.
type application struct {
	*httptest.Server
	mu  sync.Mutex
	got []string // InfoType, a blank, the body
	ids map[string]bool
}

func newApplication(t *testing.T) *application {
	app := &application{ids: make(map[string]bool)}
	app.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, infoType, _ := strings.Cut(string(body), "<InfoType>")
		infoType, _, _ = strings.Cut(infoType, "</InfoType>")
		app.mu.Lock()
		defer app.mu.Unlock()
		app.got = append(app.got, infoType+" "+string(body))
		app.ids[r.URL.Query().Get("event_id")] = true
		_, _ = io.WriteString(w, "success")
	}))
	t.Cleanup(app.Close)
	return app
}

// own returns the InfoTypes of the gateway's own news so far.
func (a *application) own() (infoTypes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, each := range a.got {
		if infoType, _, _ := strings.Cut(each, " "); strings.HasPrefix(infoType, "gateway_") {
			infoTypes = append(infoTypes, infoType)
		}
	}
	return infoTypes
}

// Two nodes notice what happens to an account. Applications that may act for it are
// told of it once; others are not.
func TestNewsOfTheGatewayAreToldOnce(t *testing.T) {
	eachStorage(t, func(t *testing.T, s storage) {
		ours, others := newApplication(t), newApplication(t)
		client := func(name, appid, url string) string {
			return fmt.Sprintf("client %s {\nsecret %s-secret-0123456789abcdef0123456789\nauthorizers %s\ndeliver %s/hook {\ntoken %sTOKEN\n}\n}", name, name, appid, url, name)
		}
		c := start(t, s, 2, sandbox.Config{Overlap: -1}, client("ours", shop, ours.URL), client("others", cafe, others.URL))
		c.authorize(shop)
		var want []string
		told := func(infoType string) {
			t.Helper()
			want = append(want, infoType)
			c.until("the application is told "+infoType, 30*time.Second, func() bool { return len(ours.own()) >= len(want) })
		}
		everywhere := func() {
			for range 3 {
				for _, n := range c.nodes {
					_ = n.call(shop)
				}
			}
		}

		c.weChat.Inject(sandbox.Fault{Path: componentAPI + authorizerToken, ErrCode: 61023})
		c.weChat.KillTokens(shop)
		everywhere()
		told("gateway_needs_authorization")

		c.weChat.ClearFaults()
		_, err := c.weChat.UpdateAuthorized(t.Context(), shop)
		c.must(err)
		told("gateway_recovered")
		c.warm(shop)

		for _, n := range c.nodes {
			n.Kill()
		}
		s.(interface{ empty() }).empty()
		for _, n := range c.nodes {
			n.restart()
		}
		c.must(c.weChat.PushTicket(t.Context()))
		var calls sync.WaitGroup
		for _, n := range c.nodes {
			calls.Go(func() { n.call(shop) })
		}
		calls.Wait()
		told("gateway_account_found")

		everywhere()
		c.must(c.weChat.PushEvent(t.Context(), "the_last", "<appid>"+shop+"</appid>"))
		c.until("the last event comes", 30*time.Second, func() bool {
			ours.mu.Lock()
			defer ours.mu.Unlock()
			return strings.Contains(strings.Join(ours.got, "\n"), "the_last")
		})
		if diff := cmp.Diff(want, ours.own()); diff != "" {
			t.Errorf("news (-want +got):\n%s", diff)
		}
		if got := others.own(); len(got) > 0 {
			t.Errorf("an application of another account is told %v", got)
		}
		if len(ours.ids) != len(ours.got) {
			t.Errorf("%d ids of %d deliveries", len(ours.ids), len(ours.got))
		}
	})
}
