// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// maxHeld is the length in bytes of the longest answer that is held to withhold
// members from it.
const maxHeld = 1 << 20

// withholdMembers withholds the values of members from an answer that is JSON,
// whatever its type says: WeChat sends JSON as text/plain, too. Such an answer is
// held until it is complete. All others stream, once their first byte has arrived.
//
// The answer is refused if it is too long to be held, and if it says that it is JSON
// or begins so, but is not to its end: nobody knows what it holds.
func withholdMembers(response *http.Response, names []string) error {
	body := bufio.NewReader(response.Body)
	if !strings.Contains(strings.ToLower(response.Header.Get("Content-Type")), "json") && !beginsAsJSON(body) {
		response.Body = struct {
			io.Reader
			io.Closer
		}{body, response.Body}
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(body, maxHeld+1))
	switch {
	case err != nil:
		return err
	case len(answer) > maxHeld:
		return problem.ErrUnreachable.Because("its answer may hold credentials and is longer than %d bytes", maxHeld)
	}
	content, marked := bytes.CutPrefix(answer, byteOrderMark)
	if len(bytes.TrimSpace(content)) > 0 {
		if content, err = openapi.Withhold(content, names); err != nil {
			return problem.ErrUnreachable.Because("its answer may hold credentials and is not JSON to its end")
		}
	}
	if marked {
		content = append(bytes.Clone(byteOrderMark), content...)
	}
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(content))
	response.ContentLength = int64(len(content))
	response.Header.Set("Content-Length", strconv.Itoa(len(content)))
	return nil
}

var byteOrderMark = []byte("\uFEFF")

// beginsAsJSON reports whether the first byte of a text, after blanks and a byte
// order mark, begins an object or a list. It reads no further than it must.
func beginsAsJSON(body *bufio.Reader) bool {
	for seen := 1; ; seen++ {
		begin, err := body.Peek(seen)
		if err != nil {
			return errors.Is(err, bufio.ErrBufferFull) // with blanks: what follows them may be JSON
		}
		switch c := begin[seen-1]; {
		case bytes.HasPrefix(byteOrderMark, begin), strings.IndexByte(" \t\r\n", c) >= 0:
		default:
			return c == '{' || c == '['
		}
	}
}
