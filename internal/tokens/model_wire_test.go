// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing/iotest"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Calls of applications: paths that no rule of the model is about.
const (
	askAccount   = "/cgi-bin/model"
	askComponent = "/cgi-bin/component/" + openapi.EndpointPreAuthCode
)

// modelWire is the way from one process to WeChat: with delays, watched, and
// cut by a crash, before WeChat acts or after.
type modelWire struct{ p *process }

// wireCall is one call and what it was answered.
type wireCall struct {
	p      *process
	path   string
	token  string // the one that was shown
	who    subject.Subject
	code   string // authorization_code
	forced bool   // it renews a token that was rejected
	isJSON bool   // the answer is
	answer wireAnswer
}

// wireAnswer is what an answer brings.
type wireAnswer struct {
	ErrCode   int    `json:"errcode"`
	Component string `json:"component_access_token"`
	grantAnswer
	Info grantAnswer `json:"authorization_info"`
}

type grantAnswer struct {
	Token   string `json:"authorizer_access_token"`
	Refresh string `json:"authorizer_refresh_token"`
}

func (w modelWire) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body = must(io.ReadAll(r.Body))
	}
	c := w.p.m.callOf(w.p, r, body)
	if err := w.p.pause(r.Context(), c.path); err != nil {
		return nil, err
	}
	w.p.m.asked(c)
	sent := r.Clone(r.Context())
	sent.Body = io.NopCloser(bytes.NewReader(body))
	answer, err := w.p.m.weixin.Transport().RoundTrip(sent)
	if err != nil {
		w.p.m.noAnswer(c, err)
		return nil, err
	}
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	text = w.p.m.twist(c, text)
	if c.isJSON = json.Unmarshal(text, &c.answer) == nil; !c.isJSON {
		c.answer = wireAnswer{}
	}
	if err := w.p.pause(r.Context(), c.path); err != nil {
		w.p.m.noAnswer(c, err)
		return nil, err
	}
	w.p.m.answered(c, answer.StatusCode, err)
	answer.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text), iotest.ErrReader(cmp.Or(err, io.EOF))))
	return answer, nil
}

func (m *model) callOf(p *process, r *http.Request, body []byte) *wireCall {
	var sent struct {
		Account string `json:"authorizer_appid"`
		Code    string `json:"authorization_code"`
	}
	_ = json.Unmarshal(body, &sent)
	c := &wireCall{p: p, path: r.URL.Path, token: r.URL.Query().Get("access_token"), code: sent.Code}
	c.who = subject.Of(theComponent, sent.Account)
	if sent.Code != "" {
		m.mu.Lock()
		c.who = m.codes[sent.Code].who
		m.mu.Unlock()
	}
	return c
}

var refreshMember = regexp.MustCompile(`"authorizer_refresh_token":"[^"]*"`)

// twist leaves the refresh token out of an answer for a while, as a WeChat does
// that is of the opinion that it has not changed.
func (m *model) twist(c *wireCall, text []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.path != askAuthorizerToken || m.rotate || !time.Now().Before(m.quirk) {
		return text
	}
	return refreshMember.ReplaceAll(text, []byte(`"authorizer_refresh_token":""`))
}

// modelPath is the path that applications call with who's token.
func modelPath(who subject.Subject) string {
	if who.IsComponent() {
		return askComponent
	}
	return askAccount
}

// callWith makes an application's call with a token and returns WeChat's
// errcode, -1 for no answer.
func (p *process) callWith(ctx context.Context, who subject.Subject, token secret.Secret) int {
	path, body := modelPath(who), ""
	if who.IsComponent() {
		body = `{"component_appid":"` + theComponent + `"}`
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	target := "https://api.weixin.qq.com" + path + "?access_token=" + token.Reveal()
	answer, err := modelWire{p}.RoundTrip(must(http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(body))))
	if err != nil {
		return -1
	}
	var verdict wireAnswer
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || json.Unmarshal(text, &verdict) != nil {
		return -1
	}
	return verdict.ErrCode
}
