// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxPushAnswer = 1 << 20  // bytes read of an answer
	maxKeptAnswer = 64 << 10 // bytes of an answer that the history keeps
)

// Push is something WeChat, or someone who would like to be taken for it, sends to
// the gateway. The same Push, pushed several times, is the same message several
// times. The fields below OpenID decide where it goes and how often, those below
// Attempts make bad ones.
type Push struct {
	// Plain is the XML that gets sealed; Message and Text write it.
	Plain string `json:"plain,omitempty"`
	// AppID makes it a message of this account, sent to the messages URL in a
	// ToUserName envelope. Empty: an event, sent to the events URL in an AppId envelope.
	AppID string `json:"appid,omitempty"`
	// OpenID is the sender of a message.
	OpenID string `json:"openid,omitempty"`

	// To are the URLs of the attempts in turn, in place of the configured one: one
	// URL for a certain node of a gateway, two for repetitions that reach another
	// node. $APPID$ is filled in.
	To []string `json:"to,omitempty"`
	// Again seals and signs the text of an earlier push anew, Replay sends an earlier
	// push byte for byte. Plain, AppID and OpenID are not read then; with Replay only
	// To, Number and Attempts are.
	Again  bool `json:"again,omitempty"`
	Replay bool `json:"replay,omitempty"`
	// Number says which attempt of Pushes Again and Replay mean; 0 means the one that
	// was made last.
	Number int `json:"number,omitempty"`
	// Attempts overrides Switches.PushAttempts.
	Attempts int `json:"attempts,omitempty"`

	// ForgedSignature sends a msg_signature that does not fit.
	ForgedSignature bool `json:"forged_signature,omitempty"`
	// ReceiveID is sealed in in place of the component's appid: another platform's push.
	ReceiveID string `json:"receive_id,omitempty"`
	// EncodingAESKey and Token seal and sign in place of the component's own.
	EncodingAESKey string `json:"encoding_aes_key,omitempty"`
	Token          string `json:"token,omitempty"`
	// Age puts the timestamp that far into the past, or the future if negative.
	Age time.Duration `json:"age,omitempty"`
}

// What Shown says that a follower sees.
const (
	ShownReply       = "reply"       // the message in Reply
	ShownSilence     = "silence"     // nothing
	ShownUnavailable = "unavailable" // 该公众号提供的服务出现故障: the account is out of service
)

// PushAnswer is what the gateway said at the last attempt, and what came of it.
type PushAnswer struct {
	Attempts int    `json:"attempts"`
	Status   int    `json:"status"` // 0: no HTTP answer at all
	Body     string `json:"body"`
	// Reply is the opened passive reply to a message, if there was a sealed one.
	Reply string `json:"reply,omitempty"`
	// Shown is what the follower sees in the end: ShownReply, ShownSilence or
	// ShownUnavailable. Empty for an event, and if the caller's context has ended.
	Shown string `json:"shown,omitempty"`
	// Tries are the attempts, in order; never nil.
	Tries []PushRecord `json:"tries"`
}

// PushRecord is one attempt, for the history.
type PushRecord struct {
	Number int           `json:"number"` // from 1, in the order the attempts began
	Time   time.Time     `json:"time"`   // it began
	Took   time.Duration `json:"took"`   // nanoseconds in JSON
	URL    string        `json:"url"`
	Sealed string        `json:"sealed"` // the body
	Plain  string        `json:"plain"`  // what is in it
	Status int           `json:"status"` // 0: no HTTP answer at all
	Body   string        `json:"body"`   // in the history its first 64 KiB
	// Reply is the opened passive reply, if there was a sealed one.
	Reply string `json:"reply,omitempty"`
	// HungUp says that WeChat hung up, as the answer took too long.
	HungUp bool `json:"hung_up,omitempty"`
	// Err is why this attempt did not do.
	Err string `json:"err,omitempty"`

	push *sealedPush // for Again and Replay
}

// sealedPush is a push ready to be sent.
type sealedPush struct {
	appid, openid, plain string
	to, query, body      string // to is the configured URL
}

// target is the URL of the nth attempt, from 1, of which there may be several in turn.
func (p *sealedPush) target(turns []string, n int) string {
	to := p.to
	if len(turns) > 0 {
		to = strings.ReplaceAll(turns[(n-1)%len(turns)], "$APPID$", p.appid)
	}
	if strings.Contains(to, "?") {
		return to + "&" + p.query
	}
	return to + "?" + p.query
}

// Pushes is the history of push attempts that are over, in the order they ended.
// Its length is bounded by Config.History.
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

