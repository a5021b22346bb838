// SPDX-License-Identifier: Apache-2.0

package pushes_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
)

// operated is a gateway whose operator looks at the queues of client crm: its targets
// want nothing (410), so what comes waits. In the queue of log there is place for one,
// so what comes then is a dead letter at once.
type operated struct {
	*gwtest.Gateway
	t         *testing.T
	main, log *gwtest.Application
}

// What an operator may not see: what a follower has written, who he is, and what crm
// shares with the gateway.
const (
	written   = "RECOGNISABLE 你好 🎉"
	writer    = "o-RECOGNISABLE-FOLLOWER"
	crmSecret = "crm-RECOGNISABLE-secret-0123456789abcdef"
)

var unseen = []string{"RECOGNISABLE", "你好", crmToken, crmAESKey, "UkVDT0dOSVNBQkxF", "<xml", "FromUserName"}

func status(code int) gwtest.DeliveryAnswer {
	return func(url.Values, string) (int, string) { return code, "RECOGNISABLE answer" }
}

func startOperated(t *testing.T) *operated {
	t.Helper()
	w := &operated{t: t, main: gwtest.NewApplication(), log: gwtest.NewApplication()}
	w.main.AnswerWith(status(http.StatusGone))
	w.log.AnswerWith(status(http.StatusGone))
	target := func(name string, app *gwtest.Application, more string) string {
		return fmt.Sprintf("deliver %s/RECOGNISABLE-hook?key=RECOGNISABLE {\nname %s\ntoken %s\nheader Authorization %s\n"+
			"webhook_secret whsec_UkVDT0dOSVNBQkxFUkVDT0dOSVNBQkxFUkVDT0dO\n%s\n}\n", gwtest.Serve(t, app), name, crmToken, crmSecret, more)
	}
	w.Gateway = gwtest.Start(t, gwtest.Options{
		Watch: true, Quiet: true, Secrets: []string{crmSecret},
		Clients: gwtest.ShopClient + fmt.Sprintf("client crm {\nsecret %s\nauthorizers %s\n%s%s}\n", crmSecret, gwtest.OfficialAccount,
			target("main", w.main, ""), target("log", w.log, "queue 1\nreply off\nencoding_aes_key "+crmAESKey)),
	})
	w.Authorize()
	if _, err := w.WeChat.PushMessage(t.Context(), gwtest.OfficialAccount, writer,
		"<MsgType>text</MsgType><Content>"+written+"</Content><MsgId>1</MsgId>"); err != nil {
		t.Fatal(err)
	}
	want := "[waiting log event authorized waiting main event authorized waiting main message  dead log message ]"
	w.eventually("all are tried or queued", func() bool { return fmt.Sprint(w.events("")) == want })
	return w
}

// admin makes a request to the admin API, whose answer may show nothing that is
// hidden.
func (w *operated) admin(method, uri string, want int) []byte {
	w.t.Helper()
	code, body := w.Admin(method, uri)
	if code != want {
		w.t.Errorf("%s %s is answered %d %s, want %d", method, uri, code, body, want)
	}
	for _, hidden := range unseen {
		if strings.Contains(string(body), hidden) {
			w.t.Errorf("%s %s shows %s: %s", method, uri, hidden, body)
		}
	}
	return body
}

// events lists state, target, kind and info_type.
func (w *operated) events(query string) (events []string) {
	w.t.Helper()
	var page struct {
		Items []struct {
			State, Client, Target, Component, AppID, Kind, Failure string

			EventID  string `json:"event_id"`
			InfoType string `json:"info_type"`
			Attempts int
		}
		Next *string
	}
	if err := json.Unmarshal(w.admin(http.MethodGet, "/wechat/events"+query, http.StatusOK), &page); err != nil || page.Items == nil || page.Next == nil {
		w.t.Fatalf("%+v, %v", page, err)
	}
	for _, e := range page.Items {
		if e.Client != "crm" || e.AppID != gwtest.OfficialAccount || len(e.EventID) != 32 || e.State == "dead" && e.Failure != "the queue was full" {
			w.t.Errorf("%+v", e)
		}
		events = append(events, e.State+" "+e.Target+" "+e.Kind+" "+e.InfoType)
	}
	return events
}

