// SPDX-License-Identifier: Apache-2.0

package rewrite

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
)

// Gunzip makes response one that was never compressed, if it says that it is
// by gzip. Whoever asks for that itself has to do so: http.Transport unpacks
// only what it has asked for.
func Gunzip(response *http.Response) {
	encoding := response.Header["Content-Encoding"]
	if len(encoding) != 1 || !strings.EqualFold(encoding[0], "gzip") || response.ContentLength == 0 {
		return
	}
	response.Header.Del("Content-Encoding")
	response.Header.Del("Content-Length")
	response.ContentLength, response.Uncompressed = -1, true
	response.Body = &gunzipped{body: response.Body}
}

// gunzipped unpacks what it reads, from the first Read on: to begin sooner
// would hold the header of a slow answer back.
type gunzipped struct {
	body io.ReadCloser
	zip  *gzip.Reader // from unzippers
	err  error        // of beginning, or that it was closed
}

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
	return g.zip.Read(p)
}

func (g *gunzipped) Close() error {
	if g.zip != nil {
		unzippers.Put(g.zip)
		g.zip = nil
	}
	g.err = http.ErrBodyReadAfterClose
	return g.body.Close()
}
