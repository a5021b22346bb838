// SPDX-License-Identifier: Apache-2.0

package calls_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtest"
	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const uploadPath = "/cgi-bin/media/upload"

// written is a call over a connection of its own, as Java's HttpURLConnection and
// Python's http.client make it: the answer is read when all of the request was
// written, and not at all if that fails.
type written struct {
	t    testing.TB
	conn net.Conn
}

// begin sends the header of a POST. A negative length makes it chunked, and more
// are further lines of the header.
func begin(t testing.TB, g *gwtest.Gateway, target string, length int, header http.Header, more ...string) written {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.Proxy, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // only a failure takes it
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: gateway\r\n", target)
	_ = header.Write(conn)
	for _, line := range more {
		fmt.Fprintf(conn, "%s\r\n", line)
	}
	if length < 0 {
		fmt.Fprint(conn, "Transfer-Encoding: chunked\r\n\r\n")
	} else {
		fmt.Fprintf(conn, "Content-Length: %d\r\n\r\n", length)
	}
	return written{t, conn}
}

// send writes bytes of the body.
func (c written) send(data []byte) error {
	_, err := c.conn.Write(data)
	return err
}

// chunks returns a body in chunks.
func chunks(body []byte) []byte {
	var out bytes.Buffer
	for len(body) > 0 {
		n := min(len(body), 30_000)
		fmt.Fprintf(&out, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	out.WriteString("0\r\n\r\n")
	return out.Bytes()
}

// answer reads the answer.
func (c written) answer() (status int, slug, body string, err error) {
	response, err := http.ReadResponse(bufio.NewReader(c.conn), nil)
	if err != nil {
		return 0, "", "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header.Get("Wechat-Gateway-Error"), string(text), err
}

// upload makes a whole call for an account with a client's secret.
func upload(t testing.TB, g *gwtest.Gateway, clientSecret, appid, contentType string, body []byte, chunked bool) (status int, slug, text string) {
	t.Helper()
	header := gwtest.Bearer(clientSecret, appid)
	header.Set("Content-Type", contentType)
	length := len(body)
	if chunked {
		length, body = -1, chunks(body)
	}
	c := begin(t, g, uploadPath+"?type=image", length, header)
	if err := c.send(body); err != nil {
		t.Fatalf("the upload was cut off: %v", err)
	}
	status, slug, text, err := c.answer()
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return status, slug, text
}

// deadAccount authorises an account of its own, whose token the gateway has and WeChat
// has killed: how often rejected tokens are renewed is limited for each account.
func deadAccount(t testing.TB, g *gwtest.Gateway) string {
	t.Helper()
	appid := fmt.Sprintf("wx%016x", accounts.Add(1))
	if err := g.WeChat.AddAccount(sandbox.Account{AppID: appid}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.WeChat.Authorize(t.Context(), appid); err != nil {
		t.Fatal(err)
	}
	wantSoon(t, "a call for the account succeeds", func() bool {
		return g.Ask(http.MethodGet, gwtest.AuthorizerPath, "", gwtest.Bearer(gwtest.ClientSecret, appid)).ErrCode == 0
	})
	g.WeChat.KillTokens(appid)
	g.WeChat.ResetCounts()
	return appid
}

// accounts is how many accounts deadAccount has made.
var accounts atomic.Int64

// wantArrived fails the test unless WeChat's last call to the path had this body.
func wantArrived(t testing.TB, g *gwtest.Gateway, body []byte) {
	t.Helper()
	calls := callsOf(g, uploadPath)
	digest := sha256.Sum256(body)
	if last := calls[len(calls)-1]; last.BodySHA256 != hex.EncodeToString(digest[:]) {
		t.Errorf("WeChat got %d bytes, which are not the %d that were sent", last.BodySize, len(body))
	}
}

// The real token is dead, and WeChat says so after an upload, or before it has read
// it, and then reads on or closes the connection. The client never learns of it.
func TestKilledTokenDuringAnUploadIsNotNoticed(t *testing.T) {
	for _, proto := range []string{"plain", "TLS", "HTTP/2"} {
		t.Run(proto, func(t *testing.T) {
			g := startOver(t, proto, nil)
			for _, early := range []string{"no", "read", "close"} {
				for _, size := range []int{100_000, 3 << 20, 10 << 20} {
					for _, chunked := range []bool{false, true} {
						t.Run(fmt.Sprintf("early %q, %d bytes, chunked %v", early, size, chunked), func(t *testing.T) {
							killedDuringUpload(t, g, early, size, chunked)
						})
					}
				}
			}
		})
	}
}

func killedDuringUpload(t *testing.T, g *gwtest.Gateway, early string, size int, chunked bool) {
	contentType, text := gwtest.UploadForm(t, size)
	appid := deadAccount(t, g)
	g.WeChat.Inject(sandbox.Fault{Path: uploadPath, Early: early, Times: 1})
	status, slug, answer := upload(t, g, gwtest.ClientSecret, appid, contentType, []byte(text), chunked)
	if status != 200 || slug != "" || !strings.Contains(answer, `"media_id"`) {
		t.Fatalf("answered %d %q %s", status, slug, answer)
	}
	wantArrived(t, g, []byte(text))
	if n := g.WeChat.Count(uploadPath); n != 2 {
		t.Errorf("WeChat saw %d calls, want 2", n)
	}
}

// WeChat rejects the token when half of the body has come. The second attempt begins
// with that half while the client sends the other one.
func TestEarlyRejectionIsRepeatedWithTheRestAsItComes(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcde\n"), 2<<16) // 2 MiB
	half := len(body) / 2
	var calls atomic.Int32
	halfArrived, whole := make(chan struct{}), make(chan string, 2)
	g := gwtest.StartWithRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{uploadPath: func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if calls.Add(1) == 1 {
			_, _ = io.ReadFull(r.Body, make([]byte, 1))
			gwtest.Answer("application/json", `{"errcode":40001,"errmsg":"invalid credential"}`, false)(w, r)
			w.(http.Flusher).Flush()
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		first := make([]byte, half)
		if _, err := io.ReadFull(r.Body, first); err != nil {
			panic(http.ErrAbortHandler)
		}
		close(halfArrived)
		rest, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		whole <- string(first) + string(rest)
		gwtest.AnswerOK(w, r)
	}})
	g.WeChat.KillTokens(gwtest.OfficialAccount)
	c := begin(t, g, uploadPath, len(body), gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if err := c.send(body[:half]); err != nil {
		t.Fatal(err)
	}
	select {
	case <-halfArrived:
	case <-time.After(20 * time.Second):
		t.Fatal("the second attempt waits for all of the body")
	}
	if err := c.send(body[half:]); err != nil {
		t.Fatal(err)
	}
	if status, slug, answer, err := c.answer(); err != nil || status != 200 || slug != "" || !strings.Contains(answer, `"errcode":0`) {
		t.Errorf("answered %d %q %s, %v", status, slug, answer, err)
	}
	if got := <-whole; got != string(body) {
		t.Errorf("WeChat got %d other bytes than the %d that were sent", len(got), len(body))
	}
}

// What is too long, or does not fit into the client's share of memory, streams all
// the same. It is not repeated, and the client is not told that its token is bad. The
// token is renewed, so that its own repetition succeeds.
func TestAnUploadThatIsNotKept(t *testing.T) {
	for _, row := range []struct{ name, wechat, proxy string }{
		{"longer than max_replay_body", "", "max_replay_body 200KiB"},
		{"more than the client's share", "replay_memory 1MiB", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := gwtest.StartWithTokens(t, gwtest.Options{Wechat: row.wechat, Proxy: row.proxy})
			for _, early := range []string{"no", "read", "close"} {
				for _, chunked := range []bool{false, true} {
					t.Run(fmt.Sprintf("early %q, chunked %v", early, chunked), func(t *testing.T) { notKept(t, g, early, chunked) })
				}
			}
		})
	}
}

func notKept(t *testing.T, g *gwtest.Gateway, early string, chunked bool) {
	contentType, text := gwtest.UploadForm(t, 300_000)
	appid := deadAccount(t, g)
	g.WeChat.Inject(sandbox.Fault{Path: uploadPath, Early: early, Times: 1})
	status, slug, answer := upload(t, g, gwtest.ClientSecret, appid, contentType, []byte(text), chunked)
	kept := early != "no" && status == 200 // what had come until WeChat answered did fit
	if !kept && (status != 503 || slug != "not_kept" || !strings.Contains(answer, `"errcode":-1,`)) {
		t.Errorf("answered %d %q %s", status, slug, answer)
	}
	if n := g.WeChat.Count(uploadPath); !kept && n != 1 {
		t.Errorf("WeChat saw %d calls, want 1", n)
	}
	if n := g.WeChat.Count(gwtest.RenewalPath); n != 1 {
		t.Errorf("%d renewals, want 1", n)
	}
	status, slug, answer = upload(t, g, gwtest.ClientSecret, appid, contentType, []byte(text), chunked)
	if status != 200 || slug != "" || !strings.Contains(answer, `"media_id"`) {
		t.Errorf("its own repetition is answered %d %q %s", status, slug, answer)
	}
	wantArrived(t, g, []byte(text))
}

const otherSecret = "other-secret-0123456789abcdef0123456789"

const twoClients = gwtest.ShopClient + `
client other {
	secret ` + otherSecret + `
	authorizers *
}`

// A client whose uploads have taken its share of memory takes nobody else's: not with
// any number of them. When they end, whichever way, the share is free again.
func TestOneClientsUploadsTakeNobodyElsesRepetition(t *testing.T) {
	var arrived atomic.Int32
	var g *gwtest.Gateway
	g = gwtest.StartWithRoutes(t, gwtest.Options{Wechat: "replay_memory 1MiB", Clients: twoClients}, map[string]http.HandlerFunc{
		uploadPath: func(w http.ResponseWriter, r *http.Request) {
			// WeChat reads the body after it has taken the fault that is meant for this call.
			r.Body = reading{r.Body, sync.OnceFunc(func() { arrived.Add(1) })}
			g.WeChat.ServeHTTP(w, r)
		},
	})
	contentType, text := gwtest.UploadForm(t, 250_000) // all four chunks of a share
	header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	header.Set("Content-Type", contentType)
	repeated := func(clientSecret string) bool {
		t.Helper()
		status, slug, answer := upload(t, g, clientSecret, deadAccount(t, g), contentType, []byte(text), false)
		if status != 200 && slug != "not_kept" {
			t.Errorf("answered %d %q %s", status, slug, answer)
		}
		return status == 200
	}
	endings := map[string]func(c written){
		"answered": func(c written) {
			_ = c.send([]byte(text[200_000:]))
			if status, _, answer, err := c.answer(); err != nil || status != 200 {
				t.Errorf("answered %d %s, %v", status, answer, err)
			}
		},
		"broken off": func(c written) { c.conn.Close() },
		"answered with half an answer": func(c written) {
			_ = c.send([]byte(text[200_000:]))
			if _, _, answer, err := c.answer(); err == nil {
				t.Errorf("answered %s", answer)
			}
		},
	}
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			if name == "answered with half an answer" {
				g.WeChat.Inject(sandbox.Fault{Path: uploadPath, CutHalf: true, Times: 3})
			}
			var slow []written
			for before := arrived.Load(); len(slow) < 3; {
				c := begin(t, g, uploadPath, len(text), header)
				if err := c.send([]byte(text[:200_000])); err != nil {
					t.Fatal(err)
				}
				slow = append(slow, c)
				wantSoon(t, "WeChat has the beginning of the upload", func() bool { return arrived.Load() == before+int32(len(slow)) })
			}
			wantSoon(t, "the share of the client is taken", func() bool { return !repeated(gwtest.ClientSecret) })
			if !repeated(otherSecret) {
				t.Error("another client's upload is not repeated")
			}
			for _, c := range slow {
				end(c)
			}
			wantSoon(t, "the share is free again", func() bool { return repeated(gwtest.ClientSecret) })
		})
	}
}

