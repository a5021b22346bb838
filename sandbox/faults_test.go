// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const echo = "/cgi-bin/some/thing?access_token="

// send makes a call that may fail.
func (w *world) send(ctx context.Context, target string) (status int, body string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.weixin.qq.com"+target, strings.NewReader("{}"))
	w.must(err)
	response, err := w.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

func TestFaults(t *testing.T) {
	for name, row := range map[string]struct {
		fault  sandbox.Fault
		status int
		body   string // a part of it
		err    error
	}{
		"an errcode":           {sandbox.Fault{ErrCode: -1, ErrMsg: "system error"}, 200, `"errcode":-1,"errmsg":"system error rid: `, nil},
		"a bad gateway":        {sandbox.Fault{Status: 502}, 502, "<h1>Bad Gateway</h1>", nil},
		"HTML with status 200": {sandbox.Fault{HTML: true}, 200, "<html>", nil},
		"an empty 200":         {sandbox.Fault{Empty: true}, 200, "", nil},
		"an empty 503":         {sandbox.Fault{Empty: true, Status: 503}, 503, "", nil},
		"a reset":              {sandbox.Fault{Reset: true}, 0, "", syscall.ECONNRESET},
		"a lost answer":        {sandbox.Fault{DropAfter: true}, 0, "", syscall.ECONNRESET},
		"an echo":              {sandbox.Fault{Echo: "plain"}, 200, "POST /cgi-bin/some/thing?access_token=", nil},
		"an echo in an error":  {sandbox.Fault{Echo: "percent", Status: 502}, 502, "%50%4F%53%54%20", nil},
		"an echo in JSON":      {sandbox.Fault{Echo: "json"}, 200, `"errmsg":"\u0050\u004f`, nil},
		"an echo in HTML":      {sandbox.Fault{Echo: "html"}, 200, "<p>&#80;&#79;", nil},
		"an echo in base64":    {sandbox.Fault{Echo: "base64"}, 200, "UE9TVCAv", nil},
		"an echo, hexadecimal": {sandbox.Fault{Echo: "hex"}, 200, "504f5354202f", nil},
		"an echo, compressed":  {sandbox.Fault{Echo: "gzip gzip"}, 200, "\x1f\x8b\x08", nil},
		"an echo by deflate":   {sandbox.Fault{Echo: "deflate"}, 200, "x\x9c", nil},
		"half an answer":       {sandbox.Fault{CutHalf: true}, 200, `{"errcode":`, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sandbox.Config{})
			token, _ := w.authorizer(w.componentToken(), official)
			row.fault.Times = 2
			w.Inject(row.fault)
			for range 2 {
				status, body, err := w.send(t.Context(), echo+token)
				if status != row.status || !strings.Contains(body, row.body) || !errors.Is(err, row.err) {
					t.Errorf("status %d, body %q, %v", status, body, err)
				}
			}
			if last := w.Calls()[len(w.Calls())-1]; !last.Fault || last.Status != row.status || last.TokenGeneration != 1 {
				t.Errorf("noted as %+v", last)
			}
			if _, body, err := w.send(t.Context(), echo+token); err != nil || !strings.Contains(body, `"errcode":0`) {
				t.Errorf("it strikes a third time: %q, %v", body, err)
			}
		})
	}
}

func TestALostAnswerWasActedOn(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	code, err := w.Authorize(t.Context(), official)
	w.must(err)
	w.Inject(sandbox.Fault{Path: "/cgi-bin/component/api_query_auth", DropAfter: true, Times: 1})
	body := `{"component_appid":"` + sandbox.DefaultComponent + `","authorization_code":"` + code + `"}`
	r, err := http.NewRequest("POST", "https://api.weixin.qq.com/cgi-bin/component/api_query_auth?access_token="+component, strings.NewReader(body))
	w.must(err)
	if _, err := w.client.Do(r); err == nil {
		t.Error("the answer arrived")
	}
	w.wantCode("the code afterwards", w.component("api_query_auth", component, "authorization_code", code), 61009)
	if w.ValidToken(sandbox.KindRefresh, official) == "" {
		t.Error("no refresh token came into being")
	}
}

func TestAResetWasNotActedOn(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	component := w.componentToken()
	w.Inject(sandbox.Fault{Reset: true, Times: 1})
	_, _, err := w.send(t.Context(), "/cgi-bin/component/api_component_token")
	if err == nil || w.ValidToken(sandbox.KindComponent, "") != component {
		t.Errorf("acted on, %v", err)
	}
}

