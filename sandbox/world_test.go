// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/sandbox"
)

const (
	official = "wxaaaaaaaaaaaaaaaa"
	mini     = "wxbbbbbbbbbbbbbbbb"
)

// world is a sandbox with two accounts, and a receiver that plays the gateway.
// Nothing in it is a socket, so it works inside synctest bubbles.
type world struct {
	*sandbox.Sandbox
	t        testing.TB
	receiver *receiver
	client   *http.Client
}

func newWorld(t testing.TB, cfg sandbox.Config) *world {
	t.Helper()
	r := &receiver{t: t, answer: "success", status: http.StatusOK}
	cfg.EventsURL, cfg.MessagesURL = "http://gateway.test/wechat/events", "http://gateway.test/wechat/messages/$APPID$"
	cfg.Transport = r
	s, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []sandbox.Account{{AppID: official}, {AppID: mini, MiniProgram: true}} {
		if err := s.AddAccount(a); err != nil {
			t.Fatal(err)
		}
	}
	client := &http.Client{
		Transport:     s.Transport(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &world{s, t, r, client}
}

// answer is a decoded JSON answer.
type answer map[string]any

func (a answer) code() int {
	code, _ := a["errcode"].(float64)
	return int(code)
}

func (a answer) text(name string) string {
	text, _ := a[name].(string)
	return text
}

func (a answer) in(name string) answer {
	inner, _ := a[name].(map[string]any)
	return inner
}

// do makes a call and returns the raw response with its body read.
func (w *world) do(method, target, body string, header ...string) (*http.Response, string) {
	w.t.Helper()
	r, err := http.NewRequest(method, "https://api.weixin.qq.com"+target, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := w.client.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, target, err)
	}
	return response, string(content)
}

func (w *world) json(method, target, body string) answer {
	w.t.Helper()
	response, content := w.do(method, target, body)
	if response.StatusCode != http.StatusOK {
		w.t.Fatalf("%s %s: status %d", method, target, response.StatusCode)
	}
	var a answer
	if err := json.Unmarshal([]byte(content), &a); err != nil {
		w.t.Fatalf("%s %s: %v in %q", method, target, err, content)
	}
	return a
}

func (w *world) get(target string) answer        { w.t.Helper(); return w.json("GET", target, "") }
func (w *world) post(target, body string) answer { w.t.Helper(); return w.json("POST", target, body) }

// component calls a component API with a token; fields are name, value, name, value…
func (w *world) component(endpoint, token string, fields ...string) answer {
	w.t.Helper()
	body := map[string]any{"component_appid": w.Component()}
	for i := 0; i < len(fields); i += 2 {
		body[fields[i]] = fields[i+1]
	}
	encoded, _ := json.Marshal(body)
	return w.post("/cgi-bin/component/"+endpoint+"?access_token="+token, string(encoded))
}

// componentToken walks ticket → component token.
func (w *world) componentToken() string {
	w.t.Helper()
	w.must(w.PushTicket(w.t.Context()))
	return w.tokenFor(w.receiver.last().field("ComponentVerifyTicket")).text("component_access_token")
}

func (w *world) tokenFor(ticket string) answer {
	w.t.Helper()
	secret, _, _ := w.Keys()
	return w.component("api_component_token", "", "component_appsecret", secret, "component_verify_ticket", ticket)
}

// authorizer walks on to an authorised account and its first tokens.
func (w *world) authorizer(component, appid string) (token, refresh string) {
	w.t.Helper()
	code, err := w.Authorize(w.t.Context(), appid)
	w.must(err)
	info := w.component("api_query_auth", component, "authorization_code", code).in("authorization_info")
	return info.text("authorizer_access_token"), info.text("authorizer_refresh_token")
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wantCode(what string, a answer, code int) {
	w.t.Helper()
	if a.code() != code {
		w.t.Errorf("%s: answered %v, want errcode %d", what, a, code)
	}
}

// receiver is the gateway's end of a push. It opens what it gets with code of its
// own, written after the protocol and not after the sandbox.
type receiver struct {
	t      testing.TB
	mu     sync.Mutex
	got    []pushed
	answer string
	status int
	reply  func(p pushed) string
	// takes is how long the nth push takes, from 1, or what breaks it.
	takes func(n int) (time.Duration, error)
	// hangUp loses an answer that reply makes after WeChat has hung up.
	hangUp bool
}

// pushed is a push as it arrived.
type pushed struct {
	at        time.Time
	request   *http.Request
	query     url.Values
	body      string
	envelope  map[string]string
	signed    bool
	plain     string
	receiveID string
}

func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	p := pushed{at: time.Now(), request: request, query: request.URL.Query(), body: string(body)}
	p.envelope = elements(p.body)
	p.signed = p.query.Get("msg_signature") == digest(sandbox.DefaultToken, p.query.Get("timestamp"), p.query.Get("nonce"), p.envelope["Encrypt"])
	p.plain, p.receiveID = unseal(sandbox.DefaultEncodingAESKey, p.envelope["Encrypt"])
	r.mu.Lock()
	r.got = append(r.got, p)
	n, answer := len(r.got), r.answer
	r.mu.Unlock()
	if r.takes != nil {
		needed, err := r.takes(n)
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(needed):
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
	}
	if r.reply != nil {
		answer = r.reply(p)
	}
	if r.hangUp && request.Context().Err() != nil {
		return nil, request.Context().Err()
	}
	recorder := httptest.NewRecorder()
	recorder.WriteHeader(r.status)
	_, _ = recorder.WriteString(answer)
	return recorder.Result(), nil
}

func (r *receiver) all() []pushed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *receiver) last() pushed {
	r.t.Helper()
	all := r.all()
	if len(all) == 0 {
		r.t.Fatal("nothing was pushed")
	}
	return all[len(all)-1]
}

