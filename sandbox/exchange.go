// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxJSON bounds a JSON body; keptBody is how much of any body rid/get shows.
const (
	maxJSON  = 1 << 20
	keptBody = 1 << 10
)

// exchange is one call while it is being answered.
type exchange struct {
	r         *http.Request
	route     route
	query     url.Values
	body      *digestReader
	presented string // the token as sent
	token     *token // nil if none was sent, or none that was ever issued
	call      Call
	noted     bool
}

// ServeHTTP answers as api.weixin.qq.com and as both authorise pages, and under
// /_sandbox/ as the control API.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPrefix) {
		s.control.ServeHTTP(w, r)
		return
	}
	x := s.newExchange(r)
	defer s.note(x) // should a fault cut the connection before there is an answer
	fault := s.takeFault(x)
	fault.delay(x, w)
	answer, err := fault.answer(x)
	if answer == nil && err == nil {
		answer, err = s.handle(x)
	}
	if fault.Early == "no" {
		_, _ = io.Copy(io.Discard, x.body)
	}
	response := s.render(x, answer, err)
	w = fault.spoil(x, w)
	s.note(x) // before the answer leaves, so that who has it finds the call in the history
	if fault.Early == "read" || fault.Early == "close" {
		fault.sendEarly(x, w, response)
		return
	}
	response.send(w)
	if fault.Surplus {
		surplus(w)
	}
}

func (s *Sandbox) newExchange(r *http.Request) *exchange {
	body := &digestReader{r: io.LimitReader(or[io.Reader](r.Body, http.NoBody), s.cfg.MaxBody), hash: sha256.New()}
	query := r.URL.Query()
	x := &exchange{r: r, route: routeFor(r.URL.Path, query.Get("action")), query: query, body: body}
	x.call = Call{
		Time:     s.cfg.Now(),
		Method:   r.Method,
		Host:     r.Host,
		Path:     r.URL.Path,
		RawQuery: r.URL.RawQuery,
		Header:   r.Header.Clone(),
	}
	x.call.ClientIP, _, _ = net.SplitHostPort(r.RemoteAddr)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identify(x)
	return x
}

// identify finds the token that was sent, for the check and for the history. An
// account's API does not know the component's parameter name.
func (s *Sandbox) identify(x *exchange) {
	kind := x.route.kind(s.cfg.Switches)
	if kind == takesNone || kind == takesPage {
		return
	}
	if !slices.Contains(oldNamePaths, x.call.Path) {
		x.presented = x.query.Get("access_token")
	}
	if x.presented == "" && kind != takesAuthorizer && kind != takesUser {
		x.presented = x.query.Get("component_access_token")
	}
	if x.presented == "" {
		return
	}
	x.token = s.tokens[x.presented]
	if x.token == nil {
		x.call.TokenKind = KindUnknown
		return
	}
	x.call.TokenKind, x.call.TokenAppID, x.call.TokenGeneration = x.token.kind, x.token.appid, x.token.generation
	if uses := [2]string{x.call.Path, x.presented}; s.tokenUses[uses] > 0 || len(s.tokenUses) < maxCounts {
		s.tokenUses[uses]++
	}
}

// handle checks address, token, quota and method in this order and lets the
// endpoint answer.
func (s *Sandbox) handle(x *exchange) (any, error) {
	if err := s.admit(x); err != nil {
		return nil, err
	}
	switch {
	case x.route.method == get && x.r.Method != get:
		return nil, refuse(43001, "require GET method")
	case x.route.method == post && x.r.Method != post:
		return nil, refuse(43002, "require POST method")
	case x.route.method == login && x.r.Method == post:
		if s.switches().LoginByGET {
			return nil, refuse(43001, "require GET method")
		}
		if err := x.addParameters(); err != nil {
			return nil, err
		}
	case x.route.method == login && x.r.Method != get:
		return nil, refuse(43001, "require GET method")
	}
	return x.route.answer(s, x)
}

