// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	stdcmp "cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

var shop = vault.Queue{Component: component, Client: "shop", Target: "main"}

// cluster is the storage and the application that all nodes of a test share.
type cluster struct {
	t       *testing.T
	memory  *vaulttest.Memory
	app     *application
	targets map[vault.Queue]*delivery.Target
	logs    *observer.ObservedLogs
	log     *zap.Logger
}

func newCluster(t *testing.T, app *application) *cluster {
	core, logs := observer.New(zapcore.InfoLevel)
	c := &cluster{
		t: t, memory: new(vaulttest.Memory), app: app, logs: logs, log: zap.New(core),
		targets: make(map[vault.Queue]*delivery.Target),
	}
	c.add(plainTarget(t, "shop"))
	return c
}

// add adds a target whose application is that of the cluster.
func (c *cluster) add(target *delivery.Target) *delivery.Target {
	target.Transport = c
	c.targets[target.Queue()] = target
	return target
}

// RoundTrip lets the application answer.
func (c *cluster) RoundTrip(r *http.Request) (*http.Response, error) { return c.app.RoundTrip(r) }

func (c *cluster) vault(fill byte) *vault.Vault {
	c.t.Helper()
	ring, err := vault.NewKeyring(bytes.Repeat([]byte{fill}, vault.KeySize))
	if err != nil {
		c.t.Fatal(err)
	}
	return vault.New(func() vault.Storage { return c.memory }, func(string) *vault.Keyring { return ring })
}

// node starts a node, which ends with the test at the latest.
func (c *cluster) node() *delivery.Courier {
	c.t.Helper()
	courier := c.idle()
	courier.Serve(c.targets)
	return courier
}

func (c *cluster) enqueue(courier *delivery.Courier, item delivery.Item) {
	c.t.Helper()
	if err := courier.Enqueue(c.t.Context(), item, targetsOf("shop"), time.Now()); err != nil {
		c.t.Fatal(err)
	}
}

// waiting is how many events are in the queue.
func (c *cluster) waiting() int {
	n := 0
	for key := range c.memory.Files() {
		if strings.Contains(key, "/events/") {
			n++
		}
	}
	return n
}

// targetsOf are targets of these clients.
func targetsOf(clients ...string) (targets []*delivery.Target) {
	for _, client := range clients {
		targets = append(targets, &delivery.Target{Component: component, Client: client, Name: "main"})
	}
	return targets
}

// event is one about an account, made so many seconds after the first.
func event(appID string, second int64, name string) delivery.Item {
	return delivery.Item{
		Kind: delivery.KindEvent, Component: component, AppID: stdcmp.Or(appID, component), ID: name + strings.Repeat("0", 32-len(name)),
		InfoType: "authorized", Arrived: time.Now().Add(time.Duration(second-100) * time.Second), Body: []byte("<xml><a>" + name + "</a></xml>"),
	}
}

// idle returns a node that serves nothing yet.
func (c *cluster) idle() *delivery.Courier {
	c.t.Helper()
	courier := delivery.NewCourier(func() delivery.Settings {
		return delivery.Settings{Vault: c.vault(1), Log: c.log, Targets: c.targets}
	})
	c.t.Cleanup(courier.Close)
	return courier
}

// timed returns an application that answers as status says and notes when.
func timed(began time.Time, status func(got received, n int) int) (*application, *[]string) {
	var mu sync.Mutex // several accounts are served at a time
	var list []string
	app := &application{}
	app.answer = func(_ *http.Request, got received) (int, string, error) {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, fmt.Sprintf("%s %v", strings.TrimRight(got.query.Get("event_id"), "0"), time.Since(began).Round(time.Second)))
		return status(got, len(list)), "success", nil
	}
	return app, &list
}

func TestAnEventReachesTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(200, "success"))
		c.add(safeTarget(t, "shop"))
		node := c.node()
		e := event(account, 0, "a1")
		c.enqueue(node, e)
		synctest.Wait()
		if len(c.app.all()) != 1 || c.waiting() != 0 {
			t.Fatalf("%d delivered, %d waiting", len(c.app.all()), c.waiting())
		}
		got := c.app.all()[0]
		if got.query.Get("event_id") != e.ID || got.query.Get("appid") != account || got.query.Has("openid") {
			t.Errorf("query %v", got.query)
		}
		envelope := elements(t, got.body)
		if text, receiveID := unseal(t, clientKey, envelope["Encrypt"]); text != string(e.Body) || receiveID != account || envelope["AppId"] != component {
			t.Errorf("%q for %q, envelope %v", text, receiveID, envelope)
		}
	})
}

func TestAnEventOfNoAccountIsAboutTheComponent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(200, "success"))
		c.enqueue(c.node(), event("", 0, "a1"))
		synctest.Wait()
		if got := c.app.all(); len(got) != 1 || got[0].query.Get("appid") != component {
			t.Errorf("%v", got)
		}
	})
}

func TestWhatIsQueuedIsSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(500, ""))
		c.enqueue(c.node(), event(account, 0, "a1"))
		synctest.Wait()
		for key, file := range c.memory.Files() {
			if want := "wechat/" + component + "/events/shop/main/" + fmt.Sprintf("%016d", time.Now().Add(-100*time.Second).UnixMicro()) + "-" + account + "-a1"; !strings.HasPrefix(key, want) {
				t.Errorf("key %s", key)
			}
			if bytes.Contains(file, []byte("authorized")) || bytes.Contains(file, []byte("<a>")) {
				t.Errorf("in clear: %s", file)
			}
		}
	})
}

func TestAFailedEventIsTriedAgainEverLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, list := timed(time.Now(), func(_ received, n int) int {
			if n < 13 {
				return 500
			}
			return 204
		})
		c := newCluster(t, app)
		c.enqueue(c.node(), event(account, 0, "a1"))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(*list) != 13 {
			t.Errorf("%d attempts: %v", len(*list), *list)
		}
		checkBackoff(t, *list)
		if c.waiting() != 0 {
			t.Error("still queued after its delivery")
		}
	})
}

// checkBackoff checks the delays between attempts for one item, of which all but the
// last have failed.
func checkBackoff(t *testing.T, list []string) {
	t.Helper()
	var last time.Duration
	for n, line := range list {
		_, text, _ := strings.Cut(line, " ")
		at, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		// Without jitter it would be 4/3 s, twice as long each time, up to 8 min.
		usual := min(8*time.Minute, 4*time.Second/3<<max(0, n-1))
		if delay := at - last; n > 0 && (delay < usual*3/4-2*time.Second || delay > usual*5/4+2*time.Second || delay > 10*time.Minute+time.Second || delay < 0) {
			t.Errorf("attempt %d came after %v, usual are %v", n+1, delay, usual)
		}
		last = at
	}
}

func TestEventsOfOneAccountKeepTheirOrderAndHoldUpNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failures := 2
		app, list := timed(time.Now(), func(got received, n int) int {
			if strings.HasPrefix(got.query.Get("event_id"), "a1") && failures > 0 {
				failures--
				return 500
			}
			return 200
		})
		c := newCluster(t, app)
		node := c.idle()
		// They come in the wrong order, and the first fails twice.
		c.enqueue(node, event(account, 2, "a2"))
		c.enqueue(node, event(account, 1, "a1"))
		c.enqueue(node, event(account2, 3, "b1"))
		node.Serve(c.targets)
		synctest.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		names := namesOf(*list)
		of := func(prefix string) []string {
			return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, prefix) })
		}
		if diff := cmp.Diff([]string{"a1", "a1", "a1", "a2"}, of("a")); diff != "" {
			t.Error(diff)
		}
		if at := slices.Index(names, "b1"); at > 1 {
			t.Errorf("the other account has waited: %v", *list)
		}
	})
}

// namesOf returns the first words of the lines of timed.
func namesOf(list []string) (names []string) {
	for _, line := range list {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	return names
}

func TestARepeatedPushIsQueuedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, list := timed(time.Now(), func(received, int) int { return 500 })
		c := newCluster(t, app)
		node := c.node()
		for range 3 {
			c.enqueue(node, event(account, 0, "a1"))
			time.Sleep(600 * time.Millisecond)
		}
		synctest.Wait()
		if len(*list) != 2 || c.waiting() != 1 {
			t.Errorf("%v, %d waiting", *list, c.waiting())
		}
	})
}

func TestAnAttemptEndsAfterThirtySeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		took := make(chan time.Duration, 9)
		c := newCluster(t, &application{answer: func(r *http.Request, _ received) (int, string, error) {
			<-r.Context().Done()
			took <- time.Since(began)
			return 0, "", r.Context().Err()
		}})
		c.enqueue(c.node(), event(account, 0, "a1"))
		if first := <-took; first != 30*time.Second {
			t.Errorf("took %v", first)
		}
	})
}

func TestOneNodeDeliversAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, most := 0, 0
		c := newCluster(t, &application{})
		c.app.answer = func(*http.Request, received) (int, string, error) {
			busy++ // unguarded: the race detector objects as well if two come together
			most = max(most, busy)
			time.Sleep(time.Second)
			busy--
			return 200, "", nil
		}
		nodes := []*delivery.Courier{c.node(), c.node(), c.node()}
		for i := range 9 {
			c.enqueue(nodes[i%3], event(account, int64(i), fmt.Sprintf("a%d", i+1)))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		var order []string
		for _, got := range c.app.all() {
			order = append(order, strings.TrimRight(got.query.Get("event_id"), "0"))
		}
		if most != 1 || len(order) != 9 || !slices.IsSorted(order) || c.waiting() != 0 {
			t.Errorf("%d at a time, %v, %d waiting", most, order, c.waiting())
		}
	})
}

func TestNodesShareOneSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, list := timed(time.Now(), func(received, int) int { return 500 })
		c := newCluster(t, app)
		nodes := []*delivery.Courier{c.node(), c.node(), c.node()}
		c.enqueue(nodes[0], event(account, 0, "a1"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(*list); n < 9 || n > 11 {
			t.Errorf("%d attempts: %v", n, *list)
		}
		checkBackoff(t, *list)
	})
}

func TestAfterThreeDaysAnEventBecomesADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(500, ""))
		node := c.node()
		e := event(account, 0, "a1")
		c.enqueue(node, e)
		time.Sleep(72*time.Hour - 12*time.Minute)
		synctest.Wait()
		if letters, err := node.Events(t.Context(), delivery.Filter{Dead: true}); err != nil || len(letters.Items) != 0 || c.waiting() != 1 {
			t.Fatalf("before: %v, %v, %d waiting", letters, err, c.waiting())
		}
		time.Sleep(24 * time.Minute)
		synctest.Wait()
		letters, err := node.Events(t.Context(), delivery.Filter{Dead: true})
		if err != nil || len(letters.Items) != 1 || c.waiting() != 0 {
			t.Fatalf("after: %v, %v, %d waiting", letters, err, c.waiting())
		}
		letter := letters.Items[0]
		if letter.EventID != e.ID || letter.InfoType != "authorized" ||
			letter.Failure != "answered with status 500" || letter.Attempts < 100 {
			t.Errorf("%+v", letter)
		}
		if given := c.logs.FilterMessageSnippet("dead letter"); given.Len() != 1 || given.All()[0].Level != zapcore.ErrorLevel {
			t.Errorf("logged %v", given.All())
		}
		n := len(c.app.all())
		time.Sleep(time.Hour)
		if len(c.app.all()) != n {
			t.Error("a dead letter is still tried")
		}
	})
}

func TestAClientThatIsDownIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(502, ""))
		node := c.idle()
		for i := range 50 {
			c.enqueue(node, event(fmt.Sprintf("wx%016x", i), int64(i), fmt.Sprintf("a%02d", i+1)))
		}
		node.Serve(c.targets)
		time.Sleep(29 * time.Second)
		// Those that began before the third has failed, and a probe now and then.
		if n := len(c.app.all()); n > 24 {
			t.Errorf("%d attempts in the first 29 s", n)
		}
		c.app.become(200, "")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if c.waiting() != 0 {
			t.Errorf("%d still waiting after the client came back", c.waiting())
		}
	})
}

func TestSomeFailuresAmongSuccessesDoNotEndTheRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app, list := timed(time.Now(), func(got received, _ int) int {
			if strings.HasPrefix(got.query.Get("event_id"), "bad") {
				return 500
			}
			return 200
		})
		c := newCluster(t, app)
		node := c.idle()
		for i := range 10 {
			name := fmt.Sprintf("%s%d", []string{"bad", "c"}[i%2], i+1)
			c.enqueue(node, event(fmt.Sprintf("wx%016x", i), int64(i), name))
		}
		node.Serve(c.targets)
		synctest.Wait()
		// Three that fail may come first, in a row, and are tried once more then.
		if n := len(*list); n < 10 || n > 15 || c.waiting() != 5 {
			t.Errorf("%v, %d waiting", *list, c.waiting())
		}
	})
}

func TestAClientThatHangsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, &application{answer: func(r *http.Request, got received) (int, string, error) {
			if got.host == "shop.test" {
				<-r.Context().Done()
				return 0, "", r.Context().Err()
			}
			return 200, "", nil
		}})
		crm := c.add(plainTarget(t, "crm"))
		node := c.node()
		if err := node.Enqueue(t.Context(), event(account, 0, "a1"), []*delivery.Target{c.targets[shop], c.targets[crm.Queue()]}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c.waiting() != 1 {
			t.Errorf("%d waiting, want that of shop alone", c.waiting())
		}
	})
}

func TestAQueueThatIsNoLongerServedKeepsItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, answering(500, ""))
		node := c.node()
		node.Serve(c.targets) // again, as after a reload
		c.enqueue(node, event(account, 0, "a1"))
		synctest.Wait()
		node.Serve(nil)
		time.Sleep(time.Hour)
		if len(c.app.all()) != 1 || c.waiting() != 1 {
			t.Fatalf("%d attempts, %d waiting", len(c.app.all()), c.waiting())
		}
		c.app.become(200, "")
		node.Serve(c.targets)
		synctest.Wait()
		if len(c.app.all()) != 2 || c.waiting() != 0 {
			t.Error("not taken up again")
		}
	})
}