func (p pushed) field(name string) string { return elements(p.plain)[name] }

// elements are the children of <xml>, by name.
func elements(document string) map[string]string {
	var root struct {
		Children []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	}
	_ = xml.Unmarshal([]byte(document), &root)
	found := map[string]string{}
	for _, child := range root.Children {
		found[child.XMLName.Local] = child.Text
	}
	return found
}

func digest(parts ...string) string {
	slices.Sort(parts)
	return fmt.Sprintf("%x", sha1.Sum([]byte(strings.Join(parts, ""))))
}

// sealedReply is a passive reply as the gateway would seal it.
func sealedReply(plain string) string {
	const timestamp, nonce = "1700000000", "1234"
	secret, _ := base64.StdEncoding.DecodeString(sandbox.DefaultEncodingAESKey + "=")
	raw := append(make([]byte, 16), byte(len(plain)>>24), byte(len(plain)>>16), byte(len(plain)>>8), byte(len(plain)))
	raw = append(raw, plain+sandbox.DefaultComponent...)
	pad := 32 - len(raw)%32
	raw = append(raw, bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, _ := aes.NewCipher(secret)
	cipher.NewCBCEncrypter(block, secret[:16]).CryptBlocks(raw, raw)
	box := base64.StdEncoding.EncodeToString(raw)
	return fmt.Sprintf("<xml><Encrypt><![CDATA[%s]]></Encrypt><MsgSignature><![CDATA[%s]]></MsgSignature><TimeStamp>%s</TimeStamp><Nonce><![CDATA[%s]]></Nonce></xml>",
		box, digest(sandbox.DefaultToken, timestamp, nonce, box), timestamp, nonce)
}

// textReply is the plain text of a reply to a follower of the official account.
func textReply(to, content string) string {
	return "<xml><ToUserName><![CDATA[" + to + "]]></ToUserName><FromUserName><![CDATA[gh_1]]></FromUserName>" +
		"<CreateTime>1700000000</CreateTime><MsgType><![CDATA[text]]></MsgType><Content><![CDATA[" + content + "]]></Content></xml>"
}

func unseal(key, sealed string) (msg, receiveID string) {
	secret, _ := base64.StdEncoding.DecodeString(key + "=")
	raw, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(raw) < 32 || len(raw)%16 != 0 {
		return "", ""
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return "", ""
	}
	cipher.NewCBCDecrypter(block, secret[:16]).CryptBlocks(raw, raw)
	pad := int(raw[len(raw)-1])
	if pad > 32 || pad+20 > len(raw) {
		return "", ""
	}
	raw = raw[16 : len(raw)-pad]
	length := int(raw[0])<<24 | int(raw[1])<<16 | int(raw[2])<<8 | int(raw[3])
	if length > len(raw)-4 {
		return "", ""
	}
	return string(raw[4 : 4+length]), string(raw[4+length:])
}