// act makes the gateway do an action and returns the count.
func (w *operated) act(action string) int {
	w.t.Helper()
	var answer struct{ Count *int }
	if err := json.Unmarshal(w.admin(http.MethodPost, "/wechat/events/"+action, http.StatusOK), &answer); err != nil || answer.Count == nil {
		w.t.Fatalf("%s: %v", action, err)
	}
	return *answer.Count
}

// eventually is the function of that name, for the test of this world.
func (w *operated) eventually(what string, condition func() bool) {
	w.t.Helper()
	eventually(w.t, what, condition, func() string { return fmt.Sprint(w.events("")) }, w.Logs)
}

// What an application did not take is shown, and delivered when the operator says so,
// messages like events. What he deletes is not delivered any more.
func TestOperatorsReplayAndDiscardWhatWasNotTaken(t *testing.T) {
	w := startOperated(t)
	if got := len(w.events("?target=main")) + len(w.events("?client=crm&state=dead&limit=1")); got != 3 {
		t.Errorf("%d events by name and page, want 2 and 1", got)
	}
	for uri, want := range map[string]int{
		"discard": http.StatusBadRequest, "replay?state=dead": http.StatusBadRequest, "replay?client=": http.StatusBadRequest,
		"replay?client=nobody": http.StatusNotFound, "test": http.StatusBadRequest, "test?client=shop": http.StatusNotFound, "nothing": http.StatusNotFound,
	} {
		w.admin(http.MethodPost, "/wechat/events/"+uri, want)
	}
	w.admin(http.MethodGet, "/wechat/events/replay?all=true", http.StatusMethodNotAllowed)
	w.admin(http.MethodGet, "/wechat/dead-events", http.StatusNotFound)

	before := len(w.main.Deliveries())
	w.main.AnswerWith(gwtest.Success)
	if n := w.act("replay?client=crm&target=main"); n != 2 {
		t.Errorf("%d are replayed, want 2", n)
	}
	w.eventually("main has taken both", func() bool { return len(w.events("?target=main")) == 0 })
	delivered := w.main.Deliveries()[before:]
	if len(delivered) != 2 || !strings.Contains(delivered[0].Body, "authorized") || !strings.Contains(delivered[1].Body, written) {
		t.Errorf("replayed are %+v", delivered)
	}

	before = len(w.log.Deliveries())
	w.log.AnswerWith(gwtest.Success)
	if n := w.act("discard?state=dead&target=log"); n != 1 || len(w.events("")) != 1 {
		t.Errorf("%d are deleted, want 1, and %v are left, want the one that waits", n, w.events(""))
	}
	if n := w.act("discard?target=log"); n != 1 {
		t.Errorf("%d are deleted, want 1", n)
	}
	if n := w.act("replay?all=true"); n != 0 || len(w.events("")) != 0 || len(w.log.Deliveries()) != before {
		t.Errorf("after they were deleted %d are replayed, %v are left", n, w.events(""))
	}
}

// A test says that it is one, and is not queued. If the target takes it, a target
// that wanted nothing more gets the rest.
func TestATestReachesTheApplicationAsATest(t *testing.T) {
	w := startOperated(t)
	answer := w.admin(http.MethodPost, "/wechat/events/test?client=crm", http.StatusBadGateway)
	for _, part := range []string{"client crm, target main: ", "410", "client crm, target log: ", `"remedy":"`} {
		if !strings.Contains(string(answer), part) {
			t.Errorf("the error says nothing of %s: %s", part, answer)
		}
	}
	if got := len(w.events("")); got != 4 {
		t.Errorf("%d events are left, want 4: a test is not queued", got)
	}
	w.main.AnswerWith(gwtest.Success)
	before := len(w.main.Deliveries())
	if n := w.act("test?client=crm&target=main"); n != 1 {
		t.Errorf("%d have taken it, want 1", n)
	}
	if got := w.main.Deliveries()[before].Body; !strings.Contains(got, "<InfoType>gateway_test</InfoType>") || !strings.Contains(got, "This is a test of the gateway") {
		t.Errorf("the test is %s", got)
	}
	w.eventually("main has taken the rest", func() bool { return len(w.events("?target=main")) == 0 })
}
