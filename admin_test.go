// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/operate"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
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

// Who reads an answer with a program may take every list for one: nothing is null, even
// if there is nothing to show.
func TestEmptyListsAreNotNull(t *testing.T) {
	in := newTestSettings(t, new(vaulttest.Memory))
	if _, _, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) { return newState(in) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pool.Delete(poolKey) }()
	requests := []string{"POST /wechat/reseal"}
	for _, route := range (Admin{}).Routes() {
		if admin(t, http.MethodDelete, route.Pattern, "").Header().Get("Allow") == http.MethodGet {
			requests = append(requests, "GET "+route.Pattern)
		}
	}
	lists := 0
	for _, request := range requests {
		method, uri, _ := strings.Cut(request, " ")
		body := admin(t, method, uri, "").Body.String()
		if strings.Contains(body, "null") {
			t.Errorf("%s: %s", request, body)
		}
		lists += strings.Count(body, "[]")
	}
	if lists < 3 {
		t.Errorf("%d empty lists in the answers to %s", lists, requests)
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

// inPool makes these settings those of the process.
func inPool(t *testing.T, in *settings) *state {
	t.Helper()
	in.deliveries.Log = zap.NewNop()
	s, _, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) { return newState(in) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = pool.Delete(poolKey) })
	return s.(*state)
}

// Each request is there, and answers with JSON: the mistakes of its caller, and a storage
// that fails, with the status and the remedy.
func TestAdminRequestsAnswerInJSON(t *testing.T) {
	const appid = "wx0000000000000001"
	storage := new(vaulttest.Memory)
	in := newTestSettings(t, storage)
	in.operable = []operate.Client{{Name: "shop", Component: sandbox.DefaultComponent, All: true}}
	s := inPool(t, in)
	storeTicket(t, s.vault)
	who := subject.Of(sandbox.DefaultComponent, appid)
	if _, err := s.vault.Store(t.Context(), who, vault.Record{State: vault.Unauthorized, EventTime: time.Unix(1, 0)}); err != nil {
		t.Fatal(err)
	}
	check := func(request string, status int, want string) {
		t.Helper()
		method, uri, _ := strings.Cut(request, " ")
		got := admin(t, method, uri, "")
		if got.Code != status || !strings.Contains(got.Body.String(), want) || got.Header().Get("Content-Type") != "application/json" || !json.Valid(got.Body.Bytes()) ||
			status != http.StatusOK && !strings.Contains(got.Body.String(), `"remedy":"`) {
			t.Errorf("%s: %d %s, want %d and %s", request, got.Code, got.Body, status, want)
		}
	}
	const ok, bad, missing = http.StatusOK, http.StatusBadRequest, http.StatusNotFound
	check("GET /wechat/status", ok, `"component":"`+sandbox.DefaultComponent+`"`)
	check("GET /wechat/status?x=1", bad, "no parameter")
	check("GET /wechat/health/live", ok, `{"status":"ok"}`)
	check("GET /wechat/health/ready", ok, `{"status":"ok"}`)
	check("GET /wechat/accounts", ok, `{"items":[{"appid":"`+appid+`"`)
	check("GET /wechat/accounts?client=shop&state=failing", ok, `{"items":[],"next":""}`)
	check("GET /wechat/accounts?limit=1000000000", bad, "1 to 1000")
	check("GET /wechat/accounts?component=wx0000000000000000", bad, "known are: "+sandbox.DefaultComponent)
	check("GET /wechat/accounts/"+appid, ok, `"state":"unauthorized"`)
	check("GET /wechat/accounts/"+appid+"?lang=en", ok, `"clients":["shop"]`)
	check("GET /wechat/accounts/wx0000000000000002", missing, "is not known")
	check("GET /wechat/accounts/", bad, "into the path")
	check("GET /wechat/accounts/wx", bad, "16 hexadecimal digits")
	check("GET /wechat/accounts/"+appid+"/renew", http.StatusMethodNotAllowed, "use POST")
	check("POST /wechat/accounts/"+appid, http.StatusMethodNotAllowed, "use GET")
	check("POST /wechat/accounts/"+appid+"/explode", missing, "renew, reread or forget")
	check("POST /wechat/accounts/"+appid+"/renew/", missing, "renew, reread or forget")
	check("POST /wechat/accounts/wx0000000000000002/renew", missing, "is not known")
	check("POST /wechat/accounts/wx0000000000000002/forget", missing, "is not known")
	check("GET /wechat/pushes", ok, `"items":[]`)
	check("GET /wechat/usage", ok, `"items":[]`)
	check("POST /wechat/reseal", ok, `"next":1,"total":257`)
	check("POST /wechat/reseal?offset=256", ok, `"unreadable":[]`)
	check("POST /wechat/reseal?offset=257", bad, "not below 257")
	check("POST /wechat/sync?offset=x", bad, "from 0")

	storage.Intercept(func(context.Context, vaulttest.Op, string) error { return errors.New("storage fails") })
	check("POST /wechat/reseal", http.StatusServiceUnavailable, "storage")
	check("GET /wechat/accounts/"+appid, http.StatusServiceUnavailable, "storage")
	check("GET /wechat/status", ok, `"level":2`)
	check("GET /wechat/health/ready", ok, `{"status":"ok"}`)
	storage.Intercept(nil)
	check("POST /wechat/accounts/"+appid+"/forget", ok, `{"count":1}`)
	check("GET /wechat/accounts/"+appid, missing, "is not known")
	if status := admin(t, http.MethodPost, "/wechat/accounts/"+appid+"/forget", "x"); status.Code != bad {
		t.Errorf("with a body: %d %s", status.Code, status.Body)
	}
}

