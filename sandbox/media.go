// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strconv"
	"strings"
)

// mediaChunk is the piece in which uploads are stored: a growing buffer would
// hold a large one twice.
const mediaChunk = 1 << 20

// generatedPrefix names media that needs no upload: generated-N is N bytes, of
// which byte i is i modulo 251.
const generatedPrefix = "generated-"

// GeneratedMedia is the media_id of n made-up bytes, for downloads of any size.
// Byte i is i modulo 251.
func GeneratedMedia(n int64) (mediaID string) { return fmt.Sprint(generatedPrefix, n) }

// media is an uploaded file.
type media struct {
	name, contentType string
	kind              string // type of the upload, such as image or video
	chunks            [][]byte
	size              int64
}

// mediaStore keeps uploads by media_id, the newest up to limit bytes.
type mediaStore struct {
	limit, size int64
	byID        map[string]*media
	order       []string
}

func newMediaStore(limit int64) mediaStore {
	return mediaStore{limit: limit, byID: map[string]*media{}}
}

func (m *mediaStore) put(id string, item *media) {
	m.byID[id] = item
	m.order = append(m.order, id)
	for m.size += item.size; m.size > m.limit; m.order = m.order[1:] {
		m.size -= m.byID[m.order[0]].size
		delete(m.byID, m.order[0])
	}
}

// mediaUpload is media/upload and material/add_material.
func (s *Sandbox) mediaUpload(x *exchange) (any, error) {
	part, err := x.filePart()
	if err != nil {
		return nil, err
	}
	item := &media{name: part.FileName(), contentType: part.Header.Get("Content-Type"), kind: x.query.Get("type")}
	if err := item.read(part, s.cfg.MediaBytes); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, x.body); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := random("MEDIA-", 64)
	s.media.put(id, item)
	return object{"type": item.kind, "media_id": id, "created_at": s.cfg.Now().Unix()}, nil
}

// filePart finds the file in a multipart body, usually the field `media`.
func (x *exchange) filePart() (*multipart.Part, error) {
	x.r.Body = io.NopCloser(x.body)
	parts, err := x.r.MultipartReader()
	if err != nil {
		return nil, refuse(41005, "media data missing")
	}
	for {
		part, err := parts.NextPart()
		switch {
		case errors.Is(err, io.EOF):
			return nil, refuse(41005, "media data missing")
		case err != nil:
			return nil, refuse(47001, "data format error")
		case part.FileName() != "":
			return part, nil
		}
	}
}

func (m *media) read(from io.Reader, limit int64) error {
	for {
		chunk := make([]byte, mediaChunk)
		n, err := io.ReadFull(from, chunk)
		m.chunks, m.size = append(m.chunks, chunk[:n]), m.size+int64(n)
		switch {
		case m.size > limit:
			return refuse(45001, "media size out of limit")
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return refuse(47001, "data format error")
		}
	}
}

func (m *media) reader() io.Reader {
	readers := make([]io.Reader, len(m.chunks))
	for i, chunk := range m.chunks {
		readers[i] = bytes.NewReader(chunk)
	}
	return io.MultiReader(readers...)
}

// uploadImage is media/uploadimg: the file is counted, not kept.
func (s *Sandbox) uploadImage(x *exchange) (any, error) {
	if _, err := x.filePart(); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, x.body); err != nil {
		return nil, err
	}
	return object{"url": "http://mmbiz.qpic.cn/sandbox/" + random("", 24) + "/0"}, nil
}

// mediaGet is media/get and material/get_material: binary, but JSON for videos.
func (s *Sandbox) mediaGet(x *exchange) (any, error) {
	id := x.query.Get("media_id")
	if x.r.Method == post {
		var body struct {
			MediaID string `json:"media_id"`
		}
		if err := x.decode(&body); err != nil {
			return nil, err
		}
		id = body.MediaID
	}
	if digits, generated := strings.CutPrefix(id, generatedPrefix); generated {
		if size, err := strconv.ParseInt(digits, 10, 64); err == nil && size >= 0 {
			return &download{"application/octet-stream", id + ".bin", size, io.LimitReader(&counting{}, size)}, nil
		}
	}
	s.mu.Lock()
	item := s.media.byID[id]
	s.mu.Unlock()
	switch {
	case item == nil:
		return nil, refuse(40007, "invalid media_id")
	case item.kind == "video":
		return object{"video_url": "http://video.sandbox.invalid/" + id}, nil
	}
	return &download{or(item.contentType, "application/octet-stream"), item.name, item.size, item.reader()}, nil
}

// counting yields 0, 1, … 250, 0, … for ever.
type counting struct{ next int }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(c.next)
		if c.next++; c.next == 251 {
			c.next = 0
		}
	}
	return len(p), nil
}
