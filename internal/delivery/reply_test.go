// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// replyOf is a passive reply of this type and with these elements.
func replyOf(msgType, elements string) string {
	return "<xml><ToUserName><![CDATA[" + openID + "]]></ToUserName><FromUserName><![CDATA[" + userName + "]]></FromUserName>" +
		"<CreateTime>1700000000</CreateTime><MsgType><![CDATA[" + msgType + "]]></MsgType>" + elements + "</xml>"
}

// sized is a reply of so many bytes.
func sized(bytes int) string {
	empty := replyOf("text", "<Content></Content>")
	return replyOf("text", "<Content>"+strings.Repeat("a", bytes-len(empty))+"</Content>")
}

func inGBK(t testing.TB, text string) string {
	t.Helper()
	encoded, err := simplifiedchinese.GBK.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// answer is a row of the tables below: an answer with status 200, and what becomes of it.
// All are taken. One without a reply and without unusable is silence.
type answer struct {
	body     string
	reply    string
	unusable string // a part of the error
}

func (row answer) check(t *testing.T, result delivery.Result) {
	t.Helper()
	if result.Err != nil || result.Hung || result.Gone || result.RetryAfter != 0 {
		t.Errorf("not taken: %+v", result)
	}
	if string(result.Reply) != row.reply {
		t.Errorf("reply %.200q", result.Reply)
	}
	switch err := result.Unusable; {
	case err == nil && row.unusable == "":
	case err == nil || row.unusable == "" || !strings.Contains(err.Error(), row.unusable):
		t.Errorf("unusable: %v", err)
	case strings.Contains(err.Error(), "SECRET"):
		t.Errorf("quotes the answer: %v", err)
	}
}

func TestAnswersInPlainMode(t *testing.T) {
	outgoing := replyOf("text", "<Content><![CDATA[好]]></Content>")
	const noReply = "neither success, nor empty, nor a passive reply"
	for name, row := range map[string]answer{
		"success":                        {body: "success"},
		"success and a line feed":        {body: "success\r\n"},
		"SUCCESS":                        {body: "SUCCESS"},
		"Success with a byte order mark": {body: "\ufeffSuccess"},
		"nothing":                        {},
		"blanks":                         {body: " \r\n\t"},
		"a text without a text":          {body: replyOf("text", "<Content><![CDATA[]]></Content>")},
		"a text without Content":         {body: replyOf("text", "")},

		"a reply":                          {body: outgoing, reply: outgoing},
		"a reply with blanks around it":    {body: "\ufeff \n" + outgoing + "\r\n", reply: outgoing},
		"a reply with a declaration":       {body: `<?xml version="1.0" encoding="utf-8"?>` + outgoing + "\n", reply: `<?xml version="1.0" encoding="utf-8"?>` + outgoing},
		"a reply that declares no version": {body: `<?xml version="1.0"?>` + outgoing, reply: `<?xml version="1.0"?>` + outgoing},
		"a reply with comments":            {body: replyOf("text", "<!-- a --><Content>b</Content>"), reply: replyOf("text", "<!-- a --><Content>b</Content>")},
		"a reply with a control character": {body: replyOf("text", "<Content><![CDATA[a\x1db]]></Content>"), reply: replyOf("text", "<Content><![CDATA[a\x1db]]></Content>")},
		"a reply in GBK": {
			body:  `<?xml version="1.0" encoding="GBK"?>` + "\n" + inGBK(t, replyOf("text", "<Content>联通</Content>")),
			reply: replyOf("text", "<Content>联通</Content>"),
		},
		"a reply in gb2312, declared in other letters": {
			body:  `<?XML version='1.0' encoding = 'Gb2312' ?>` + inGBK(t, outgoing),
			reply: outgoing,
		},
		"a reply of 64 KiB":        {body: sized(64 << 10), reply: sized(64 << 10)},
		"a picture":                {body: replyOf("image", "<Image><MediaId>1</MediaId></Image>"), reply: replyOf("image", "<Image><MediaId>1</MediaId></Image>")},
		"an article":               {body: replyOf("news", "<ArticleCount>1</ArticleCount><Articles><item><Title>a</Title></item></Articles>"), reply: replyOf("news", "<ArticleCount>1</ArticleCount><Articles><item><Title>a</Title></item></Articles>")},
		"hand-over to a person":    {body: replyOf("transfer_customer_service", ""), reply: replyOf("transfer_customer_service", "")},
		"hand-over to WeChat's AI": {body: replyOf("transfer_biz_ai_ivr", ""), reply: replyOf("transfer_biz_ai_ivr", "")},

		"a byte more":               {body: sized(64<<10 + 1), unusable: "larger than 64 KiB"},
		"1 MB":                      {body: sized(1 << 20), unusable: "larger than 64 KiB"},
		"an error page":             {body: "<html><body>SECRET Bad gateway</body></html>", unusable: noReply},
		"a word":                    {body: "ok SECRET", unusable: noReply},
		"JSON":                      {body: `{"errcode":0,"ToUserName":"SECRET","FromUserName":"b","MsgType":"text"}`, unusable: noReply},
		"half a document":           {body: "<xml><Content>SECRET", unusable: noReply},
		"two documents":             {body: outgoing + outgoing, unusable: noReply},
		"text behind the document":  {body: outgoing + "success", unusable: noReply},
		"a DOCTYPE":                 {body: "<!DOCTYPE xml>" + outgoing, unusable: noReply},
		"not UTF-8":                 {body: inGBK(t, outgoing), unusable: noReply},
		"an encoding nobody knows":  {body: `<?xml version="1.0" encoding="SECRET"?>` + outgoing, unusable: noReply},
		"an entity nobody knows":    {body: replyOf("text", "<Content>&SECRET;</Content>"), unusable: noReply},
		"a ]]> that is not escaped": {body: replyOf("text", "<Content><![CDATA[a]]>b]]></Content>"), unusable: noReply},
		"another root":              {body: strings.NewReplacer("<xml>", "<reply>", "</xml>", "</reply>").Replace(outgoing), unusable: noReply},
		"no recipient":              {body: "<xml><FromUserName>a</FromUserName><MsgType>text</MsgType></xml>", unusable: noReply},
		"no sender":                 {body: "<xml><ToUserName>a</ToUserName><FromUserName></FromUserName><MsgType>text</MsgType></xml>", unusable: noReply},
		"a type that is no reply":   {body: replyOf("event", ""), unusable: noReply},
		"no type":                   {body: "<xml><ToUserName>a</ToUserName><FromUserName>b</FromUserName></xml>", unusable: noReply},
		"an encrypted reply":        {body: sealReply(t, clientToken, clientKey, account, outgoing), unusable: "no encoding_aes_key"},
	} {
		t.Run(name, func(t *testing.T) {
			row.check(t, sendTo(t, answering(http.StatusOK, row.body), plainTarget(t, "shop"), aMessage))
		})
	}
}

func TestAnswersInSafeMode(t *testing.T) {
	outgoing := replyOf("text", "<Content><![CDATA[好\x1d]]></Content>")
	sealed := func(text string) string { return sealReply(t, clientToken, clientKey, account, text) }
	for name, row := range map[string]answer{
		"success is never sealed":                  {body: "success"},
		"nothing is never sealed":                  {},
		"a sealed reply":                           {body: sealed(outgoing), reply: outgoing},
		"a sealed reply in GBK":                    {body: sealed(`<?xml version="1.0" encoding="GBK"?>` + inGBK(t, outgoing)), reply: outgoing},
		"a sealed empty text, as silenceper sends": {body: sealed("")},
		"a sealed blank text":                      {body: sealed(" \n")},
		"a sealed success":                         {body: sealed("Success")},
		"with a byte order mark":                   {body: "\ufeff" + sealed(outgoing), reply: outgoing},
		"sealed with the previous key":             {body: sealReply(t, clientToken, previousKey, account, outgoing), reply: outgoing},
		"signed with the previous token":           {body: sealReply(t, previousToken, clientKey, account, outgoing), reply: outgoing},

		"a reply in clear":             {body: outgoing, unusable: "not encrypted"},
		"an error page":                {body: "<html>SECRET</html>", unusable: "neither success"},
		"signed with an unknown token": {body: sealReply(t, "OTHERtoken", clientKey, account, outgoing), unusable: "msg_signature does not match"},
		"sealed with an unknown key":   {body: sealReply(t, clientToken, strings.ToLower(clientKey), account, outgoing), unusable: "not encrypted with any of the keys"},
		"one for another account":      {body: sealReply(t, clientToken, clientKey, account2, outgoing), unusable: "another receive id"},
		"one for the component":        {body: sealReply(t, clientToken, clientKey, component, outgoing), unusable: "another receive id"},
		"a sealed error page":          {body: sealed("<html>SECRET</html>"), unusable: "neither success"},
		"a reply that is sealed twice": {body: sealed(sealed(outgoing)), unusable: "neither success"},
	} {
		t.Run(name, func(t *testing.T) {
			target := safeTarget(t, "shop")
			before, err := bizmsg.ParseKey(secret.New(previousKey))
			if err != nil {
				t.Fatal(err)
			}
			target.Tokens = append(target.Tokens, secret.New(previousToken))
			target.Keys = append(target.Keys, before)
			row.check(t, sendTo(t, answering(http.StatusOK, row.body), target, aMessage))
		})
	}
}

// What the application is to be sent is sealed with the current key and token alone.
func TestThePreviousKeyAndTokenSealNothing(t *testing.T) {
	target := safeTarget(t, "shop")
	before, err := bizmsg.ParseKey(secret.New(previousKey))
	if err != nil {
		t.Fatal(err)
	}
	target.Tokens, target.Keys = append(target.Tokens, secret.New(previousToken)), append(target.Keys, before)
	got := requestFor(t, target, aMessage)
	encrypted := elements(t, got.body)["Encrypt"]
	if q := got.query; q.Get("msg_signature") != sign(clientToken, q.Get("timestamp"), q.Get("nonce"), encrypted) {
		t.Error("not signed with the current token")
	}
	if text, _ := unseal(t, clientKey, encrypted); text != incoming {
		t.Error("not sealed with the current key")
	}
}

// The server's Content-Type may name the encoding of a text that declares none.
func TestTheCharsetOfTheAnswer(t *testing.T) {
	outgoing := replyOf("text", "<Content>你好</Content>")
	for contentType, row := range map[string]answer{
		"text/xml; charset=GBK":        {body: inGBK(t, outgoing), reply: outgoing},
		"text/xml; charset=ISO-8859-1": {body: outgoing, reply: outgoing}, // what Java's servlets say by themselves
		"text/xml; charset":            {body: outgoing, reply: outgoing},
	} {
		app := transportFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(row.body))}, nil
		})
		row.check(t, sendTo(t, app, plainTarget(t, "shop"), aMessage))
	}
}

