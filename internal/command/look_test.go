// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/operate"
)

// encoded returns what the admin API answers.
func encoded(t *testing.T, answer any) string {
	t.Helper()
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// Who watches the gateway reads the exit code, with and without --json.
func TestTheExitCodeIsTheLevel(t *testing.T) {
	w := newWorld(t)
	w.answer("GET /config/", answer{text: "{}\n"})
	for request, command := range map[string]string{"GET /wechat/status": "status", "POST /wechat/doctor": "doctor"} {
		for text, want := range map[string]int{
			`{"level":0,"warnings":[],"items":[]}` + "\n": 0,
			`{"level":1,  "new":"ignored"}`:               1,
			`{"level":2}`:                                 2,
			`{"level":3}`:                                 3, // of a later version
			`{"level":-1}`:                                3,
			`{"level":"2"}`:                               3,
			`<html>`:                                      3,
			`{"errcode":41001,"errmsg":"missing"}`:        3, // what the gateway answers applications
			`null`:                                        3,
			``:                                            3,
			`{"level":2,"components":7,"items":{"check":""}}`: 3,
		} {
			w.answer(request, answer{text: text})
			if got := w.run(command); got.code != want || (want == 3) != (got.err != "") {
				t.Errorf("%s, %s: %+v, want exit code %d", command, text, got, want)
			}
			if got := w.run(command, "--json"); got.code != want || got.out != text {
				t.Errorf("%s --json, %s: %+v, want exit code %d and the answer as it is", command, text, got, want)
			}
		}
		for _, status := range []int{400, 403, 404, 500, 501, 502, 503} {
			w.answer(request, answer{status, `{"error":"it cannot","remedy":"do that"}`})
			if got := w.run(command); got.code != 3 || got.out != "" || got.err != "Error: it cannot\ndo that\n" {
				t.Errorf("%s, HTTP status %d: %+v", command, status, got)
			}
		}
	}
}

// WeChat answers each path with status 200, and so does the gateway where applications
// call it. With their address no command must say that all is well, or that it is done.
func TestAnotherServerIsNoGateway(t *testing.T) {
	w := newWorld(t)
	other := answer{text: `{"errcode":41001,"errmsg":"access_token missing"}`}
	for request, command := range map[string]string{
		"GET /wechat/accounts":                            "accounts",
		"GET /wechat/accounts/wxaaaaaaaaaaaaaaaa":         "account wxaaaaaaaaaaaaaaaa",
		"POST /wechat/accounts/wxaaaaaaaaaaaaaaaa/renew":  "account wxaaaaaaaaaaaaaaaa renew",
		"POST /wechat/accounts/wxaaaaaaaaaaaaaaaa/forget": "account wxaaaaaaaaaaaaaaaa forget",
		"GET /wechat/usage":                               "usage",
		"GET /wechat/pushes":                              "pushes",
		"GET /wechat/events":                              "events",
		"POST /wechat/events/replay?client=shop":          "events replay --client shop",
		"POST /wechat/events/discard?client=shop":         "events discard --client shop",
		"POST /wechat/events/test?client=shop":            "events test --client shop",
		"POST /wechat/sync?offset=0":                      "sync",
		"POST /wechat/reseal?offset=0":                    "reseal",
	} {
		w.answer(request, other)
		got := w.run(strings.Fields(command)...)
		if got.code != 1 || got.out != "" || !strings.Contains(got.err, "is "+strings.TrimPrefix(w.URL, "http://")+" the admin API of a gateway?") {
			t.Errorf("%s: %+v", command, got)
		}
		if asked := w.requests(); !slices.Equal(asked, []string{request}) {
			t.Errorf("%s: asked is %q", command, asked)
		}
	}
}

// Nagios shows the first line, so it says what is worst.
func TestTheFirstLineOfStatusSaysAll(t *testing.T) {
	w := newWorld(t)
	w.answer("GET /wechat/status", answer{text: encoded(t, brokenStatus())})
	got := w.run("status")
	first, _, _ := strings.Cut(got.out, "\n")
	if want := "broken: node gw-1, version v1.4.0; component " + component + ": no component_verify_ticket for 26 minutes (and 1 more)"; first != want || got.code != 2 {
		t.Errorf("%+v, want %q", got, want)
	}
}

// A gateway that is not ready is broken, and one that does not answer that question is
// one of which nobody knows.
func TestHealth(t *testing.T) {
	w := newWorld(t)
	const ok, unready = `{"status":"ok"}` + "\n", `{"error":"the storage has not answered yet","remedy":"see the log"}` + "\n"
	for _, row := range []struct {
		path, flag string
		answer     answer
		code       int
		out, err   string
	}{
		{"ready", "", answer{0, ok}, 0, "ok\n", ""},
		{"live", "--live", answer{0, ok}, 0, "ok\n", ""},
		{"ready", "--json", answer{0, ok}, 0, ok, ""},
		{"ready", "", answer{503, unready}, 2, "", "Error: the storage has not answered yet\nsee the log\n"},
		{"ready", "--json", answer{503, unready}, 2, unready, "Error: the storage has not answered yet\nsee the log\n"},
		{"ready", "", answer{404, `{"error":"the wechat app is not running","remedy":"load a configuration"}`}, 3, "", "Error: the wechat app is not running\nload a configuration\n"},
		{"ready", "", answer{503, "<html>"}, 3, "", "is 127.0.0.1:"}, // of another server
		{"ready", "", answer{503, `{"error":"upstream"}`}, 3, "", "Error: the gateway answers: upstream\n"},
		{"ready", "", answer{0, `{"errcode":0}`}, 3, "", "name the right address with --address"},
		{"ready", "", answer{0, "pong"}, 3, "", "reading the gateway's answer"},
	} {
		w.answer("GET /wechat/health/"+row.path, row.answer)
		got := w.run(strings.Fields("health " + row.flag)...)
		if got.code != row.code || got.out != row.out || !strings.Contains(got.err, row.err) || (row.err == "") != (got.err == "") {
			t.Errorf("%+v: %+v", row, got)
		}
		if asked := w.requests(); !slices.Equal(asked, []string{"GET /wechat/health/" + row.path}) {
			t.Errorf("%+v: asked is %q", row, asked)
		}
	}
}

// Mistakes in the command line must not look like the state of a gateway.
func TestMistypedCommandsCannotTell(t *testing.T) {
	for _, command := range []string{"status", "health", "doctor"} {
		for arguments, want := range map[string]string{
			"--colour":                      "unknown flag: --colour",
			"-x":                            "unknown shorthand flag",
			"--address":                     "flag needs an argument",
			"now":                           `unknown command "now"`,
			"--json=maybe":                  "invalid argument",
			"--address 127.0.0.1:1":         "is the gateway running?",
			"--address nonsense/with/parts": "nonsense/with/parts",
			"--address 127.0.0.1:1-9":       "invalid admin address",
			"--config /nowhere/Caddyfile":   "/nowhere/Caddyfile",
		} {
			got := execute(append([]string{command}, strings.Fields(arguments)...)...)
			if got.code != 3 || got.out != "" || !strings.Contains(got.err, want) || strings.Count(got.err, "Error") != 1 {
				t.Errorf("%s %s: %+v, want exit code 3 and %q", command, arguments, got, want)
			}
		}
		if got := execute(command, "--help"); got.code != 0 || !strings.Contains(got.out, "exit code is 0") {
			t.Errorf("%s --help: %+v", command, got)
		}
	}
}

// A gateway that hangs does not make those hang who watch it.
func TestRequestsHaveALimit(t *testing.T) {
	began := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	admin := adminAPI{address: strings.TrimPrefix(server.URL, "http://"), limit: time.Millisecond}
	if _, err := admin.request(http.MethodGet, "/wechat/status", nil); err == nil || !strings.Contains(err.Error(), "has not answered within 1ms") {
		t.Error(err)
	}
	<-began // so that the connection that is closed is there
}

// The doctor looks at the configuration in force, and goes on without if he may not.
func TestTheDoctorGetsTheConfiguration(t *testing.T) {
	w := newWorld(t)
	healthy := encoded(t, operate.Diagnosis{Node: "gw-1", Items: []operate.Finding{{Check: "clock", OK: true, Found: "1 ms"}}})
	w.answer("GET /config/", answer{text: `{"apps":{"wechat":{}}}` + "\n"})
	w.answer("POST /wechat/doctor", answer{text: healthy})
	got := w.run("doctor")
	if got.code != 0 || got.err != "" || got.out != "well: node gw-1, 0 of 1 check has found something\n\n  ok  clock  1 ms\n" {
		t.Errorf("%+v", got)
	}
	if asked := w.requests(); !slices.Equal(asked, []string{"GET /config/", `POST /wechat/doctor {"apps":{"wechat":{}}}`}) {
		t.Errorf("asked is %q", asked)
	}
	w.answer("GET /config/", answer{403, `{"error":"client is not allowed to access that"}`})
	for _, arguments := range [][]string{{"doctor"}, {"doctor", "--json"}} {
		got := w.run(arguments...)
		if got.code != 0 || !strings.Contains(got.err, "cannot be read") || !strings.Contains(got.err, "not allowed") || strings.Contains(got.out, "not allowed") {
			t.Errorf("%+v", got)
		}
		if asked := w.requests(); !slices.Equal(asked, []string{"GET /config/", "POST /wechat/doctor"}) {
			t.Errorf("asked is %q", asked)
		}
	}
}