// reading is a body that tells that it is read.
type reading struct {
	io.ReadCloser
	begins func()
}

func (r reading) Read(p []byte) (int, error) {
	r.begins()
	return r.ReadCloser.Read(p)
}

// What is kept is let go when WeChat has not rejected the token: not when a long answer
// has ended.
func TestKeptUploadIsLetGoBeforeTheAnswerEnds(t *testing.T) {
	goOn := make(chan struct{})
	g := gwtest.StartWithRoutes(t, gwtest.Options{Wechat: "replay_memory 1MiB"}, map[string]http.HandlerFunc{"/wxa/slow": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"list":[`)
		w.(http.Flusher).Flush()
		<-goOn
	}})
	defer close(goOn)
	contentType, text := gwtest.UploadForm(t, 250_000)
	c := begin(t, g, "/wxa/slow", len(text), gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
	if err := c.send([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.conn.Read(make([]byte, 1)); err != nil { // its answer has begun
		t.Fatal(err)
	}
	if status, slug, answer := upload(t, g, gwtest.ClientSecret, deadAccount(t, g), contentType, []byte(text), false); status != 200 {
		t.Errorf("answered %d %q %s", status, slug, answer)
	}
}

// What uploads of the configuration before have taken is taken in the next one: a reload
// does not double the memory. More or less of it holds at once.
func TestReplayMemoryOutlivesAReload(t *testing.T) {
	g := gwtest.StartWithTokens(t, gwtest.Options{Wechat: "replay_memory 1MiB", Global: "grace_period 5m"})
	contentType, text := gwtest.UploadForm(t, 250_000)
	repeated := func() bool {
		status, _, _ := upload(t, g, gwtest.ClientSecret, deadAccount(t, g), contentType, []byte(text), false)
		return status == 200
	}
	header := gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount)
	header.Set("Content-Type", contentType)
	slow := begin(t, g, uploadPath, len(text), header)
	if err := slow.send([]byte(text[:200_000])); err != nil {
		t.Fatal(err)
	}
	wantSoon(t, "the share of the client is taken", func() bool { return !repeated() })
	g.Change(func(o *gwtest.Options) { o.Proxy = "max_replay_body 8MiB" })
	if repeated() {
		t.Error("after a reload there is room again")
	}
	g.Change(func(o *gwtest.Options) { o.Wechat = "replay_memory 4MiB" })
	if !repeated() {
		t.Error("there is more memory, and the upload is not kept")
	}
	g.Change(func(o *gwtest.Options) { o.Wechat = "replay_memory 1MiB" })
	if repeated() {
		t.Error("there is less memory again, and the upload is kept")
	}
	if err := slow.send([]byte(text[200_000:])); err != nil {
		t.Fatal(err)
	}
	if status, _, answer, err := slow.answer(); err != nil || status != 200 {
		t.Errorf("answered %d %s, %v", status, answer, err)
	}
	wantSoon(t, "the share is free again", repeated)
}

// wantSoon waits for a condition that no message tells of.
func wantSoon(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// WeChat has rejected the token early; while it is renewed the client goes away. WeChat
// may get the beginning once more, but never a request that looks whole.
func TestAnUploadThatBreaksOffIsNotRepeated(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		t.Run(fmt.Sprintf("chunked %v", chunked), func(t *testing.T) {
			var mu sync.Mutex
			var whole int
			rejected, goOn := make(chan struct{}), make(chan struct{})
			var g *gwtest.Gateway
			g = gwtest.StartThenRoutes(t, gwtest.Options{}, map[string]http.HandlerFunc{
				uploadPath: func(w http.ResponseWriter, r *http.Request) {
					_ = http.NewResponseController(w).EnableFullDuplex()
					_, _ = io.ReadFull(r.Body, make([]byte, 1000))
					gwtest.Answer("application/json", `{"errcode":40001,"errmsg":"invalid credential"}`, false)(w, r)
					w.(http.Flusher).Flush()
					if _, err := io.Copy(io.Discard, r.Body); err == nil {
						mu.Lock()
						whole++
						mu.Unlock()
					}
				},
				gwtest.RenewalPath: func(w http.ResponseWriter, r *http.Request) {
					close(rejected)
					<-goOn
					g.WeChat.ServeHTTP(w, r)
				},
			})
			g.WeChat.KillTokens(gwtest.OfficialAccount)
			body, length := bytes.Repeat([]byte("x"), 300_000), 300_000
			if chunked {
				body, length = chunks(body), -1
			}
			c := begin(t, g, uploadPath, length, gwtest.Bearer(gwtest.ClientSecret, gwtest.OfficialAccount))
			if err := c.send(body[:len(body)-100]); err != nil {
				t.Fatal(err)
			}
			<-rejected
			c.conn.Close()
			close(goOn)
			wantSoon(t, "nothing of the call is left", func() bool { return !forwarding(goroutines()) })
			g.WantSuccess(t, gwtest.OfficialAccount)
			mu.Lock()
			defer mu.Unlock()
			if whole > 0 {
				t.Errorf("WeChat saw %d whole requests", whole)
			}
		})
	}
}
