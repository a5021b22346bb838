// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

const (
	component = "wx0123456789abcdef"
	account   = "wxaaaaaaaaaaaaaaaa"
	account2  = "wxbbbbbbbbbbbbbbbb"
	userName  = "gh_0123456789ab"
	openID    = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"

	clientToken = "CLIENTtoken1"
	clientKey   = "CLIENTAESKEY00000000000000000000000000000Aa"

	previousToken = "CLIENTtoken0"
	previousKey   = "BEFOREAESKEY00000000000000000000000000000Aa"
)

// What a follower sends, and a reply of an application.
const (
	incoming = "<xml><ToUserName><![CDATA[" + userName + "]]></ToUserName><MsgType><![CDATA[text]]></MsgType></xml>"
	outgoing = "<xml><ToUserName><![CDATA[" + openID + "]]></ToUserName><FromUserName><![CDATA[" + userName + "]]></FromUserName>" +
		"<MsgType><![CDATA[text]]></MsgType><Content><![CDATA[好]]></Content></xml>"
)

// received is one request as it reached an application.
type received struct {
	method, host, path, contentType string
	query                           url.Values
	header                          http.Header
	body                            string
}

// application answers deliveries and remembers them. Nothing in it is a
// socket, so it works in a bubble of testing/synctest.
type application struct {
	mu     sync.Mutex
	got    []received
	answer func(*http.Request, received) (int, string, error)
}

// answering returns an application that always answers the same.
func answering(status int, body string) *application {
	return &application{answer: func(*http.Request, received) (int, string, error) { return status, body, nil }}
}

func (a *application) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	got := received{r.Method, r.URL.Host, r.URL.Path, r.Header.Get("Content-Type"), r.URL.Query(), r.Header, string(body)}
	a.mu.Lock()
	a.got = append(a.got, got)
	answerer := a.answer
	a.mu.Unlock()
	status, answer, err := answerer(r, got)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Location": {"http://elsewhere.test/"}}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(answer))}, nil
}

// become changes the answer from now on.
func (a *application) become(status int, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = answering(status, body).answer
}

func (a *application) all() []received {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

func plainTarget(t testing.TB, client string) *delivery.Target {
	t.Helper()
	u, err := url.Parse("http://" + client + ".test/wechat?app=1")
	if err != nil {
		t.Fatal(err)
	}
	return &delivery.Target{Component: component, Client: client, Name: "main", URL: u, Tokens: []secret.Secret{secret.New(clientToken)}}
}

func safeTarget(t testing.TB, client string) *delivery.Target {
	t.Helper()
	target := plainTarget(t, client)
	key, err := bizmsg.ParseKey(secret.New(clientKey))
	if err != nil {
		t.Fatal(err)
	}
	target.Keys = []bizmsg.Key{key}
	return target
}

// The functions below are an SDK's side of WXBizMsgCrypt, written from the
// specification and not with bizmsg, which would agree with its own mistakes.

func sign(parts ...string) string {
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

func cipherOf(t testing.TB, key string) (cipher.Block, []byte) {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(key + "=")
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		t.Fatal(err)
	}
	return block, raw[:16]
}

// unseal returns text and receive id.
func unseal(t testing.TB, key, encrypt string) (text, receiveID string) {
	t.Helper()
	box, err := base64.StdEncoding.DecodeString(encrypt)
	if err != nil {
		t.Fatal(err)
	}
	block, iv := cipherOf(t, key)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(box, box)
	box = box[16 : len(box)-int(box[len(box)-1])]
	n := binary.BigEndian.Uint32(box)
	return string(box[4 : 4+n]), string(box[4+n:])
}

// sealReply makes a passive reply as an SDK does.
func sealReply(t testing.TB, token, key, receiveID, text string) string {
	t.Helper()
	box := []byte("0123456789abcdef")
	box = binary.BigEndian.AppendUint32(box, uint32(len(text)))
	box = append(box, text+receiveID...)
	pad := 32 - len(box)%32
	box = append(box, bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, iv := cipherOf(t, key)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(box, box)
	encrypt := base64.StdEncoding.EncodeToString(box)
	return fmt.Sprintf("<xml>\n<Encrypt><![CDATA[%s]]></Encrypt>\n<MsgSignature><![CDATA[%s]]></MsgSignature>\n"+
		"<TimeStamp>1700000000</TimeStamp>\n<Nonce><![CDATA[42]]></Nonce>\n</xml>",
		encrypt, sign(token, "1700000000", "42", encrypt))
}

// elements returns the texts below the root.
func elements(t testing.TB, text string) map[string]string {
	t.Helper()
	var root struct {
		XMLName xml.Name `xml:"xml"`
		Each    []struct {
			XMLName xml.Name
			Text    string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := xml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	found := make(map[string]string)
	for _, each := range root.Each {
		found[each.XMLName.Local] = each.Text
	}
	return found
}
