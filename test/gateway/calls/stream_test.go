// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	large    = 100 << 20 // bytes of a large body
	maxGrown = 16 << 20  // bytes of memory that it may cost
	maxKept  = 16 << 20  // and what is kept of one whose length is not known, until it is too long
)

// liveHeap is what a garbage collection leaves.
func liveHeap() int64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// gauge passes a body through, hashes it, and measures memory ten times on the
// way: at any one of them a copy of the body, or of what has passed of it,
// would show.
type gauge struct {
	from   io.Reader
	hash   [sha256.Size]byte
	passed int64
	peak   int64
}

func (g *gauge) drain() error {
	digest := sha256.New()
	defer func() { digest.Sum(g.hash[:0]) }()
	chunk := make([]byte, 64<<10)
	for next := int64(1); ; {
		n, err := g.from.Read(chunk)
		digest.Write(chunk[:n])
		if g.passed += int64(n); g.passed >= next {
			next += large / 10
			g.peak = max(g.peak, liveHeap())
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// pattern is the sandbox's made-up content: byte i is i modulo 251.
func pattern(n int64) io.Reader {
	block := make([]byte, 251<<8)
	for i := range block {
		block[i] = byte(i % 251)
	}
	return io.LimitReader(&repeating{block: block}, n)
}

type repeating struct {
	block []byte
	at    int
}

func (r *repeating) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

func patternHash(t *testing.T, n int64) [sha256.Size]byte {
	t.Helper()
	whole := gauge{from: pattern(n)}
	if err := whole.drain(); err != nil {
		t.Fatal(err)
	}
	return whole.hash
}

// Uploads and downloads pass through: the gateway never holds more of one than
// a little, whatever its size.
func TestLargeBodiesAreStreamed(t *testing.T) {
	received := make(chan *gauge, 1)
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{"/wxa/upload": func(w http.ResponseWriter, r *http.Request) {
		up := &gauge{from: r.Body}
		if err := up.drain(); err != nil {
			panic(http.ErrAbortHandler)
		}
		received <- up
		gwtest.AnswerOK(w, r)
	}})
	want := patternHash(t, large)
	before := liveHeap()
	check := func(t *testing.T, seen *gauge, kept int64) {
		t.Helper()
		if seen.passed != large || seen.hash != want {
			t.Errorf("%d bytes arrived, not as they were sent", seen.passed)
		}
		if grown := seen.peak - before; grown > maxGrown+kept {
			t.Errorf("memory grew by %d MB", grown>>20)
		}
		t.Logf("memory grew by %d KB", (seen.peak-before)>>10)
	}

	for _, length := range []int64{large, -1} {
		t.Run(fmt.Sprintf("upload of length %d", length), func(t *testing.T) {
			r, err := http.NewRequest(http.MethodPost, g.Proxy+"/wxa/upload", pattern(large))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength, r.Header = length, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			kept := int64(0)
			if length < 0 {
				kept = maxKept
			}
			check(t, <-received, kept)
		})
	}
	t.Run("download", func(t *testing.T) {
		r, err := http.NewRequest(http.MethodGet, g.Proxy+"/cgi-bin/media/get?media_id="+sandbox.GeneratedMedia(large), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if got := response.Header.Get("Content-Length"); got != strconv.Itoa(large) {
			t.Errorf("Content-Length %s", got)
		}
		down := &gauge{from: response.Body}
		if err := down.drain(); err != nil {
			t.Fatal(err)
		}
		check(t, down, 0)
	})
}

// An answer is passed on as it arrives: the client has the beginning while
// WeChat still thinks about the rest, whatever the answer is.
func TestAnswersAreNotHeldBack(t *testing.T) {
	var begin func(http.ResponseWriter)
	var rest []byte
	goOn := make(chan struct{})
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		begin(w)
		w.(http.Flusher).Flush()
		select {
		case <-goOn:
			_, _ = w.Write(rest)
		case <-r.Context().Done():
		}
	}})
	write := func(contentType, encoding string, data []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", contentType)
			if encoding != "" {
				w.Header().Set("Content-Encoding", encoding)
			}
			_, _ = w.Write(data)
		}
	}
	var compressed bytes.Buffer
	zip := gzip.NewWriter(&compressed)
	_, _ = io.WriteString(zip, `{"list":[1,`)
	_ = zip.Flush()
	beginning := bytes.Clone(compressed.Bytes())
	_ = zip.Close()
	for name, first := range map[string]func(http.ResponseWriter){
		"JSON":            write("application/json", "", []byte(`{"list":[1,`)),
		"a JSON list":     write("application/json", "", []byte(`[`)),
		"another errcode": write("application/json", "", []byte(`{"errcode":0,`)),
		"compressed JSON": write("application/json", "gzip", beginning),
		"text":            write("text/plain", "", []byte(`h`)),
		"a picture":       write("image/png", "", []byte{0x89}),
		"bytes like JSON": write("application/octet-stream", "", []byte(`{"data":{`)),
		"a file":          write("application/octet-stream", "", []byte(`{!`)),
	} {
		t.Run(name, func(t *testing.T) {
			begin, rest = first, nil
			if name == "compressed JSON" {
				rest = compressed.Bytes()[len(beginning):]
			}
			r, err := http.NewRequest(http.MethodGet, g.Proxy+gwtest.SendPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			r.Header.Set("Accept-Encoding", "gzip")
			client := &http.Client{Timeout: 10 * time.Second} // only a failure takes it
			defer client.CloseIdleConnections()
			response, err := client.Do(r)
			if err != nil {
				t.Fatal("the beginning was held back: ", err)
			}
			defer response.Body.Close()
			if _, err := response.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal("the first byte was held back: ", err)
			}
			goOn <- struct{}{}
			if _, err := io.ReadAll(response.Body); err != nil {
				t.Error(err)
			}
		})
	}
}

