// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// admin sends a request to the handler of its path and returns the answer.
func admin(t *testing.T, method, uri, body string) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range (Admin{}).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := route.Handler.ServeHTTP(w, r); err != nil {
				t.Errorf("%s %s: left to Caddy: %v", method, uri, err)
			}
		})
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(method, uri, strings.NewReader(body)))
	return w
}

// What waits for a target and what was given up is not silently gone: it stands where
// an operator can see it, with the reason, and he can act on it.
func TestEventsAreVisible(t *testing.T) {
	const component = sandbox.DefaultComponent
	in := newTestSettings(t, new(vaulttest.Memory))
	queue := vault.Queue{Component: component, Client: "shop", Target: "main"}
	waiting := vault.Event{
		EventKey: vault.EventKey{Queue: queue, Arrived: 1_000_000, AppID: "wxaaaaaaaaaaaaaaaa", ID: strings.Repeat("0", 32)},
		Kind:     "message", Body: []byte("<xml/>"), Queued: time.Unix(1, 0), Due: time.Unix(9, 0), Attempts: 150, Failure: "HTTP status 500",
	}
	dead := waiting
	dead.ID, dead.Dead = strings.Repeat("1", 32), true
	for _, e := range []vault.Event{waiting, dead} {
		if err := in.tokens.Vault.Enqueue(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	in.deliveries.Log, in.deliveries.Targets = zap.NewNop(), map[vault.Queue]*delivery.Target{queue: {Client: "shop"}}
	if _, _, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) { return newState(in) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pool.Delete(poolKey) }()

	same := `"client":"shop","target":"main","component":"` + component + `","appid":"wxaaaaaaaaaaaaaaaa","kind":"message","info_type":"","queued":"1970-01-01T00:00:01Z",`
	first := `{"event_id":"` + waiting.ID + `","state":"waiting",` + same + `"due":"1970-01-01T00:00:09Z","attempts":150,"failure":"HTTP status 500"}`
	second := `{"event_id":"` + dead.ID + `","state":"dead",` + same + `"attempts":150,"failure":"HTTP status 500"}`
	for _, row := range []struct {
		request string
		status  int
		want    string
	}{
		{"GET /wechat/events", http.StatusOK, `{"items":[` + first + "," + second + `],"next":""}`},
		{"GET /wechat/events?limit=1", http.StatusOK, `{"items":[` + first + `],"next":"dead."}`},
		{"GET /wechat/events?client=nobody", http.StatusNotFound, `{"error":"no client with a target is called \"nobody\"","remedy":"known are: shop"}`},
		{"GET /wechat/events?limit=0", http.StatusBadRequest, `{"error":"limit \"0\" is no length of a page","remedy":"write a number from 1 to 1000, or leave it out for 100"}`},
		{"POST /wechat/events/discard", http.StatusBadRequest, `{"error":"nothing is named","remedy":"name a client, target, event_id or since; all=true means all of them"}`},
		{"POST /wechat/events/discard?state=dead&client=shop", http.StatusOK, `{"count":1}`},
		{"POST /wechat/events/replay?all=true", http.StatusOK, `{"count":0}`}, // nothing serves the queue here
		{"GET /wechat/events", http.StatusOK, `{"items":[` + first + `],"next":""}`},
		{"POST /wechat/events/test?client=nobody", http.StatusNotFound, `{"error":"no client with a target is called \"nobody\"","remedy":"known are: shop"}`},
	} {
		method, uri, _ := strings.Cut(row.request, " ")
		got := admin(t, method, uri, "")
		if body := strings.TrimSpace(got.Body.String()); got.Code != row.status || body != row.want || got.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s\nwant %d %s", row.request, got.Code, body, row.status, row.want)
		}
	}
	for _, action := range []string{"replay", "discard", "test"} {
		if got := admin(t, http.MethodPost, "/wechat/events/"+action+"?client=shop", "target=main"); got.Code != http.StatusBadRequest || !strings.Contains(got.Body.String(), "query") {
			t.Errorf("%s with parameters in the body: %d %s", action, got.Code, got.Body)
		}
	}
}

// Each request has one method, and without the app there is nothing to see.
func TestAdminRequestsSayWhatTheyNeed(t *testing.T) {
	for _, route := range (Admin{}).Routes() {
		got := admin(t, http.MethodDelete, route.Pattern, "")
		allowed := got.Header().Get("Allow")
		if got.Code != http.StatusMethodNotAllowed || !strings.Contains(got.Body.String(), `"remedy":"use `+allowed+`"`) {
			t.Errorf("a DELETE of %s is answered %d %s", route.Pattern, got.Code, got.Body)
		}
		if got := admin(t, allowed, route.Pattern, ""); got.Code != http.StatusNotFound || !strings.Contains(got.Body.String(), `"error":"the wechat app is not running"`) {
			t.Errorf("without the app, %s %s is answered %d %s", allowed, route.Pattern, got.Code, got.Body)
		}
	}
}

// A part that is not there is a mistake of the caller's, a storage that fails is not.
func TestResealSaysWhatIsWrong(t *testing.T) {
	storage := new(vaulttest.Memory)
	s, in := new(state), newTestSettings(t, storage)
	s.settings.Store(in)
	storeTicket(t, in.tokens.Vault)
	fill(t, in.tokens.Vault, 1)
	ask := func(query string) (status int) {
		err := resealPart(s, httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/wechat/reseal?"+query, nil))
		var refused caddy.APIError
		if errors.As(err, &refused) {
			return refused.HTTPStatus
		}
		return http.StatusOK
	}
	for query, want := range map[string]int{
		"": http.StatusOK, "offset=256": http.StatusOK, "offset=0&component=" + sandbox.DefaultComponent: http.StatusOK,
		"offset=257": http.StatusBadRequest, "offset=-1": http.StatusBadRequest, "offset=x": http.StatusBadRequest,
		"component=wx0000000000000000": http.StatusBadRequest,
	} {
		if got := ask(query); got != want {
			t.Errorf("%q is answered %d, want %d", query, got, want)
		}
	}
	storage.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("storage fails") })
	if got := ask(""); got != http.StatusServiceUnavailable {
		t.Errorf("without storage: %d", got)
	}
}
