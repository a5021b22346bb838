// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// replyKinds are the MsgTypes that WeChat's pages name for passive replies.
var replyKinds = []string{"text", "image", "voice", "video", "music", "news", "transfer_customer_service", "transfer_biz_ai_ivr"}

// errUnreadable is the cause where a message was answered, but with nothing that
// WeChat can read.
var errUnreadable = errors.New("reading the passive reply")

// judge judges an answer as WeChat does and opens a passive reply, which it
// returns even if there is something wrong with it.
func (s *Sandbox) judge(p *sealedPush, status int, body string) (reply string, err error) {
	message := p.appid != ""
	switch {
	case status != http.StatusOK:
		return "", fmt.Errorf("answered with status %d", status)
	case body == "success", message && (body == "" || body == "SUCCESS"):
		return "", nil
	case !message:
		return "", fmt.Errorf("answered %d bytes that are not exactly `success`", len(body))
	}
	reply, err = s.openReply(body)
	if err == nil {
		err = s.checkReply(p, reply)
	}
	if err != nil {
		return reply, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return reply, nil
}

// openReply opens a passive reply. The signature is over the reply's own values.
func (s *Sandbox) openReply(body string) (string, error) {
	var envelope struct {
		XMLName      xml.Name `xml:"xml"`
		Encrypt      string
		MsgSignature string
		TimeStamp    string
		Nonce        string
	}
	if err := xml.NewDecoder(strings.NewReader(body)).Decode(&envelope); err != nil {
		return "", err
	}
	_, token, key := s.Keys()
	if envelope.MsgSignature != sign(token, envelope.TimeStamp, envelope.Nonce, envelope.Encrypt) {
		return "", errors.New("MsgSignature does not fit")
	}
	reply, receiveID, err := open(key, envelope.Encrypt)
	if err == nil && receiveID != s.cfg.Component {
		err = fmt.Errorf("made for %q", receiveID)
	}
	return reply, err
}

// checkReply says what a follower could not be shown of an opened reply. What it
// must have, WeChat's page says; that text must not be empty follows from its
// remark that an empty Content is not the empty answer.
func (s *Sandbox) checkReply(p *sealedPush, reply string) error {
	to, from, kind := element(reply, "ToUserName"), element(reply, "FromUserName"), element(reply, "MsgType")
	s.mu.Lock()
	account, strict := s.userName(p.appid), s.cfg.Switches.StrictReplyNames
	s.mu.Unlock()
	switch {
	case !strings.Contains(reply, "<xml>"):
		return fmt.Errorf("%d bytes that are no message", len(reply))
	case to == "" || from == "":
		return errors.New("it lacks ToUserName or FromUserName")
	case !slices.Contains(replyKinds, kind):
		return fmt.Errorf("MsgType %q", kind)
	case kind == "text" && element(reply, "Content") == "":
		return errors.New("a text without Content")
	case strict && (to != p.openid || from != account):
		return errors.New("ToUserName is not the follower, or FromUserName not the account")
	}
	return nil
}

// element is the text of the first element of a name. It is no XML parser: a reply
// may quote what a follower has written, characters and all that XML forbids.
func element(document, name string) string {
	_, rest, _ := strings.Cut(document, "<"+name+">")
	text, _, closed := strings.Cut(rest, "</"+name+">")
	if !closed {
		return ""
	}
	text = strings.TrimSpace(text)
	if inner, marked := strings.CutPrefix(text, "<![CDATA["); marked {
		return strings.TrimSuffix(inner, "]]>")
	}
	return text
}

// shown is what the follower sees in the end. Mini programs have no passive
// replies, and do not speak of trouble either.
func (s *Sandbox) shown(p *sealedPush, reply string, err error) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.accounts[p.appid]
	switch {
	case p.appid == "":
		return ""
	case account != nil && account.MiniProgram:
		return ShownSilence
	case err != nil:
		return ShownUnavailable
	case reply != "":
		return ShownReply
	}
	return ShownSilence
}
