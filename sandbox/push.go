// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	pushTimeout   = 5 * time.Second // what WeChat grants an attempt
	maxPushAnswer = 1 << 20
)

// Push is something WeChat, or someone who would like to be taken for it, sends to
// the gateway. The fields below Message make bad ones.
type Push struct {
	// Plain is the XML that gets sealed.
	Plain string `json:"plain,omitempty"`
	// AppID makes it a message of this account, sent to the messages URL in a
	// ToUserName envelope. Empty: an event, sent to the events URL in an AppId envelope.
	AppID string `json:"appid,omitempty"`
	// OpenID is the sender of a message.
	OpenID string `json:"openid,omitempty"`

	// ForgedSignature sends a msg_signature that does not fit.
	ForgedSignature bool `json:"forged_signature,omitempty"`
	// ReceiveID is sealed in in place of the component's appid: another platform's push.
	ReceiveID string `json:"receive_id,omitempty"`
	// EncodingAESKey and Token seal and sign in place of the component's own.
	EncodingAESKey string `json:"encoding_aes_key,omitempty"`
	Token          string `json:"token,omitempty"`
	// Age puts the timestamp that far into the past, or the future if negative.
	Age time.Duration `json:"age,omitempty"`
	// Replay sends the last push again, byte for byte; only Attempts is read beside it.
	Replay bool `json:"replay,omitempty"`
	// Attempts overrides Switches.PushAttempts.
	Attempts int `json:"attempts,omitempty"`
}

// PushAnswer is what the gateway said at the last attempt.
type PushAnswer struct {
	Attempts int    `json:"attempts"`
	Status   int    `json:"status"` // 0: no HTTP answer at all
	Body     string `json:"body"`
	// Reply is the opened passive reply to a message, if there was a sealed one.
	Reply string `json:"reply,omitempty"`
}

// PushRecord is one attempt, for the history.
type PushRecord struct {
	Time   time.Time `json:"time"`
	URL    string    `json:"url"`
	Sealed string    `json:"sealed"` // the body
	Plain  string    `json:"plain"`  // what is in it
	Status int       `json:"status"`
	Body   string    `json:"body"`
	Err    string    `json:"err,omitempty"`
}

// sealedPush is a push ready to be sent.
type sealedPush struct {
	url, body, plain string
}

// Pushes is the history of push attempts, oldest first.
func (s *Sandbox) Pushes() []PushRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pushes.list()
}

// PushEvent pushes an event of any InfoType; innerXML follows its CreateTime. It
// fails unless answered exactly `success`.
func (s *Sandbox) PushEvent(ctx context.Context, infoType, innerXML string) error {
	plain := fmt.Sprintf("<xml><AppId>%s</AppId><CreateTime>%d</CreateTime><InfoType>%s</InfoType>%s</xml>",
		cdata(s.cfg.Component), s.cfg.Now().Unix(), cdata(infoType), innerXML)
	_, err := s.Push(ctx, Push{Plain: plain})
	return err
}

// Push seals, signs and POSTs p as WeChat does: 5 s an attempt, three attempts
// unless told otherwise. The answer is what came back last; err is not nil unless
// that was acceptable.
func (s *Sandbox) Push(ctx context.Context, p Push) (PushAnswer, error) {
	attempts := or(p.Attempts, or(s.switches().PushAttempts, 3))
	var (
		answer PushAnswer
		sealed *sealedPush
		err    error
	)
	for n := 1; n <= attempts; n++ {
		if sealed == nil || !s.switches().RetrySameBytes && !p.Replay {
			if sealed, err = s.sealPush(p); err != nil {
				return answer, fmt.Errorf("pushing: %w", err)
			}
		}
		answer, err = s.post(ctx, sealed)
		answer.Attempts = n
		if err == nil {
			answer.Reply, err = s.acceptable(p, answer)
		}
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return answer, fmt.Errorf("pushing to the gateway, attempt %d of %d: %w", answer.Attempts, attempts, err)
	}
	return answer, nil
}