func TestFaultsStrikeOnlyWhereTheyShould(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token, _ := w.authorizer(w.componentToken(), official)
	w.Inject(sandbox.Fault{Path: "/cgi-bin/menu/", Method: "GET", ErrCode: -1})
	w.wantCode("another path", w.get("/cgi-bin/user/get?access_token="+token), 0)
	w.wantCode("another method", w.post("/cgi-bin/menu/create?access_token="+token, `{"button":[{}]}`), 0)
	for range 3 {
		w.wantCode("for ever", w.get("/cgi-bin/menu/get?access_token="+token), -1)
	}
	w.ClearFaults()
	w.wantCode("until cleared", w.get("/cgi-bin/menu/get?access_token="+token), 0)
}

func TestLatencyAndSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		token, _ := w.authorizer(w.componentToken(), official)
		w.Inject(sandbox.Fault{Latency: 3 * time.Second, Times: 2})
		w.Inject(sandbox.Fault{Never: true})
		began := time.Now()
		if _, body, err := w.send(t.Context(), echo+token); err != nil || !strings.Contains(body, `"errcode":0`) || time.Since(began) != 3*time.Second {
			t.Errorf("late answer %q, %v after %v", body, err, time.Since(began))
		}
		for _, what := range []string{"a caller less patient than the latency", "no answer ever"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began = time.Now()
			if _, _, err := w.send(ctx, echo+token); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("%s: %v after %v", what, err, time.Since(began))
			}
			cancel()
		}
		synctest.Wait()
		if last := w.Calls()[len(w.Calls())-1]; last.Status != 0 {
			t.Errorf("noted as answered: %+v", last)
		}
	})
}

func TestFaultsOverASocket(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token, _ := w.authorizer(w.componentToken(), official)
	server := httptest.NewServer(w.Sandbox)
	defer server.Close()
	for name, row := range map[string]struct {
		fault sandbox.Fault
		want  error
	}{
		"a reset":        {sandbox.Fault{Reset: true}, syscall.ECONNRESET},
		"a lost answer":  {sandbox.Fault{DropAfter: true}, io.EOF},
		"half an answer": {sandbox.Fault{CutHalf: true}, io.ErrUnexpectedEOF},
	} {
		row.fault.Times = 1
		w.Inject(row.fault)
		response, err := http.Post(server.URL+echo+token, "application/json", strings.NewReader("{}"))
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		if !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

func TestSurplusFollowsTheAnswer(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	w.Inject(sandbox.Fault{Surplus: true})
	server := httptest.NewServer(w.Sandbox)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	w.must(err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /cgi-bin/some/thing HTTP/1.1\r\nHost: x\r\n\r\n")
	w.must(err)
	in := bufio.NewReader(conn)
	for _, want := range []string{`"errcode":41001`, `"errmsg":"surplus"`} {
		response, err := http.ReadResponse(in, nil)
		w.must(err)
		if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("answered %s, %v, want %s", body, err, want)
		}
	}
}

// A refusal that needs no body comes before the body has arrived.
func TestEarlyAnswers(t *testing.T) {
	for _, early := range []string{"no", "read", "close"} {
		t.Run(early, func(t *testing.T) {
			w := newWorld(t, sandbox.Config{})
			w.Inject(sandbox.Fault{Early: early})
			server := httptest.NewServer(w.Sandbox)
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			w.must(err)
			defer conn.Close()
			_, err = io.WriteString(conn, "POST /cgi-bin/some/thing HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
			w.must(err)
			in := bufio.NewReader(conn)
			if early == "no" {
				_, err = io.WriteString(conn, "67890")
				w.must(err)
			}
			response, err := http.ReadResponse(in, nil)
			w.must(err)
			if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), `"errcode":41001`) {
				t.Fatalf("answered %s, %v", body, err)
			}
			if early == "no" {
				if call := w.Calls()[0]; call.BodySize != 10 {
					t.Errorf("answered after %d bytes", call.BodySize)
				}
				return
			}
			if early == "close" {
				if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("not closed: %q, %v", rest, err)
				}
				return
			}
			_, err = io.WriteString(conn, "67890GET /cgi-bin/other HTTP/1.1\r\nHost: x\r\n\r\n")
			w.must(err)
			if _, err := http.ReadResponse(in, nil); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}