// admit makes the checks that need no body.
func (s *Sandbox) admit(x *exchange) error {
	if x.route.token == takesPage {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cfg.AllowIPs) > 0 && !slices.Contains(s.cfg.AllowIPs, x.call.ClientIP) {
		if x.route.token == takesAuthorizer {
			return refuse(40164, fmt.Sprintf("invalid ip %[1]s ipv6 ::ffff:%[1]s, not in whitelist", x.call.ClientIP))
		}
		return refuse(61004, "access clientip is not registered requestIP: "+x.call.ClientIP)
	}
	if err := s.tokenError(x); err != nil {
		return err
	}
	return s.spendQuota(x)
}

// tokenError holds the caller's token against what the path takes.
func (s *Sandbox) tokenError(x *exchange) error {
	wants := x.route.kind(s.cfg.Switches)
	switch t := x.token; {
	case wants == takesNone:
		return nil
	case x.presented == "" && wants == takesComponent && (strings.HasPrefix(x.call.Path, "/sns/") || slices.Contains(oldNamePaths, x.call.Path)):
		return refuse(41021, "component_access_token missing")
	case x.presented == "":
		return refuse(41001, "access_token missing")
	case t == nil:
		return refuse(40014, "invalid access_token")
	case wants == takesComponent && t.kind != KindComponent:
		return refuse(61014, "must use component token for component api")
	case wants == takesAuthorizer && t.kind == KindComponent:
		return refuse(61015, "must use api authorizer_token, not component_access_token")
	case (wants == takesUser) != (t.kind == KindUser):
		return refuse(40001, "invalid credential, access_token is invalid or not latest")
	}
	if err := s.dead(x.token); err != nil {
		return err // not returned directly: a nil *refusal would be an error
	}
	return nil
}

// note puts the call into the history, once.
func (s *Sandbox) note(x *exchange) {
	if x.noted {
		return
	}
	x.noted = true
	x.call.BodySize, x.call.BodySHA256, x.call.body = x.body.sum()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	s.calls.add(x.call)
	path := x.call.Path
	if s.count[path] == 0 && len(s.count) >= maxCounts {
		path = "" // a caller with endless paths shall not fill the memory
	}
	s.count[path]++
}

// decode reads the JSON body into v.
func (x *exchange) decode(v any) error {
	body, err := io.ReadAll(io.LimitReader(x.body, maxJSON))
	switch {
	case err != nil:
		return fmt.Errorf("reading the body: %w", err)
	case len(bytes.TrimSpace(body)) == 0:
		return refuse(44002, "empty post data")
	case json.Unmarshal(body, v) != nil:
		return refuse(47001, "data format error")
	}
	return nil
}

// addParameters adds the parameters of a form or of a JSON object in the body to
// those of the query, which come first.
func (x *exchange) addParameters() error {
	body, err := io.ReadAll(io.LimitReader(x.body, maxJSON))
	if err != nil {
		return fmt.Errorf("reading the body: %w", err)
	}
	var members map[string]any
	switch {
	case len(bytes.TrimSpace(body)) == 0:
	case strings.HasPrefix(x.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return refuse(47001, "data format error")
		}
		for name, values := range form {
			x.query[name] = append(x.query[name], values...)
		}
	case json.Unmarshal(body, &members) != nil:
		return refuse(47001, "data format error")
	}
	for name, value := range members {
		x.query.Add(name, fmt.Sprint(value))
	}
	return nil
}

// digestReader counts and hashes what passes, and keeps the beginning.
type digestReader struct {
	r    io.Reader
	hash hash.Hash
	size int64
	head []byte
}

func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.size += int64(n)
	_, _ = d.hash.Write(p[:n])
	if room := keptBody - len(d.head); room > 0 {
		d.head = append(d.head, p[:min(n, room)]...)
	}
	return n, err
}

// sum describes what was read; "" stands for the digest of nothing.
func (d *digestReader) sum() (size int64, digest, head string) {
	if d.size == 0 {
		return 0, "", ""
	}
	return d.size, hex.EncodeToString(d.hash.Sum(nil)), string(d.head)
}