// Caddy's admin API ends the context of a request after ten seconds. What an operator has
// begun goes on, and he is told what came of it; whoever looks at a storage that hangs
// is let go.
func TestActionsOutliveTheirContext(t *testing.T) {
	in := newTestSettings(t, new(vaulttest.Memory))
	s := inPool(t, in)
	storeTicket(t, s.vault)
	fill(t, s.vault, 3)
	ended, end := context.WithCancel(t.Context())
	end()
	routes := make(map[string]caddy.AdminHandler)
	for _, route := range (Admin{}).Routes() {
		routes[route.Pattern] = route.Handler
	}
	for request, status := range map[string]int{"POST /wechat/reseal?offset=1": http.StatusOK, "GET /wechat/accounts": http.StatusServiceUnavailable} {
		method, uri, _ := strings.Cut(request, " ")
		path, _, _ := strings.Cut(uri, "?")
		got := httptest.NewRecorder()
		if err := routes[path].ServeHTTP(got, httptest.NewRequestWithContext(ended, method, uri, nil)); err != nil || got.Code != status {
			t.Errorf("%s: %d %s, %v, want %d", request, got.Code, got.Body, err, status)
		}
	}
}

// Whoever only looks changes nothing.
func TestGetChangesNothing(t *testing.T) {
	storage := new(vaulttest.Memory)
	in := newTestSettings(t, storage)
	s := inPool(t, in)
	storeTicket(t, s.vault)
	fill(t, s.vault, 3)
	appids, err := s.vault.List(t.Context(), sandbox.DefaultComponent)
	if err != nil || len(appids) != 3 {
		t.Fatal(appids, err)
	}
	before := storage.Files()
	storage.Intercept(func(_ context.Context, op vaulttest.Op, key string) error {
		if op == vaulttest.Store || op == vaulttest.Delete || op == vaulttest.Lock {
			t.Errorf("%s %s", op, key)
		}
		return nil
	})
	looked := 0
	for _, route := range (Admin{}).Routes() {
		uri := route.Pattern
		if strings.HasSuffix(uri, "/") {
			uri += appids[0]
		}
		if admin(t, http.MethodGet, uri, "").Code == http.StatusOK {
			looked++
		}
	}
	storage.Intercept(nil)
	if diff := cmp.Diff(before, storage.Files()); diff != "" || looked < 8 {
		t.Errorf("%d requests, the storage has changed (-before +after):\n%s", looked, diff)
	}
}