// An event has no reply, and a target with reply off gives none: nobody is warned.
func TestWhereNobodyWantsAReply(t *testing.T) {
	off := plainTarget(t, "shop")
	off.NoReply = true
	for name, result := range map[string]delivery.Result{
		"event":     sendTo(t, answering(http.StatusOK, "<html>"), plainTarget(t, "shop"), anEvent),
		"reply off": sendTo(t, answering(http.StatusOK, replyOf("text", "")), off, aMessage),
	} {
		if result.Err != nil || result.Reply != nil || result.Unusable != nil {
			t.Errorf("%s: %+v", name, result)
		}
	}
}

// breaksOff ends with an error, or at the end of ctx if that is nil.
type breaksOff struct {
	ctx  context.Context
	text io.Reader
	err  error
}

func (b breaksOff) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if err != nil {
		n, err = 0, b.err
		if err == nil {
			<-b.ctx.Done()
			err = b.ctx.Err()
		}
	}
	return n, err
}

func (breaksOff) Close() error { return nil }

func TestAnAnswerThatDoesNotEndIsTaken(t *testing.T) {
	for name, row := range map[string]struct {
		err      error
		unusable string
		takes    time.Duration
	}{
		"it breaks off":            {errors.New("SECRET"), "it broke off", 0},
		"it is slow for ever":      {nil, "not complete when the time was over", 7 * time.Second},
		"the connection is closed": {io.ErrUnexpectedEOF, "it broke off", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target, began := plainTarget(t, "shop"), time.Now()
				target.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Body: breaksOff{r.Context(), strings.NewReader("<xml>SECRET"), row.err}}, nil
				})
				ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
				defer cancel()
				answer{unusable: row.unusable}.check(t, target.Send(ctx, aMessage))
				if took := time.Since(began); took != row.takes {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}
