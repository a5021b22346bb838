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

// An event that no delivery reached in a day is not silently gone: it stands
// where an operator can see it, with the reason.
func TestDeadEventsAreVisible(t *testing.T) {
	const component = sandbox.DefaultComponent
	storage := new(vaulttest.Memory)
	in := newTestSettings(t, storage)
	v := in.tokens.Vault
	queue := vault.Queue{Component: component, Client: "shop", Target: "main"}
	dead := vault.Event{
		EventKey: vault.EventKey{Queue: queue, Arrived: 1_000_000, AppID: "wxaaaaaaaaaaaaaaaa", ID: strings.Repeat("0", 32)},
		InfoType: "unauthorized", Body: []byte("<xml/>"), Queued: time.Unix(1, 0), Attempts: 150, Failure: "HTTP status 500",
	}
	if err := v.Enqueue(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	damaged := dead
	damaged.AppID = "wxbbbbbbbbbbbbbbbb"
	for _, letter := range []vault.Event{dead, damaged} {
		if err := v.BuryEvent(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	for file := range storage.Files() {
		if strings.Contains(file, damaged.AppID) {
			storage.Put(file, []byte("{"))
		}
	}
	in.deliveries = delivery.Settings{
		Log: zap.NewNop(), Targets: map[vault.Queue]*delivery.Target{queue: {Client: "shop"}},
	}
	if _, _, err := pool.LoadOrNew(poolKey, func() (caddy.Destructor, error) { return newState(in) }); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pool.Delete(poolKey) }()

	w := httptest.NewRecorder()
	if err := deadEvents(current(), w, httptest.NewRequest(http.MethodGet, "/wechat/dead-events", nil)); err != nil {
		t.Fatal(err)
	}
	want := `[{"component":"wx134c8103faa5a59e","client":"shop","appid":"wxaaaaaaaaaaaaaaaa","info_type":"unauthorized",` +
		`"queued":"1970-01-01T00:00:01Z","attempts":150,"failure":"HTTP status 500"},` +
		`{"component":"wx134c8103faa5a59e","client":"shop","appid":"wxbbbbbbbbbbbbbbbb","info_type":"",` +
		`"queued":"1970-01-01T00:00:01Z","attempts":0,"failure":"reading wechat/wx134c8103faa5a59e/dead-events/shop/` +
		`main/0000000001000000-wxbbbbbbbbbbbbbbbb-00000000000000000000000000000000.json: not a sealed record"}]`
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	for _, route := range (Admin{}).Routes() {
		if err := route.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, route.Pattern, nil)); err == nil {
			t.Errorf("a DELETE of %s is answered", route.Pattern)
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