// sealPush makes the URL and the body, or takes those of the last push.
func (s *Sandbox) sealPush(p Push) (*sealedPush, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Replay {
		if s.lastPush == nil {
			return nil, fmt.Errorf("replaying: nothing was pushed yet")
		}
		return s.lastPush, nil
	}
	to, envelope := s.cfg.EventsURL, "<AppId>"+cdata(s.cfg.Component)+"</AppId>"
	if p.AppID != "" {
		to = strings.ReplaceAll(s.cfg.MessagesURL, "$APPID$", p.AppID)
		envelope = "<ToUserName>" + cdata(s.userName(p.AppID)) + "</ToUserName>"
	}
	if to == "" {
		return nil, fmt.Errorf("no URL to push to is configured")
	}
	box, err := seal(or(p.EncodingAESKey, s.cfg.EncodingAESKey), []byte(random("", 16)), p.Plain, or(p.ReceiveID, s.cfg.Component))
	if err != nil {
		return nil, err
	}
	query := s.signedQuery(p, box)
	separator := "?"
	if strings.Contains(to, "?") {
		separator = "&"
	}
	s.lastPush = &sealedPush{
		url:   to + separator + query,
		body:  "<xml>" + envelope + "<Encrypt>" + cdata(box) + "</Encrypt></xml>",
		plain: p.Plain,
	}
	return s.lastPush, nil
}

// userName is the gh_ id of an account; a stranger gets one that nobody has.
func (s *Sandbox) userName(appid string) string {
	if account := s.accounts[appid]; account != nil {
		return account.UserName
	}
	return "gh_000000000000"
}

// signedQuery are the five parameters WeChat sends, and openid with messages.
func (s *Sandbox) signedQuery(p Push, box string) string {
	token := or(p.Token, s.cfg.Token)
	timestamp := strconv.FormatInt(s.cfg.Now().Add(-p.Age).Unix(), 10)
	nonce := strconv.FormatUint(randomUint32(), 10)
	signature := sign(token, timestamp, nonce, box)
	if p.ForgedSignature {
		signature = sign(signature)
	}
	query := "signature=" + sign(token, timestamp, nonce) + "&timestamp=" + timestamp + "&nonce=" + nonce
	if p.AppID != "" {
		query += "&openid=" + url.QueryEscape(p.OpenID)
	}
	return query + "&encrypt_type=aes&msg_signature=" + signature
}

// post makes one attempt and notes it.
func (s *Sandbox) post(ctx context.Context, p *sealedPush) (answer PushAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	record := PushRecord{Time: s.cfg.Now(), URL: p.url, Sealed: p.body, Plain: p.plain}
	defer func() {
		record.Status, record.Body = answer.Status, answer.Body
		if err != nil {
			record.Err = err.Error()
		}
		s.mu.Lock()
		s.pushes.add(record)
		s.mu.Unlock()
	}()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(p.body))
	if err != nil {
		return answer, err
	}
	request.Header.Set("Content-Type", "text/xml")
	request.Header.Set("User-Agent", "Mozilla/4.0")
	response, err := s.cfg.Transport.RoundTrip(request) // WeChat follows no redirects
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxPushAnswer))
	return PushAnswer{Status: response.StatusCode, Body: string(body)}, err
}

// acceptable judges an answer as WeChat does and opens a passive reply.
func (s *Sandbox) acceptable(p Push, answer PushAnswer) (reply string, err error) {
	plain := answer.Body == "success" || p.AppID != "" && answer.Body == ""
	switch {
	case answer.Status != http.StatusOK:
		return "", fmt.Errorf("answered with status %d", answer.Status)
	case plain:
		return "", nil
	case p.AppID == "" || p.Replay:
		return "", fmt.Errorf("answered %d bytes that are not exactly `success`", len(answer.Body))
	}
	return s.openReply(answer.Body)
}

// openReply opens a passive reply. The signature is over the reply's own values.
func (s *Sandbox) openReply(body string) (string, error) {
	var reply struct {
		XMLName      xml.Name `xml:"xml"`
		Encrypt      string
		MsgSignature string
		TimeStamp    string
		Nonce        string
	}
	if err := xml.NewDecoder(bytes.NewReader([]byte(body))).Decode(&reply); err != nil {
		return "", fmt.Errorf("reading the passive reply: %w", err)
	}
	_, token, key := s.Keys()
	if reply.MsgSignature != sign(token, reply.TimeStamp, reply.Nonce, reply.Encrypt) {
		return "", fmt.Errorf("reading the passive reply: MsgSignature does not fit")
	}
	msg, receiveID, err := open(key, reply.Encrypt)
	if err != nil {
		return "", fmt.Errorf("reading the passive reply: %w", err)
	}
	if receiveID != s.cfg.Component {
		return "", fmt.Errorf("reading the passive reply: made for %q", receiveID)
	}
	return msg, nil
}
