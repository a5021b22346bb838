// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/jpeg"
	"time"
)

// SentMessage is a customer or template message that an application sent.
type SentMessage struct {
	Time    time.Time       `json:"time"`
	AppID   string          `json:"appid"` // the account in whose name
	ToUser  string          `json:"touser"`
	MsgType string          `json:"msgtype"` // `template` for template messages
	Body    json.RawMessage `json:"body"`

	TokenGeneration int `json:"token_generation"` // of the account's token it was sent with, from 1
}

// SentMessages is what message/custom/send and message/template/send accepted, oldest first.
func (s *Sandbox) SentMessages() []SentMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sent.list()
}

func (s *Sandbox) keep(x *exchange, toUser, msgType string, body json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent.add(SentMessage{s.cfg.Now(), x.token.appid, toUser, msgType, body, x.token.generation})
	close(s.moreSent)
	s.moreSent = make(chan struct{})
}

func (s *Sandbox) customSend(x *exchange) (any, error) {
	var raw json.RawMessage
	if err := x.decode(&raw); err != nil {
		return nil, err
	}
	var message struct{ ToUser, MsgType string }
	var content map[string]json.RawMessage
	if json.Unmarshal(raw, &message) != nil || json.Unmarshal(raw, &content) != nil {
		return nil, refuse(47001, "data format error")
	}
	switch {
	case message.ToUser == "":
		return nil, refuse(40003, "invalid openid")
	case message.MsgType == "" || content[message.MsgType] == nil:
		return nil, refuse(40008, "invalid message type")
	}
	s.keep(x, message.ToUser, message.MsgType, raw)
	return okay(), nil
}

func (s *Sandbox) templateSend(x *exchange) (any, error) {
	var raw json.RawMessage
	if err := x.decode(&raw); err != nil {
		return nil, err
	}
	var message struct {
		ToUser   string
		Template string `json:"template_id"`
	}
	switch {
	case json.Unmarshal(raw, &message) != nil:
		return nil, refuse(47001, "data format error")
	case message.ToUser == "":
		return nil, refuse(40003, "invalid openid")
	case message.Template == "":
		return nil, refuse(40037, "invalid template_id")
	}
	s.keep(x, message.ToUser, "template", raw)
	return object{"errcode": 0, "errmsg": "ok", "msgid": randomUint32()}, nil
}

// followerInfo is user/info: every openid that is asked for follows the account.
func (s *Sandbox) followerInfo(x *exchange) (any, error) {
	openid := x.query.Get("openid")
	if openid == "" {
		return nil, refuse(40003, "invalid openid")
	}
	return object{
		"subscribe": 1, "openid": openid, "nickname": "", "language": "zh_CN", "headimgurl": "",
		"subscribe_time": s.cfg.Now().Unix(), "remark": "", "groupid": 0, "tagid_list": []int{},
		"subscribe_scene": "ADD_SCENE_QR_CODE", "qr_scene": 0, "qr_scene_str": "",
	}, nil
}

func (s *Sandbox) followers(x *exchange) (any, error) {
	if x.query.Get("next_openid") != "" {
		return object{"total": 2, "count": 0, "next_openid": ""}, nil
	}
	ids := []string{openID(x.token.appid, "alice"), openID(x.token.appid, "bob")}
	return object{"total": 2, "count": 2, "data": object{"openid": ids}, "next_openid": ids[1]}, nil
}

func (s *Sandbox) menuCreate(x *exchange) (any, error) {
	var menu json.RawMessage
	if err := x.decode(&menu); err != nil {
		return nil, err
	}
	var buttons struct{ Button []json.RawMessage }
	if json.Unmarshal(menu, &buttons) != nil || len(buttons.Button) == 0 {
		return nil, refuse(40016, "invalid button size")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[x.token.appid].menu = menu
	return okay(), nil
}

func (s *Sandbox) menuGet(x *exchange) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	menu := s.accounts[x.token.appid].menu
	if menu == nil {
		return nil, refuse(46003, "menu no exist")
	}
	return object{"menu": json.RawMessage(menu)}, nil
}

func (s *Sandbox) menuDelete(x *exchange) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[x.token.appid].menu = nil
	return okay(), nil
}

func (s *Sandbox) ipList(*exchange) (any, error) {
	return object{"ip_list": []string{"127.0.0.1", "101.226.103.0/25"}}, nil
}

func (s *Sandbox) datacube(x *exchange) (any, error) {
	var body struct {
		From string `json:"begin_date"`
		To   string `json:"end_date"`
	}
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	if body.From == "" || body.To == "" {
		return nil, refuse(61501, "date range error")
	}
	return object{"list": []object{}}, nil
}

// textCheck is msg_sec_check: nothing is ever risky here.
func (s *Sandbox) textCheck(x *exchange) (any, error) {
	var body struct{ Content string }
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	if body.Content == "" {
		return nil, refuse(44004, "empty content")
	}
	return object{
		"errcode": 0, "errmsg": "ok", "trace_id": random("", 24),
		"result": object{"suggest": "pass", "label": 100}, "detail": []object{},
	}, nil
}

// miniProgramCode is getwxacode and getwxacodeunlimit: a picture, or a JSON error.
func (s *Sandbox) miniProgramCode(x *exchange) (any, error) {
	var body struct{ Scene, Path string }
	if err := x.decode(&body); err != nil {
		return nil, err
	}
	switch {
	case x.call.Path == "/wxa/getwxacode" && body.Path == "":
		return nil, refuse(40159, "invalid length for path, or the data is not json string")
	case x.call.Path == "/wxa/getwxacodeunlimit" && body.Scene == "":
		return nil, refuse(40169, "invalid length for scene, or the data is not json string")
	}
	picture := drawCode(body.Scene + body.Path)
	return &download{"image/jpeg", "", int64(len(picture)), bytes.NewReader(picture)}, nil
}

// drawCode makes a small picture that depends on text.
func drawCode(text string) []byte {
	digest := sign(text)
	squares := image.NewGray(image.Rect(0, 0, 40, 1))
	for i := range len(digest) {
		squares.SetGray(i, 0, color.Gray{Y: digest[i]})
	}
	var out bytes.Buffer
	_ = jpeg.Encode(&out, squares, &jpeg.Options{Quality: 100}) // a bytes.Buffer does not fail
	return out.Bytes()
}
