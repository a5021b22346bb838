// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/test/caddy"
)

// 256 uploads of 10 MB at the same time, of eight clients, half of them in chunks, cost the memory that there is
// for kept bodies, 64 MiB, and as much again for their connections. The garbage collector of a busy machine may let it
// double; all bodies together would take 2.5 GB.
func TestMemoryOfManyUploads(t *testing.T) {
	const uploads, size, most = 256, 10_000_000, 256 << 20
	weChat, n := newWeChat(t)
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/cgi-bin/media/upload" {
			weChat.ServeHTTP(w, r)
			return
		}
		if received, err := io.Copy(io.Discard, r.Body); err == nil && received == size {
			_, _ = io.WriteString(w, `{"media_id":"m"}`)
		}
	}))
	t.Cleanup(api.Close)
	n.WeChat = api.URL
	secretOf := func(client int) string { return fmt.Sprintf("upload-secret-%d-0123456789abcdef0123456789", client) }
	for client := range 8 {
		n.Clients += fmt.Sprintf("\nclient upload%d {\nsecret %s\nauthorizers *\n}\n", client, secretOf(client))
	}
	p := n.Run(t, filepath.Join(t.TempDir(), "Caddyfile"))
	p.Serves(n.Platform, n.Proxy)
	authorize(t, weChat)
	send(t, n.Proxy, token(t, n.Proxy))

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: uploads}}
	t.Cleanup(client.CloseIdleConnections)
	upload := func(by int, length int64, body io.Reader) error {
		r, err := http.NewRequest(http.MethodPost, "http://"+n.Proxy+"/cgi-bin/media/upload", body)
		if err != nil {
			return err
		}
		r.ContentLength = length
		r.Header = http.Header{"Authorization": {"Bearer " + secretOf(by)}, "Wechat-Appid": {officialAccount}}
		response, err := client.Do(r)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if answer, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(answer), "media_id") {
			return fmt.Errorf("answered %s, %v", answer, err)
		}
		return nil
	}
	if err := upload(0, size, io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	before := memory(t, p, "VmRSS")
	var arrived, all sync.WaitGroup // arrived: all but the last bytes of every upload were sent
	arrived.Add(uploads)
	for i := range uploads {
		all.Go(func() {
			last := &once{do: func() { arrived.Done(); arrived.Wait() }}
			length := int64(size)
			if i%16 < 8 {
				length = -1
			}
			if err := upload(i%8, length, io.MultiReader(io.LimitReader(zeros{}, size-1000), last, io.LimitReader(zeros{}, 1000))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	grown := memory(t, p, "VmHWM") - before
	t.Logf("memory grew from %d MiB by %d MiB", before>>20, grown>>20)
	if grown > most {
		t.Errorf("memory grew by %d MiB, want at most %d", grown>>20, most>>20)
	}
}

// zeros is a body without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// once is an empty reader that does something when it is read.
type once struct{ do func() }

func (o *once) Read([]byte) (int, error) {
	if o.do != nil {
		o.do()
		o.do = nil
	}
	return 0, io.EOF
}

// memory returns a figure of the process's memory in bytes.
func memory(t *testing.T, p *caddy.Process, figure string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Skip("needs Linux: ", err)
	}
	_, rest, _ := strings.Cut(string(status), figure+":")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes << 10
}
