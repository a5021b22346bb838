// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// lowestMsgID and all above it are beyond 2^53, so that whoever reads a MsgId as a
// JavaScript number takes several for one.
const lowestMsgID = 24_000_000_000_000_000

// messageKind is a message or an event of an account, as WeChat's pages show it.
type messageKind struct {
	// name is the MsgType or, of an event, the Event.
	name string
	// content is what stands at $CONTENT$ if the caller names nothing.
	content string
	// inner follows CreateTime. $CONTENT$, $MSGID$, $NOW$ (s) and $APPID$ are filled in.
	inner string
}

// messageKinds are those of Message.
var messageKinds = []messageKind{
	{"text", "hello", `<MsgType><![CDATA[text]]></MsgType>
<Content><![CDATA[$CONTENT$]]></Content>
<MsgId>$MSGID$</MsgId>`},
	{"image", "MEDIAIDimage", `<MsgType><![CDATA[image]]></MsgType>
<PicUrl><![CDATA[http://mmbiz.qpic.cn/mmbiz_jpg/sandbox/0]]></PicUrl>
<MsgId>$MSGID$</MsgId>
<MediaId><![CDATA[$CONTENT$]]></MediaId>`},
	{"voice", "MEDIAIDvoice", `<MsgType><![CDATA[voice]]></MsgType>
<MediaId><![CDATA[$CONTENT$]]></MediaId>
<Format><![CDATA[amr]]></Format>
<MsgId>$MSGID$</MsgId>
<Recognition><![CDATA[]]></Recognition>`},
	{"video", "MEDIAIDvideo", `<MsgType><![CDATA[video]]></MsgType>
<MediaId><![CDATA[$CONTENT$]]></MediaId>
<ThumbMediaId><![CDATA[MEDIAIDthumb]]></ThumbMediaId>
<MsgId>$MSGID$</MsgId>`},
	{"shortvideo", "MEDIAIDvideo", `<MsgType><![CDATA[shortvideo]]></MsgType>
<MediaId><![CDATA[$CONTENT$]]></MediaId>
<ThumbMediaId><![CDATA[MEDIAIDthumb]]></ThumbMediaId>
<MsgId>$MSGID$</MsgId>`},
	{"location", "广州市海珠区", `<MsgType><![CDATA[location]]></MsgType>
<Location_X>23.134521</Location_X>
<Location_Y>113.358803</Location_Y>
<Scale>16</Scale>
<Label><![CDATA[$CONTENT$]]></Label>
<MsgId>$MSGID$</MsgId>`},
	{"link", "公众平台官网链接", `<MsgType><![CDATA[link]]></MsgType>
<Title><![CDATA[$CONTENT$]]></Title>
<Description><![CDATA[]]></Description>
<Url><![CDATA[https://mp.weixin.qq.com/?a=1&b=2]]></Url>
<MsgId>$MSGID$</MsgId>`},
	{"subscribe", "", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[subscribe]]></Event>
<EventKey><![CDATA[$CONTENT$]]></EventKey>`},
	{"unsubscribe", "", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[unsubscribe]]></Event>
<EventKey><![CDATA[$CONTENT$]]></EventKey>`},
	{"CLICK", "V1001_TODAY", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[CLICK]]></Event>
<EventKey><![CDATA[$CONTENT$]]></EventKey>`},
	{"VIEW", "https://shop.example.com/?a=1&b=2", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[VIEW]]></Event>
<EventKey><![CDATA[$CONTENT$]]></EventKey>
<MenuId>421797562</MenuId>`},
	{"LOCATION", "23.137466", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[LOCATION]]></Event>
<Latitude>$CONTENT$</Latitude>
<Longitude>113.352425</Longitude>
<Precision>119.385040</Precision>`},
	{"SCAN", "123", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[SCAN]]></Event>
<EventKey><![CDATA[$CONTENT$]]></EventKey>
<Ticket><![CDATA[QRTICKETsandbox]]></Ticket>`},
	{"TEMPLATESENDJOBFINISH", "success", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event>
<MsgID>$MSGID$</MsgID>
<Status><![CDATA[$CONTENT$]]></Status>`},
	{"miniprogrampage", "商品", `<MsgType><![CDATA[miniprogrampage]]></MsgType>
<MsgId>$MSGID$</MsgId>
<Title><![CDATA[$CONTENT$]]></Title>
<AppId><![CDATA[$APPID$]]></AppId>
<PagePath><![CDATA[pages/index?id=1]]></PagePath>
<ThumbUrl><![CDATA[http://mmbiz.qpic.cn/mmbiz_jpg/sandbox/0]]></ThumbUrl>
<ThumbMediaId><![CDATA[MEDIAIDthumb]]></ThumbMediaId>`},
	{"user_enter_tempsession", "weapp", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[user_enter_tempsession]]></Event>
<SessionFrom><![CDATA[$CONTENT$]]></SessionFrom>`},
	{"wxa_media_check", "62f11967-2b24d27a-34715985", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[wxa_media_check]]></Event>
<appid><![CDATA[$APPID$]]></appid>
<trace_id><![CDATA[$CONTENT$]]></trace_id>
<version>2</version>
<detail><strategy><![CDATA[content_model]]></strategy><errcode>0</errcode><suggest><![CDATA[pass]]></suggest><label>100</label><prob>90</prob></detail>
<errcode>0</errcode>
<errmsg><![CDATA[ok]]></errmsg>
<result><suggest><![CDATA[pass]]></suggest><label>100</label></result>`},
	{"weapp_audit_success", "", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[weapp_audit_success]]></Event>
<SuccTime>$NOW$</SuccTime>`},
	{"weapp_audit_fail", "1:账号信息不符合规范:<br>(1):包含色情因素<br>", `<MsgType><![CDATA[event]]></MsgType>
<Event><![CDATA[weapp_audit_fail]]></Event>
<Reason><![CDATA[$CONTENT$]]></Reason>
<FailTime>$NOW$</FailTime>
<ScreenShot>SCREENSHOTa|SCREENSHOTb</ScreenShot>`},
}

