// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

const (
	// maxParameters is the largest body, in bytes, of a call that the gateway
	// answers itself. The body is held in memory, also that of a caller without
	// a valid secret.
	maxParameters = 16 << 10
	// bodyTimeout is the time in which such a body must arrive as a whole: a
	// caller that sends a byte now and then would otherwise keep its connection,
	// and a stopping process, for as long as it likes.
	bodyTimeout = 10 * time.Second
)

// parameters reads the parameters of a call from the query and from the body,
// which is JSON or a form. SDKs use all three. If both have a parameter, the
// value in the body is used. It waits until the body has arrived, at most
// bodyTimeout. Its errors are problems: ErrTooLarge (413) and ErrBadRequest
// (47001).
//
// A body that begins with "{" is JSON even if its type says that it is a form:
// curl -d sends that type unless it is told another one.
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.ErrBadRequest.Because("the query is malformed")
	}
	// A ResponseWriter that has no deadlines returns an error. The body is then
	// read without one.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxParameters))
	if err != nil {
		return nil, problem.OfBody(err)
	}
	_ = control.SetReadDeadline(time.Time{}) // a deadline that passes now would cancel the request
	if len(body) == 0 {
		return form, nil
	}
	var posted url.Values
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" && body[0] != '{' {
		posted, err = url.ParseQuery(string(body))
	} else {
		posted, err = members(body)
	}
	if err != nil {
		return nil, problem.ErrBadRequest.Because("the body is neither JSON nor a form")
	}
	for name, values := range posted {
		form[name] = append(values, form[name]...)
	}
	return form, nil
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
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		if text = strings.TrimSpace(text); text != "null" {
			form.Set(name, text)
		}
	}
	return form, nil
}
