// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

const (
	// maxParameters is the largest body, in bytes, of a call that the gateway
	// answers itself. The body is held in memory, also that of a caller without
	// a valid secret. That of a login is one of these bodies.
	maxParameters = 16 << 10
	// bodyTimeout is the time in which such a body must arrive as a whole: a
	// caller that sends a byte now and then would otherwise keep its connection,
	// and a stopping process, for as long as it likes.
	bodyTimeout = 10 * time.Second
)

// parameters reads the parameters of a call from the query and from the body. If
// both have a parameter, the value in the body is used. It waits until the body has
// arrived, at most bodyTimeout. Its errors are problems: ErrTooLarge (413) and
// ErrBadRequest (47001).
func (g *Gateway) parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.ErrBadRequest.Because("the query is malformed")
	}
	posted, err := g.posted(w, r)
	if err != nil {
		return nil, err
	}
	for name, values := range posted {
		form[name] = append(values, form[name]...)
	}
	return form, nil
}

// posted reads the parameters in the body of a call, which is JSON, a form or a
// multipart form: applications and SDKs use all of them. A blank body has none. It
// waits and fails as parameters does.
func (g *Gateway) posted(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	// A ResponseWriter that has no deadlines returns an error. The body is then
	// read without one.
	from := g.Address(r).String()
	if !g.bodies.Begin(from) {
		panic(http.ErrAbortHandler)
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	r.Header.Del("Expect") // the first Read answers it
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxParameters))
	g.bodies.End(from)
	if err != nil {
		return nil, problem.OfBody(err)
	}
	_ = control.SetReadDeadline(time.Time{}) // a deadline that passes now would cancel the request
	r.Body = http.NoBody                     // nothing is left, see problem.Unread
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil, nil
	}
	values, err := decoded(body, r.Header.Get("Content-Type"))
	if err != nil {
		return nil, problem.ErrBadRequest.Because("the body is neither JSON nor a form")
	}
	return values, nil
}

// decoded reads a body of a content type. One that begins with "{" is JSON even if
// its type says that it is a form: curl -d sends that type unless it is told another
// one. Files in a multipart form are ignored.
func decoded(body []byte, contentType string) (url.Values, error) {
	kind, options, _ := mime.ParseMediaType(contentType)
	switch {
	case body[0] == '{':
		return members(body)
	case kind == "application/x-www-form-urlencoded":
		return url.ParseQuery(string(body))
	case kind == "multipart/form-data":
		form, err := multipart.NewReader(bytes.NewReader(body), options["boundary"]).ReadForm(maxParameters)
		if err != nil {
			return nil, err
		}
		return form.Value, form.RemoveAll()
	}
	return members(body)
}

// members reads the members of a JSON object as texts: 5 and "5" are the same,
// and null counts as missing. If a name occurs twice, the last value is used.
// That is safe, because the body is not sent to WeChat: no second reader can
// use the other value.
func members(body []byte) (url.Values, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		return nil, err
	}
	form := make(url.Values)
	for name, raw := range object {
		var text string
		if string(raw) == "null" || json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		if text = strings.TrimSpace(text); text != "null" {
			form.Set(name, text)
		}
	}
	return form, nil
}
