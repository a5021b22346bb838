// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// echoed is an answer that repeats the request, as proxies and error pages do.
type echoed struct {
	status   int
	encoding string // a Content-Encoding, whether it was asked for or not
	text     string
}

// echo makes the answer of Fault.Echo.
func (f Fault) echo(x *exchange) echoed {
	body, _ := io.ReadAll(io.LimitReader(x.body, maxJSON)) // what has arrived
	text := fmt.Sprintf("%s %s\n%s", x.r.Method, x.r.RequestURI, body)
	out := echoed{status: or(f.Status, http.StatusOK)}
	for _, way := range strings.Fields(f.Echo) {
		switch way {
		case "percent":
			text = escapeAll("%%%02X", text)
		case "json":
			text = `{"errcode":0,"errmsg":"` + escapeAll(`\u%04x`, text) + `"}`
		case "html":
			text = "<p>" + escapeAll("&#%d;", text)
		case "base64":
			text = base64.StdEncoding.EncodeToString([]byte(text))
		case "hex":
			text = hex.EncodeToString([]byte(text))
		case "gzip":
			text, out.encoding = compress(text), out.encoding+", gzip"
		case "deflate":
			text, out.encoding = deflate(text), out.encoding+", deflate"
		}
	}
	out.encoding = strings.TrimPrefix(out.encoding, ", ")
	out.text = text
	return out
}

// escapeAll writes every byte of a text in a form of fmt.
func escapeAll(form, text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		fmt.Fprintf(&out, form, c)
	}
	return out.String()
}

func deflate(text string) string {
	var out bytes.Buffer
	zip := zlib.NewWriter(&out)
	_, _ = io.WriteString(zip, text)
	_ = zip.Close()
	return out.String()
}

// surplusTimeout is how long surplus waits for the caller to close the connection.
const surplusTimeout = time.Second

// surplus sends a second answer behind the one that was sent, and then nothing. In
// HTTP/2 there is no such place.
func surplus(w http.ResponseWriter) {
	control := http.NewResponseController(w)
	_ = control.Flush() // if it fails, there is no connection any more
	conn, _, err := control.Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(surplusTimeout))
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 32\r\n\r\n"+`{"errcode":0,"errmsg":"surplus"}`)
	_, _ = io.Copy(io.Discard, conn) // until the caller closes it
}
