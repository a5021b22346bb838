// SPDX-License-Identifier: Apache-2.0

package gwtest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
)

// behindRecorder starts a server and returns the address of a recorder before it.
func behindRecorder(t *testing.T, handler http.HandlerFunc) (*recorder, string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	recorder := new(recorder)
	return recorder, recorder.before(t, server.URL)
}

// alone is a client that neither asks for compression nor repeats anything.
var alone = &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}

func TestRecorderPassesRequestsOnAsTheyAre(t *testing.T) {
	var got []string
	_, address := behindRecorder(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, agent := r.Header["User-Agent"]
		got = []string{r.Method, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-For"), r.Header.Get("Authorization"),
			fmt.Sprint(r.ContentLength, agent), string(body)}
	})
	for _, length := range []int64{5, -1} {
		r, err := http.NewRequest(http.MethodPost, address+"/a%2Fb/./c?x=%E4;y=%zz&&=", io.MultiReader(strings.NewReader("hello")))
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.ContentLength = "gateway.example.com", length
		r.Header = http.Header{"User-Agent": nil, "X-Forwarded-For": {"10.0.0.1"}, "Authorization": {"Bearer x"}}
		response, err := alone.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		want := []string{"POST", "gateway.example.com", "/a%2Fb/./c?x=%E4;y=%zz&&=", "10.0.0.1", "Bearer x", fmt.Sprint(length, false), "hello"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// No spelling of an address is repaired on the way.
func TestRecorderLeavesAddressesAlone(t *testing.T) {
	var got string
	_, address := behindRecorder(t, func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI })
	for _, want := range []string{
		"/", "/a?", "/a#b?c", "//a/b?c=d", "/a//b/../c", "/%2e%2E/%61?%61;b", "/a?x=y=z&&;=%zz", "http://user:password@elsewhere/a?b",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(address, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		got = ""
		fmt.Fprintf(conn, "OPTIONS %s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n", want)
		if _, err := io.Copy(io.Discard, conn); err != nil || got != want {
			t.Errorf("%s arrived as %q, %v", want, got, err)
		}
		conn.Close()
	}
}

func TestRecorderPassesAnswersOnAndKeepsThem(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, "compressed")
	_ = z.Close()
	for name, row := range map[string]struct {
		answer      http.HandlerFunc
		body, kept  string
		method, why string
	}{
		"an error": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Why", "because")
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "short and stout")
		}, body: "short and stout", kept: "HTTP/1.1 418\r\nContent-Length: 15", why: "because"},
		"a HEAD": {method: http.MethodHead, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("X-Why", "head")
		}, kept: "Content-Length: 1000", why: "head"},
		"a compressed one": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes())
		}, body: zipped.String(), kept: "compressed"},
		"a large one": {answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(bytes.Repeat([]byte("x"), maxKept+1000))
		}, body: strings.Repeat("x", maxKept+1000), kept: "xxx"},
		"one without a type": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		}, body: "<html>", kept: "Content-Length: 6"},
		"a trailer": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-Trailer")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Trailer", "late")
		}, body: "body", kept: "X-Trailer: late"},
	} {
		t.Run(name, func(t *testing.T) {
			recorder, address := behindRecorder(t, row.answer)
			r, err := http.NewRequest(row.method, address+"/path?query=1", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := alone.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil || string(body) != row.body || response.Header.Get("X-Why") != row.why {
				t.Errorf("answered %d bytes and %v, %v", len(body), response.Header, err)
			}
			kept := keptOf(t, recorder)
			if !strings.Contains(string(kept.Data), row.kept) || !strings.HasSuffix(kept.Name, " /path") {
				t.Errorf("kept as %s: %.300q", kept.Name, kept.Data)
			}
			if len(kept.Data) > maxKept+1000 {
				t.Errorf("%d bytes are kept", len(kept.Data))
			}
		})
	}
}

// keptOf returns the only answer that was kept. Its end is kept when the caller
// has it already.
func keptOf(t *testing.T, r *recorder) Place {
	t.Helper()
	for end := t.Context().Done(); ; {
		places := r.places()
		if len(places) == 1 && bytes.Contains(places[0].Data, []byte("at the end")) {
			return places[0]
		}
		select {
		case <-end:
			t.Fatalf("kept %d answers", len(places))
		default:
		}
	}
}

func TestRecorderKeepsInformationalAnswers(t *testing.T) {
	recorder, address := behindRecorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Hint", "early")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("X-Hint")
	})
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	hint := ""
	response, err := alone.Do(r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, header textproto.MIMEHeader) error { hint = header.Get("X-Hint"); return nil },
	})))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if kept := keptOf(t, recorder); hint != "early" || !strings.Contains(string(kept.Data), "HTTP/1.1 103\r\nX-Hint: early") {
		t.Errorf("the caller got %q, kept is %q", hint, kept.Data)
	}
}

// A caller sees a connection that breaks as one that breaks, and never an
// answer of the recorder's own.
func TestRecorderBreaksWhatBreaks(t *testing.T) {
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		begins bool
	}{
		"before the answer": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
		"within the answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			_, address := behindRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				row.answer(w, r)
			})
			response, err := alone.Get(address)
			if err == nil {
				defer response.Body.Close()
				_, err = io.ReadAll(response.Body)
			}
			if err == nil || (response != nil) != row.begins || requests.Load() != 1 {
				t.Errorf("%v, %v, after %d requests", response, err, requests.Load())
			}
		})
	}
}

// An answer that comes while the request is still being sent arrives, byte by
// byte.
func TestRecorderHoldsNothingBack(t *testing.T) {
	_, address := behindRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := errors.Join(rc.EnableFullDuplex(), rc.Flush()); err != nil {
			panic(http.ErrAbortHandler)
		}
		for one := make([]byte, 1); ; {
			if _, err := r.Body.Read(one); err != nil {
				return
			}
			_, _ = w.Write(one)
			_ = rc.Flush()
		}
	})
	body, send := io.Pipe()
	response, err := http.Post(address, "", body)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for _, text := range []string{"a", "b", "c"} {
		_, _ = io.WriteString(send, text)
		got := make([]byte, 1)
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
	_ = send.Close()
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) != 0 {
		t.Errorf("and then %q, %v", rest, err)
	}
}

// When the caller goes, so does the recorder.
func TestRecorderGoesWithItsCaller(t *testing.T) {
	gone := make(chan struct{})
	_, address := behindRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	response, err := alone.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	<-gone
}
