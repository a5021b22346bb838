// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

// upload sends content as the multipart file `media`.
func (w *world) upload(target string, content io.Reader) answer {
	w.t.Helper()
	body, pipe := io.Pipe()
	form := multipart.NewWriter(pipe)
	go func() {
		part, err := form.CreateFormFile("media", "photo.jpg")
		if err == nil {
			_, err = io.Copy(part, content)
		}
		if err == nil {
			err = form.Close()
		}
		_ = pipe.CloseWithError(err)
	}()
	r, err := http.NewRequest("POST", "https://api.weixin.qq.com"+target, body)
	w.must(err)
	r.Header.Set("Content-Type", form.FormDataContentType())
	response, err := w.client.Do(r)
	w.must(err)
	defer response.Body.Close()
	var a answer
	w.must(json.NewDecoder(response.Body).Decode(&a))
	return a
}

// pattern is n bytes that are not the same everywhere.
func pattern(n int) []byte {
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(i % 241)
	}
	return content
}

func TestMediaComesBackAsItWent(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token, _ := w.authorizer(w.componentToken(), official)
	content := pattern(3<<20 + 17)
	up := w.upload("/cgi-bin/media/upload?type=image&access_token="+token, bytes.NewReader(content))
	if up.text("type") != "image" || up.text("media_id") == "" {
		t.Fatalf("upload %v", up)
	}
	response, got := w.do("GET", "/cgi-bin/media/get?media_id="+up.text("media_id")+"&access_token="+token, "")
	if got != string(content) || response.Header.Get("Content-Disposition") != `attachment; filename="photo.jpg"` {
		t.Errorf("%d bytes came back, %v", len(got), response.Header)
	}
	_, got = w.do("POST", "/cgi-bin/material/get_material?access_token="+token, `{"media_id":"`+up.text("media_id")+`"}`)
	if got != string(content) {
		t.Errorf("%d bytes came back from get_material", len(got))
	}
	video := w.upload("/cgi-bin/media/upload?type=video&access_token="+token, strings.NewReader("film"))
	if got := w.get("/cgi-bin/media/get?media_id=" + video.text("media_id") + "&access_token=" + token); got.text("video_url") == "" {
		t.Errorf("a video is answered with %v", got)
	}
	w.wantCode("an unknown media_id", w.get("/cgi-bin/media/get?media_id=x&access_token="+token), 40007)
	w.wantCode("no file", w.post("/cgi-bin/media/upload?type=image&access_token="+token, "x"), 41005)
	if image := w.upload("/cgi-bin/media/uploadimg?access_token="+token, bytes.NewReader(content)); image.text("url") == "" {
		t.Errorf("uploadimg %v", image)
	}
}

func TestTheOldestMediaIsForgotten(t *testing.T) {
	w := newWorld(t, sandbox.Config{MediaBytes: 1000})
	token, _ := w.authorizer(w.componentToken(), official)
	var ids []string
	for range 3 {
		ids = append(ids, w.upload("/cgi-bin/media/upload?access_token="+token, bytes.NewReader(pattern(400))).text("media_id"))
	}
	for i, code := range []int{40007, 0, 0} {
		_, body := w.do("GET", "/cgi-bin/media/get?media_id="+ids[i]+"&access_token="+token, "")
		if strings.Contains(body, "40007") != (code != 0) {
			t.Errorf("upload %d: %.40q", i, body)
		}
	}
	w.wantCode("one too large by itself", w.upload("/cgi-bin/media/upload?access_token="+token, bytes.NewReader(pattern(1001))), 45001)
}

func TestALargeDownloadIsStreamed(t *testing.T) {
	const size = 100 << 20
	w := newWorld(t, sandbox.Config{})
	token, _ := w.authorizer(w.componentToken(), official)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	response, err := w.client.Get("https://api.weixin.qq.com/cgi-bin/media/get?media_id=" + sandbox.GeneratedMedia(size) + "&access_token=" + token)
	w.must(err)
	defer response.Body.Close()
	head := make([]byte, 300)
	_, err = io.ReadFull(response.Body, head)
	w.must(err)
	rest, err := io.Copy(io.Discard, response.Body)
	w.must(err)
	if response.ContentLength != size || rest+300 != size || head[250] != 250 || head[251] != 0 {
		t.Errorf("stated %d, got %d, begins %v", response.ContentLength, rest+300, head[248:254])
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes allocated for a streamed download", grown)
	}
}

func TestUploadsAreCountedAndHashedNotKept(t *testing.T) {
	w := newWorld(t, sandbox.Config{})
	token, _ := w.authorizer(w.componentToken(), official)
	content := pattern(20 << 20)
	r, err := http.NewRequest("POST", "https://api.weixin.qq.com/wxa/uploadmedia?access_token="+token, bytes.NewReader(content))
	w.must(err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	response, err := w.client.Do(r)
	w.must(err)
	response.Body.Close()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes allocated for an upload", grown)
	}
	sum := sha256.Sum256(content)
	calls := w.Calls()
	if last := calls[len(calls)-1]; last.BodySize != int64(len(content)) || last.BodySHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("noted %d bytes, %s", last.BodySize, last.BodySHA256)
	}
}
