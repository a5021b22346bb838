// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Gunzip makes response one that was never compressed, if it says that it is
// by gzip. Whoever asks for that itself has to do so: http.Transport unpacks
// only what it has asked for. A text that was compressed twice and says so once
// cannot be read: nobody could search it.
func Gunzip(response *http.Response) {
	encoding := response.Header["Content-Encoding"]
	if len(encoding) != 1 || !strings.EqualFold(encoding[0], "gzip") || response.ContentLength == 0 {
		return
	}
	response.Header.Del("Content-Encoding")
	response.Header.Del("Content-Length")
	response.ContentLength, response.Uncompressed = -1, true
	response.Body = &gunzipped{body: response.Body, text: IsText(response.Header)}
}

// IsText reports whether an answer is, or may be, a text: all that is not a file of
// a known kind. A text can hold other documents, as JSON and multipart do.
func IsText(header http.Header) bool {
	for _, value := range header["Content-Type"] {
		kind, _, _ := strings.Cut(value, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
		if !isFile(kind) {
			return true
		}
	}
	return len(header["Content-Type"]) == 0
}

// isFile reports whether a media type is one of files that are no text.
func isFile(kind string) bool {
	family, name, _ := strings.Cut(kind, "/")
	switch family {
	case "image", "audio", "video", "font":
		return !strings.HasSuffix(name, "xml") // image/svg+xml
	case "application":
		switch name {
		case "octet-stream", "zip", "gzip", "x-gzip", "pdf", "msword":
			return true
		}
		return strings.HasPrefix(name, "vnd.") && !strings.HasSuffix(name, "json") && !strings.HasSuffix(name, "xml")
	}
	return false
}

// gunzipped unpacks what it reads, from the first Read on: to begin sooner
// would hold the header of a slow answer back.
type gunzipped struct {
	body io.ReadCloser
	zip  *gzip.Reader // from unzippers
	text bool         // it is a text, and nothing of it was read
	err  error        // of beginning, or that it was closed
}

var errZippedTwice = errors.New("a text that was compressed twice")

// A gzip.Reader takes 45 KB.
var unzippers = sync.Pool{New: func() any { return new(gzip.Reader) }}

func (g *gunzipped) Read(p []byte) (int, error) {
	if g.zip == nil && g.err == nil {
		g.zip = unzippers.Get().(*gzip.Reader)
		g.err = g.zip.Reset(g.body)
	}
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.zip.Read(p)
	if g.text && n > 0 {
		g.text = false
		if p[0] == gzipBegin {
			g.err = errZippedTwice
			return 0, g.err
		}
	}
	return n, err
}

// gzipBegin is the first byte of what is compressed by gzip. No text begins with
// it.
const gzipBegin = 0x1f

func (g *gunzipped) Close() error {
	if g.zip != nil {
		unzippers.Put(g.zip)
		g.zip = nil
	}
	g.err = http.ErrBodyReadAfterClose
	return g.body.Close()
}
