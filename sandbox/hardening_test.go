// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// A fake that shared code with the gateway would agree with its mistakes.
func TestTheSandboxStandsOnTheStandardLibraryAlone(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			if path, _ := strconv.Unquote(spec.Path.Value); strings.Contains(path, ".") {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}

// Whoever has an answer finds its call in the history, over a socket too.
func TestACallIsNotedBeforeItsAnswerLeaves(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	server := httptest.NewServer(w.Sandbox)
	defer server.Close()
	for n := range 200 {
		response, err := http.Get(server.URL + "/x?access_token=junk")
		w.must(err)
		if got := w.Count("/x"); got != n+1 {
			t.Fatalf("answer %d is here, but %d calls are counted", n+1, got)
		}
		response.Body.Close()
	}
}

func TestJSONBodiesAreBounded(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token, _ := w.authorizer(w.componentToken(), official)
	huge := `{"touser":"` + strings.Repeat("x", 2<<20) + `"}`
	w.wantCode("two megabytes of JSON", w.post("/cgi-bin/message/custom/send?access_token="+token, huge), 47001)
	if calls := w.Calls(); calls[len(calls)-1].BodySize > 1<<20 {
		t.Errorf("%d bytes were read", calls[len(calls)-1].BodySize)
	}
}

func TestMaxBodyEndsAnUpload(t *testing.T) {
	w := newWorld(t, sandbox.Config{MaxBody: 1000})
	token, _ := w.authorizer(w.componentToken(), official)
	w.post("/wxa/uploadmedia?access_token="+token, strings.Repeat("x", 5000))
	if calls := w.Calls(); calls[len(calls)-1].BodySize != 1000 {
		t.Errorf("%d bytes were read", calls[len(calls)-1].BodySize)
	}
}

func TestTheLongDeadAreForgotten(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token := w.componentToken()
	w.AdvanceClock(29 * 24 * time.Hour)
	w.wantCode("after 29 days", w.get(ipPath+token), 42001)
	w.AdvanceClock(2 * 24 * time.Hour)
	w.get(ipPath + token)
	w.wantCode("after 31 days", w.get(ipPath+token), 40014)
}

func TestManyAuthorisationsAreCheap(t *testing.T) {
	w := newWorld(t, sandbox.Config{Switches: sandbox.Switches{NoAuthorizedPush: true}})
	component := w.componentToken()
	began := time.Now()
	for i := range 20_000 {
		appid := fmt.Sprintf("wx%016x", i)
		w.must(w.AddAccount(sandbox.Account{AppID: appid}))
		_, err := w.Authorize(t.Context(), appid)
		w.must(err)
	}
	if took := time.Since(began); took > 20*time.Second { // 0.1 s when linear
		t.Errorf("20,000 authorisations took %v", took)
	}
	w.wantCode("the list", w.post("/cgi-bin/component/api_get_authorizer_list?access_token="+component,
		`{"component_appid":"`+sandbox.DefaultComponent+`","offset":19000,"count":500}`), 0)
}

// A caller that gives up must free the goroutine that serves it; synctest fails
// the test if one is left.
func TestLeavingInTheMiddleOfAnAnswerFreesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		token, _ := w.authorizer(w.componentToken(), official)
		target := "https://api.weixin.qq.com/cgi-bin/media/get?media_id=" + sandbox.GeneratedMedia(1<<30) + "&access_token=" + token
		for name, leave := range map[string]func(cancel context.CancelFunc, body io.Closer){
			"closing the body":       func(_ context.CancelFunc, body io.Closer) { body.Close() },
			"cancelling the request": func(cancel context.CancelFunc, _ io.Closer) { cancel() },
		} {
			ctx, cancel := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
			w.must(err)
			response, err := w.client.Do(r)
			w.must(err)
			leave(cancel, response.Body)
			synctest.Wait()
			if _, err := io.Copy(io.Discard, response.Body); err == nil {
				t.Errorf("%s: the answer goes on", name)
			}
			cancel()
		}
	})
}

func TestPassiveReplyForAnotherPlatformIsRefused(t *testing.T) {
	w := newWorld(t, sandbox.Config{Component: "wx0000000000000001"})
	sample := readSample(t)
	w.must(w.RotatePushKeys(sample.Token, sample.Key))
	w.receiver.answer = sealedSample(t)
	if _, err := w.PushMessage(t.Context(), official, "o", ""); err == nil || !strings.Contains(err.Error(), "wx134c8103faa5a59e") {
		t.Error(err)
	}
}

func TestACancelledPushIsNotTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sandbox.Config{})
		w.receiver.takes = never
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.PushTicket(ctx); !errors.Is(err, context.DeadlineExceeded) || len(w.Pushes()) != 1 {
			t.Errorf("%v after %d attempts", err, len(w.Pushes()))
		}
	})
}

// Whatever is asked, there is an answer, and it is JSON or a page.
func FuzzRequests(f *testing.F) {
	for _, seed := range [][3]string{
		{"GET", "/cgi-bin/token?appid=wx", ""},
		{"POST", "/cgi-bin/component/api_query_auth?access_token=C", `{"component_appid":"wx134c8103faa5a59e"}`},
		{"POST", "/cgi-bin/component/api_get_authorizer_list?access_token=C", `{"component_appid":"wx134c8103faa5a59e","count":3,"offset":-1}`},
		{"POST", "/cgi-bin/component/get_authorizer_option?access_token=A", `{"option_name":"location_report"}`},
		{"GET", "/cgi-bin/componentloginpage?redirect_uri=%zz", ""},
		{"POST", "/cgi-bin/media/upload?access_token=A", "--x\r\n\r\n"},
		{"GET", "/cgi-bin/media/get?media_id=generated-0&access_token=A", ""},
		{"POST", "/cgi-bin/message/custom/send?access_token=A", `{"touser":1}`},
		{"POST", "/_sandbox/quota", `{"path":"/x","daily":1}`},
		{"GET", "/_sandbox/agree?account=wx", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	w := newWorld(f, sandbox.Config{MediaBytes: 1 << 20, History: 10})
	component := w.componentToken()
	authorizer, _ := w.authorizer(component, official)
	known := strings.NewReplacer("access_token=C", "access_token="+component, "access_token=A", "access_token="+authorizer)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		r, err := http.NewRequest(method, "http://api.weixin.qq.com"+known.Replace(target), strings.NewReader(body))
		if err != nil || !strings.HasPrefix(target, "/") || strings.Contains(target, "generated-") || strings.Contains(target, "_sandbox/fault") {
			t.Skip()
		}
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		answer := httptest.NewRecorder()
		w.ServeHTTP(answer, r)
		if answer.Code >= 500 {
			t.Errorf("status %d: %s", answer.Code, answer.Body)
		}
	})
}
