// SPDX-License-Identifier: Apache-2.0

// Package publishtest passes WeChat's full-network publish test (全网发布检测), without
// which no platform goes live. WeChat writes to the platform in the name of followers of
// ten accounts of its own, and expects certain answers within seconds
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/operation/thirdparty/releases_instructions.html).
// The gateway gives them before any application is asked, and nobody else gets them.
//
//	publishtest.go   which messages are part of the test, and what they are answered
//	code.go          a code goes back to WeChat, once, over crashes and on whichever node is alive
package publishtest

import (
	"context"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// account is one of the accounts with which WeChat tests platforms.
type account struct {
	userName string // the ToUserName of its messages
	official bool   // else it is a mini program
}

// accounts are all of them, by appid: five groups, of which WeChat draws one.
var accounts = map[string]account{
	"wx570bc396a51b8ff8": {"gh_3c884a361561", true},
	"wxd101a85aa106f53e": {"gh_8dad206e9538", false},
	"wx9252c5e0bb1836fc": {"gh_c0f28a78b318", true},
	"wxc39235c15087f6f3": {"gh_905ae9d01059", false},
	"wx8e1097c5bc82cde9": {"gh_3f222ed8d140", true},
	"wx7720d01d4b2a4500": {"gh_393666f1fdf4", false},
	"wx14550af28c71a144": {"gh_26128078e9ab", true},
	"wx05d483572dcd5d8b": {"gh_39abb5d4e1b7", false},
	"wxa35b9c23cfe664eb": {"gh_2b3713f184a6", true},
	"wx5910277cae6fd970": {"gh_7818dcb60240", false},
}

// What WeChat writes. Behind codeQuestion follows an authorization_code.
const (
	textQuestion = "TESTCOMPONENT_MSG_TYPE_TEXT"
	codeQuestion = "QUERY_AUTH_CODE:"
)

// Message is a verified message of an account.
type Message struct {
	Component string
	AppID     string // of the account, from the path: not signed
	ID        string // names the message, the same for all repetitions; 32 hexadecimal digits
	Plain     []byte // the decrypted text
}

// Answer answers a message that is part of the test. ok is false for all others, which
// are most: they are none of its business. reply is the passive reply in clear text; nil
// means that the answer must have no body. All repetitions of a message get the same text.
//
// A code is stored before Answer returns, and sent back in the background, see Run. If
// it cannot be stored there is an error, and WeChat must push the message again. Answer
// waits for the storage, no longer than ctx.
func (t *Tester) Answer(ctx context.Context, m Message) (reply []byte, ok bool, err error) {
	known, isTest := accounts[m.AppID]
	if !isTest {
		return nil, false, nil
	}
	fields, err := bizmsg.ParseMessage(m.Plain)
	if err != nil || fields.ToUserName != known.userName || fields.FromUserName == "" {
		return nil, false, nil // somebody has sent a push to the path of another account
	}
	text := bizmsg.TextOf(m.Plain)
	code, isCode := strings.CutPrefix(text, codeQuestion)
	switch {
	case text == textQuestion:
		reply, err = textReply(fields, textQuestion+"_callback")
	case isCode && code != "":
		err = t.take(ctx, m, fields.FromUserName, code)
	case fields.Event != "" && known.official:
		reply, err = textReply(fields, fields.Event+"from_callback")
	default:
		return nil, false, nil
	}
	if err != nil {
		return nil, true, fmt.Errorf("answering the publish test: %w", err)
	}
	t.log(m.Component).Info("message of WeChat's publish test answered", zap.String("authorizer", m.AppID), zap.String("msg_type", fields.MsgType))
	return reply, true, nil
}

// textReply returns the passive reply to a message that is this text
// (developers.weixin.qq.com/doc/service/guide/product/message/Passive_user_reply_message.html).
func textReply(to bizmsg.MessageFields, content string) ([]byte, error) {
	type cdata struct {
		Text string `xml:",cdata"`
	}
	return xml.Marshal(struct {
		XMLName      xml.Name `xml:"xml"`
		ToUserName   cdata
		FromUserName cdata
		CreateTime   int64
		MsgType      cdata
		Content      cdata
	}{
		ToUserName: cdata{to.FromUserName}, FromUserName: cdata{to.ToUserName}, CreateTime: time.Now().Unix(),
		MsgType: cdata{"text"}, Content: cdata{content},
	})
}

// Settings is what the test takes from the configuration in force.
type Settings struct {
	Vault      *vault.Vault
	Components []string // all component_appids, also those that do not answer the test any more
	Log        *zap.Logger
}