// MessageKinds are the kinds that Message knows: MsgTypes, and Events as WeChat
// spells them ("location" is a message, "LOCATION" an event).
func MessageKinds() (names []string) {
	for _, kind := range messageKinds {
		names = append(names, kind.name)
	}
	return names
}

// Text makes a follower's text, to be pushed once or several times. It is written
// as WeChat writes it, which escapes nothing: with a control character or ]]> in
// content, what gets pushed is not well-formed XML.
func (s *Sandbox) Text(appid, openid, content string) Push {
	return s.message(appid, openid, messageKinds[0], content)
}

// Message makes a message or an event of one of MessageKinds, to be pushed once or
// several times. content is the part that varies, unescaped: a text, a MediaId, a
// Label, a Title, an EventKey, …; empty means a usual one. CreateTime is now. A
// MsgId is unique for the follower but not among followers, and many events have
// none: several of one second differ in nothing.
func (s *Sandbox) Message(appid, openid, kind, content string) (Push, error) {
	at := slices.IndexFunc(messageKinds, func(known messageKind) bool { return known.name == kind })
	if at < 0 {
		return Push{}, fmt.Errorf("making a message: the kind %q is not among %s", kind, strings.Join(MessageKinds(), ", "))
	}
	return s.message(appid, openid, messageKinds[at], or(content, messageKinds[at].content)), nil
}

func (s *Sandbox) message(appid, openid string, kind messageKind, content string) Push {
	inner := strings.NewReplacer(
		"$CONTENT$", content,
		"$MSGID$", strconv.FormatUint(s.nextMsgID(appid, openid), 10),
		"$NOW$", strconv.FormatInt(s.cfg.Now().Unix(), 10),
		"$APPID$", appid,
	).Replace(kind.inner)
	return s.messageOf(appid, openid, "\n", inner+"\n")
}

// messageOf makes a message; between stands between its first elements.
func (s *Sandbox) messageOf(appid, openid, between, inner string) Push {
	s.mu.Lock()
	account := s.userName(appid)
	s.mu.Unlock()
	return Push{AppID: appid, OpenID: openid, Plain: fmt.Sprintf(
		"<xml><ToUserName>%[2]s</ToUserName>%[1]s<FromUserName>%[3]s</FromUserName>%[1]s<CreateTime>%[4]d</CreateTime>%[1]s%[5]s</xml>",
		between, cdata(account), cdata(openid), s.cfg.Now().Unix(), inner)}
}

// nextMsgID continues a follower's MsgIds. All followers begin with the same one,
// for a MsgId names a message only together with its sender.
func (s *Sandbox) nextMsgID(appid, openid string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.msgIDs) >= maxCounts { // forget the followers, but use no MsgId twice
		s.newMsgID = slices.Max(slices.Collect(maps.Values(s.msgIDs))) + 1
		clear(s.msgIDs)
	}
	follower := [2]string{appid, openid}
	next := s.newMsgID
	if last, known := s.msgIDs[follower]; known {
		next = last + 1
	}
	s.msgIDs[follower] = next
	return next
}

// PushMessage pushes a message or event of an account; innerXML follows its
// CreateTime, such as <MsgType>…</MsgType>. It returns the passive reply,
// decrypted, or "" if the gateway had none to make. An answer that is neither
// `success`, `SUCCESS`, empty nor a proper sealed reply is an error: a follower of
// an official account would be shown "service unavailable".
func (s *Sandbox) PushMessage(ctx context.Context, appid, openid, innerXML string) (reply string, err error) {
	answer, err := s.Push(ctx, s.messageOf(appid, openid, "", innerXML))
	if err != nil {
		return "", err
	}
	return answer.Reply, nil
}
