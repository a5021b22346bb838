// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/problem"
)

// maxParameters bounds the body of a call that the gateway answers itself.
const maxParameters = 16 << 10

// parameters reads the parameters of a call from the query and from a body
// in JSON or as a form; SDKs use all three. What the body says counts before
// what the query says.
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.ErrBadRequest.Because("the query is malformed")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxParameters))
	switch {
	case err != nil:
		return nil, problem.OfBody(err)
	case len(body) == 0:
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

// members reads the texts and numbers of a JSON object. Of two members of one
// name the last counts: nobody else reads the body, so none can differ.
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
