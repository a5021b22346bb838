// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net/http"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// readable makes an answer one that can be searched for the token, and refuses it
// where that is not possible: in an encoding that was not asked for the token would
// pass unseen. So it would in a part of a text: a caller who asks for one part after
// the other (Range) could put it together. Zipped says that gzip was asked for.
//
// Pictures and other files may come in parts; a client that resumes a download
// needs it.
func readable(method string, response *http.Response, zipped bool) error {
	if method == http.MethodHead || response.ContentLength == 0 {
		return nil // there is nothing to search
	}
	if response.StatusCode == http.StatusPartialContent && rewrite.IsText(response.Header) {
		return problem.ErrUnreachable.Because("a part of a text is not passed on")
	}
	encodings := response.Header["Content-Encoding"]
	switch {
	case response.StatusCode == http.StatusIMUsed: // another header tells the encoding (RFC 3229)
	case len(encodings) == 0, len(encodings) == 1 && strings.EqualFold(encodings[0], "identity"):
		return nil
	case len(encodings) == 1 && zipped && strings.EqualFold(encodings[0], "gzip"):
		rewrite.Gunzip(response)
		return nil
	}
	return problem.ErrUnreachable.Because("its answer is in an encoding that was not asked for")
}
