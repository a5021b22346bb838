// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// What WeChat says to one client, or to a stranger, must shut an account for nobody
// else. The rules themselves are tested in internal/tokens, with their times.

const (
	badPath       = "/cgi-bin/bad/"
	questionPath  = "/cgi-bin/get_api_domain_ip"
	villainSecret = "villain-secret-0123456789abcdef01234"
)

// startRejecting starts a gateway over a WeChat that rejects every call of a path, though
// its token is alive.
func startRejecting(t *testing.T, o gwtest.Options, path string, errcode int) *gwtest.Gateway {
	t.Helper()
	g := gwtest.StartWithTokens(t, o)
	g.WeChat.Inject(sandbox.Fault{Path: path, ErrCode: errcode, ErrMsg: "invalid credential"})
	g.WeChat.ResetCounts()
	return g
}

// storm lets ten callers make attack for two seconds, or longer until enough calls were
// made, while another client makes a call of each account, one after the other. All of
// these must succeed.
func storm(t *testing.T, g *gwtest.Gateway, attack func(i int64)) {
	t.Helper()
	var attackers sync.WaitGroup
	var calls atomic.Int64
	var over atomic.Bool
	defer over.Store(true)
	began := time.Now()
	for range 10 {
		attackers.Go(func() {
			for !over.Load() {
				attack(calls.Add(1))
			}
		})
	}
	const least, leastOfAttack, most = 10, 20, time.Minute
	honest := 0
	for time.Since(began) < 2*time.Second || (honest < least || calls.Load() < leastOfAttack) && time.Since(began) < most {
		for _, appid := range []string{gwtest.OfficialAccount, gwtest.MiniProgram} {
			answer := g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, appid))
			if answer.ErrCode != 0 || answer.Status != http.StatusOK {
				t.Fatalf("another client is answered %d %s", answer.Status, answer.Body)
			}
		}
		honest++
	}
	over.Store(true)
	attackers.Wait()
	if honest < least || calls.Load() < leastOfAttack {
		t.Errorf("%d calls, %d of the attack: too few to prove anything", honest, calls.Load())
	}
	took := time.Since(began)
	if got := g.WeChat.Count(questionPath); got > 2+int(took/time.Second) { // one a second
		t.Errorf("%d questions in %v", got, took)
	}
	if got := g.WeChat.Count(gwtest.RenewalPath) + g.WeChat.Count("/cgi-bin/component/api_component_token"); got > 0 {
		t.Errorf("%d renewals", got)
	}
	g.WantSuccess(t, gwtest.OfficialAccount)
}

func TestClientOfOneBadPathShutsNoAccount(t *testing.T) {
	for _, errcode := range []int{40001, 40014, 42001, 42006} {
		t.Run(strconv.Itoa(errcode), func(t *testing.T) {
			villain := "client villain {\nsecret " + villainSecret + "\nauthorizers " + gwtest.OfficialAccount + "\nallow " + badPath + "*\n}\n"
			g := startRejecting(t, gwtest.Options{Clients: gwtest.ShopClient + villain}, badPath, errcode)
			storm(t, g, func(int64) {
				answer := g.Ask(http.MethodPost, badPath+"one", "{}", gwtest.Bearer(villainSecret, ""))
				if answer.Status != 200 || answer.ErrCode != 48001 || answer.Slug != "rejected" ||
					!strings.Contains(answer.ErrMsg, "errcode "+strconv.Itoa(errcode)+" rid: ") || strings.Contains(answer.Body, "invalid") {
					t.Errorf("the client itself is answered %d %q %s", answer.Status, answer.Slug, answer.Body)
				}
			})
			// It knows no other path, and its token really dies while the path is marked.
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			g.WantSuccess(t, gwtest.OfficialAccount)
		})
	}
}

// The client tries paths without end, and the gateway does not remember them.
func TestClientThatTriesPathsFillsNoMemory(t *testing.T) {
	g := startRejecting(t, gwtest.Options{}, badPath, 40001)
	long := strings.Repeat("x", 1000)
	storm(t, g, func(i int64) {
		g.Ask(http.MethodGet, badPath+long+strconv.FormatInt(i, 16), "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	})
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	if memory.HeapAlloc > 100<<20 {
		t.Errorf("the heap is %d MiB", memory.HeapAlloc>>20)
	}
}

// Anybody may exchange the refresh token of an end user, and WeChat answers 42001 to a
// made-up one. That must not shut the component.
func TestCallsWithoutACredentialShutNoComponent(t *testing.T) {
	g := startRejecting(t, gwtest.Options{}, "/sns/oauth2/component/refresh_token", 42001)
	storm(t, g, func(int64) {
		answer := g.AskGet("/sns/oauth2/refresh_token?grant_type=refresh_token&refresh_token=made-up&appid=" + gwtest.OfficialAccount)
		if answer.Slug != "rejected" || answer.ErrCode != 48001 && (answer.ErrCode != -1 || answer.Status != 503) {
			t.Errorf("the stranger is answered %d %q %s", answer.Status, answer.Slug, answer.Body)
		}
	})
	if answer := g.Ask(http.MethodPost, gwtest.ComponentPath, "{}", gwtest.Bearer(gwtest.PlatformSecret, "")); answer.Slug == "rejected" {
		t.Errorf("a call of the component's level: %s", answer.Body)
	}
}

// For a second WeChat rejects every token, also when the gateway itself asks. When it
// is over, everything goes on at once.
func TestSecondOfRejectionsIsForgotten(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{})
	calls := func() (failed string) {
		for _, appid := range []string{gwtest.OfficialAccount, gwtest.MiniProgram} {
			if answer := g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, appid)); answer.ErrCode != 0 {
				return answer.Body
			}
		}
		return ""
	}
	g.WeChat.ResetCounts()
	g.WeChat.Inject(sandbox.Fault{ErrCode: 40001})
	for began := time.Now(); time.Since(began) < time.Second; {
		if calls() == "" {
			t.Fatal("a call was accepted")
		}
	}
	g.WeChat.ClearFaults()
	if failed := calls(); failed != "" {
		t.Errorf("after it: %s", failed)
	}
	if got := g.WeChat.Count(gwtest.RenewalPath); got > 8 {
		t.Errorf("%d renewals of two accounts", got)
	}
}