// Push seals, signs and POSTs p as WeChat does: it hangs up after
// Config.PushTimeout and makes three attempts unless told otherwise, each as soon
// as the one before has failed. It blocks until the last is over; pushes do not
// wait for each other. The answer is what came back last; err is not nil unless
// that was acceptable.
//
// A message that was answered, but in a way that WeChat cannot read, is not pushed
// again: the follower sees the trouble at once. What is not answered in time, not
// with status 200, or over a broken connection, is; so is every event that is not
// answered exactly `success`.
func (s *Sandbox) Push(ctx context.Context, p Push) (PushAnswer, error) {
	var (
		answer   = PushAnswer{Tries: []PushRecord{}}
		sealed   *sealedPush
		err      error
		switches = s.switches()
		attempts = or(p.Attempts, or(switches.PushAttempts, 3))
	)
	for n := 1; n <= attempts; n++ {
		if sealed == nil || !switches.RetrySameBytes {
			if sealed, err = s.sealPush(p, sealed); err != nil {
				return answer, fmt.Errorf("pushing: %w", err)
			}
		}
		var try PushRecord
		try, err = s.attempt(ctx, sealed, sealed.target(p.To, n))
		answer.Attempts, answer.Status, answer.Body, answer.Reply = n, try.Status, try.Body, try.Reply
		answer.Tries = append(answer.Tries, try)
		if err == nil || ctx.Err() != nil || errors.Is(err, errUnreadable) || try.HungUp && switches.NoRepeatAfterTimeout {
			break
		}
	}
	if ctx.Err() == nil {
		answer.Shown = s.shown(sealed, answer.Reply, err)
	}
	if err != nil {
		return answer, fmt.Errorf("pushing to the gateway, attempt %d of %d: %w", answer.Attempts, attempts, err)
	}
	return answer, nil
}

// sealPush makes the query and the body, or takes those of an earlier push.
// before is the attempt before this one, nil at the first.
func (s *Sandbox) sealPush(p Push, before *sealedPush) (*sealedPush, error) {
	if p.Again || p.Replay {
		earlier, err := before, error(nil)
		if earlier == nil {
			earlier, err = s.earlierPush(p.Number)
		}
		if p.Replay || err != nil {
			return earlier, err
		}
		p.Plain, p.AppID, p.OpenID = earlier.plain, earlier.appid, earlier.openid
	}
	s.mu.Lock()
	token, key := or(p.Token, s.cfg.Token), or(p.EncodingAESKey, s.cfg.EncodingAESKey)
	to, envelope := s.cfg.EventsURL, "<AppId>"+cdata(s.cfg.Component)+"</AppId>"
	if p.AppID != "" {
		to = strings.ReplaceAll(s.cfg.MessagesURL, "$APPID$", p.AppID)
		envelope = "<ToUserName>" + cdata(s.userName(p.AppID)) + "</ToUserName>"
	}
	s.mu.Unlock()
	if to == "" && len(p.To) == 0 {
		return nil, fmt.Errorf("no URL to push to is configured")
	}
	box, err := seal(key, []byte(random("", 16)), p.Plain, or(p.ReceiveID, s.cfg.Component))
	if err != nil {
		return nil, err
	}
	sealed := &sealedPush{
		appid: p.AppID, openid: p.OpenID, plain: p.Plain,
		to:    to,
		query: s.signedQuery(p, token, box),
		body:  "<xml>" + envelope + "<Encrypt>" + cdata(box) + "</Encrypt></xml>",
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastPush = sealed
	return sealed, nil
}

// earlierPush finds the push of an attempt in the history; 0 is the last one sealed.
func (s *Sandbox) earlierPush(number int) (*sealedPush, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number == 0 && s.lastPush != nil {
		return s.lastPush, nil
	}
	for _, record := range s.pushes.items {
		if record.Number == number {
			return record.push, nil
		}
	}
	return nil, fmt.Errorf("repeating an earlier push: there is none, or it is forgotten")
}

// userName is the gh_ id of an account; a stranger gets one that nobody has.
func (s *Sandbox) userName(appid string) string {
	if account := s.accounts[appid]; account != nil {
		return account.UserName
	}
	return "gh_000000000000"
}

// signedQuery are the five parameters WeChat sends, and openid with messages.
func (s *Sandbox) signedQuery(p Push, token, box string) string {
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

// attempt makes one attempt, judges its answer and notes both.
func (s *Sandbox) attempt(ctx context.Context, p *sealedPush, to string) (PushRecord, error) {
	record := PushRecord{Time: s.cfg.Now(), URL: to, Sealed: p.body, Plain: p.plain, push: p}
	s.mu.Lock()
	s.pushed++
	record.Number = s.pushed
	s.mu.Unlock()

	began := time.Now()
	limited, hangUp := context.WithTimeout(ctx, s.cfg.PushTimeout)
	defer hangUp()
	var err error
	record.Status, record.Body, err = s.post(limited, to, p.body)
	record.Took = time.Since(began)
	record.HungUp = err != nil && limited.Err() != nil && ctx.Err() == nil
	if record.HungUp {
		err = fmt.Errorf("no answer within %v: %w", s.cfg.PushTimeout, err)
	}
	if err == nil {
		record.Reply, err = s.judge(p, record.Status, record.Body)
	}
	if err != nil {
		record.Err = err.Error()
	}

	kept := record
	kept.Body = strings.Clone(kept.Body[:min(len(kept.Body), maxKeptAnswer)])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes.add(kept)
	return record, err
}

// post sends body and reads the answer, both until ctx ends.
func (s *Sandbox) post(ctx context.Context, to, body string) (status int, answer string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "text/xml")
	request.Header.Set("User-Agent", "Mozilla/4.0")
	response, err := s.cfg.Transport.RoundTrip(request) // WeChat follows no redirects
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxPushAnswer))
	return response.StatusCode, string(content), err
}
