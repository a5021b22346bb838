// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// object is an ad-hoc JSON answer.
type object map[string]any

// okay is what most calls answer when nothing is to be said.
func okay() object { return object{"errcode": 0, "errmsg": "ok"} }

// refusal is WeChat saying no, with HTTP status 200.
type refusal struct {
	code int
	text string
}

func refuse(code int, text string) *refusal { return &refusal{code, text} }

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// download is an answer that is not JSON.
type download struct {
	contentType string
	name        string // for Content-Disposition; empty: none
	size        int64
	content     io.Reader
}

// page is an HTML answer.
type page struct {
	status int
	html   string
}

// redirect sends the browser elsewhere.
type redirect string

// response is an answer ready to leave.
type response struct {
	status int
	header http.Header
	size   int64
	body   io.Reader
}

// render turns an endpoint's answer into a response and notes what it says.
func (s *Sandbox) render(x *exchange, answer any, err error) *response {
	out := &response{status: http.StatusOK, header: http.Header{"Date": {s.cfg.Now().UTC().Format(http.TimeFormat)}}}
	switch answer := answer.(type) {
	case redirect:
		out.status = http.StatusFound
		out.header.Set("Location", string(answer))
		out.set("", "")
	case page:
		out.status = answer.status
		out.set("text/html; charset=utf-8", answer.html)
	case echoed:
		out.status = answer.status
		if answer.encoding != "" {
			out.header.Set("Content-Encoding", answer.encoding)
		}
		out.set("text/plain", answer.text)
	case *download:
		out.header.Set("Content-Type", answer.contentType)
		if answer.name != "" {
			out.header.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", answer.name))
		}
		out.size, out.body = answer.size, answer.content
	default:
		s.renderJSON(out, x, answer, err)
	}
	x.call.Status = out.status
	return out
}

func (r *response) set(contentType, body string) {
	if contentType != "" {
		r.header.Set("Content-Type", contentType)
	}
	r.size, r.body = int64(len(body)), strings.NewReader(body)
}

// send writes the response. The length is always stated first.
func (r *response) send(w http.ResponseWriter) {
	for name, values := range r.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.FormatInt(r.size, 10))
	w.WriteHeader(r.status)
	_, _ = io.Copy(w, r.body)
}

func (s *Sandbox) renderJSON(out *response, x *exchange, answer any, err error) {
	switches := s.switches()
	if err != nil {
		answer = s.errorBody(x, switches, err)
	}
	body := marshal(answer)
	if err != nil && switches.ErrorBOM {
		body = "\uFEFF" + body
	}
	contentType := "application/json; encoding=utf-8"
	if strings.HasPrefix(x.call.Path, "/sns/") || (x.call.ErrCode != 0 && switches.TextPlain) {
		contentType = "text/plain"
	}
	if x.call.ErrCode != 0 && switches.ErrorType != "" {
		contentType = switches.ErrorType
	}
	if switches.Gzip && strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip") {
		out.header.Set("Content-Encoding", "gzip")
		body = compress(body)
	}
	out.set(contentType, body)
	if contentType == "none" {
		out.header["Content-Type"] = nil // or net/http would guess one
	}
}

// errorBody is WeChat's error object; the rid in its text is what rid/get explains.
func (s *Sandbox) errorBody(x *exchange, switches Switches, err error) any {
	var no *refusal
	if !errors.As(err, &no) {
		no = refuse(-1, "system error: "+err.Error())
	}
	x.call.ErrCode = no.code
	x.call.RID = fmt.Sprintf("%08x-%s-%s", s.cfg.Now().Unix(), randomHex(8), randomHex(8))
	var code any = no.code
	if switches.StringErrCodes {
		code = strconv.Itoa(no.code)
	}
	text := no.text + " rid: " + x.call.RID
	if switches.ErrMsgFirst {
		return struct {
			Errmsg  string `json:"errmsg"`
			Errcode any    `json:"errcode"`
		}{text, code}
	}
	return object{"errcode": code, "errmsg": text}
}

// marshal is JSON as WeChat writes it: raw UTF-8, and no \u003c for angle
// brackets. Everything that is answered can be encoded.
func marshal(v any) string {
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("encoding an answer: " + err.Error())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func compress(body string) string {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = io.WriteString(zip, body)
	_ = zip.Close()
	return out.String()
}