// WeChat gets the beginning of an upload while the client still sends, whether it is
// kept for a repetition or not: of one that says how long it is as soon as net/http
// writes anything (4 KiB), of another one when it is longer than bodies that are in
// memory anyway.
func TestUploadsAreNotHeldBack(t *testing.T) {
	for _, row := range []struct {
		name  string
		limit string
		size  int64 // that is announced; -1 for none
		first int   // bytes after which the client waits until WeChat has something
	}{
		{"kept", "16MiB", 100_000, 8 << 10},
		{"too long to be kept", "70KiB", 100_000, 8 << 10},
		{"of unknown length, kept", "16MiB", -1, 64<<10 + 1},
		{"of unknown length, too long to be kept", "1KiB", -1, 1<<10 + 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			arrived := make(chan struct{})
			g := gwtest.StartWithRoutes(t, gwtest.Options{Proxy: "max_replay_body " + row.limit}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
				if _, err := r.Body.Read(make([]byte, 1)); err != nil {
					panic(http.ErrAbortHandler)
				}
				close(arrived)
				_, _ = io.Copy(io.Discard, r.Body)
				gwtest.AnswerOK(w, r)
			}})
			body, send := io.Pipe()
			go func() {
				_, _ = send.Write(make([]byte, row.first))
				select {
				case <-arrived:
					_, _ = send.Write(make([]byte, 100_000-row.first))
					_ = send.Close()
				case <-time.After(10 * time.Second): // only a failure takes it
					_ = send.CloseWithError(errors.New("the beginning was held back"))
				}
			}()
			r, err := http.NewRequest(http.MethodPost, g.Proxy+gwtest.SendPath, body)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength, r.Header = row.size, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != 200 {
				t.Errorf("answered %d", response.StatusCode)
			}
		})
	}
}

// As many connections are kept as calls are made at once: with Caddy's 32, most
// of a hundred would have to dial each time.
func TestConnectionsAreKept(t *testing.T) {
	const callers = 100
	arrived, goOn := make(chan string, callers), make(chan struct{}, callers)
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{gwtest.SendPath: func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.RemoteAddr
		<-goOn // when all have arrived
		gwtest.AnswerOK(w, r)
	}})
	known := make(map[string]bool)
	for range 50 { // a connection may not be idle again at once
		before := len(known)
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				if answer := g.Ask(http.MethodGet, gwtest.SendPath, "", gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)); answer.ErrCode != 0 {
					t.Errorf("answered %s", answer.Body)
				}
			})
		}
		for range callers {
			known[<-arrived] = true
		}
		for range callers {
			goOn <- struct{}{}
		}
		if all.Wait(); len(known) == before {
			return
		}
	}
	t.Errorf("%d connections were made for %d calls at once", len(known), callers)
}
