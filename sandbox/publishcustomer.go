// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// publishPatience is how long the customer message is waited for. WeChat's page says
// "at once" [?].
const publishPatience = 10 * time.Second

// maxTold is how many characters of an answer or a message are shown.
const maxTold = 160

// customer asks for a customer message: the answer is to be empty, and the message
// to come by the API.
func (r *publishRun) customer(ctx context.Context, account Account, code string) {
	wanted := code + "_from_api"
	r.step(ctx, PublishStep{
		Step: kindName(account) + ": customer message", AppID: account.AppID,
		Sent: "the text " + strconv.Quote(readable(publishQuery+code, code)),
		Wanted: fmt.Sprintf("an empty answer%s; then, within %v, api_query_auth with the code; and with the token of that custom/send of %s to the follower",
			r.inTime(), publishPatience, textOf(wanted, code)),
	}, func() (string, bool) {
		since, openid := r.cfg.Now(), publishFollower(account)
		answer, err := r.Push(ctx, r.Text(account.AppID, openid, publishQuery+code))
		if err != nil || answer.Body != "" {
			return told(answer, err, code), false
		}
		got, ok := r.awaitCustomerMessage(ctx, account.AppID, openid, code, since)
		return told(answer, nil, code) + "; " + got, ok
	})
}

// awaitCustomerMessage waits until the gateway has exchanged the code and sent the
// message that belongs to it. Other messages are no mistake: an application may
// send some. got tells what it has done, of other messages the last one.
func (s *Sandbox) awaitCustomerMessage(ctx context.Context, appid, openid, code string, since time.Time) (got string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	for {
		over := ctx.Err() != nil // an exchange wakes nobody, so the last look is behind the end
		got, ok, more := s.customerMessage(appid, openid, code, since)
		if ok || over {
			return got, ok
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}

// customerMessage judges what an account has sent since a time. more is closed when
// any account sends something.
func (s *Sandbox) customerMessage(appid, openid, code string, since time.Time) (got string, ok bool, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	exchange := s.codes[code]
	query := "api_query_auth was not called with the code"
	switch {
	case exchange.spent:
		query = "the code was exchanged"
	case exchange.asked:
		query = "api_query_auth refused the code"
	}
	send := "custom/send was not called"
	for _, message := range slices.Backward(s.sent.list()) {
		if message.AppID != appid || message.Time.Before(since) {
			continue
		}
		what, right := customerText(message, openid, code)
		old := message.TokenGeneration < exchange.generation
		if right && old {
			what += ", with an older token than that of the exchange"
		}
		if right && exchange.spent && !old {
			return query + "; custom/send of " + what, true, s.moreSent
		}
		if send == "custom/send was not called" {
			send = "custom/send of " + what
		}
	}
	return query + "; " + send, false, s.moreSent
}

// customerText tells what was sent to whom, and whether that is what the test wants.
func customerText(message SentMessage, openid, code string) (what string, right bool) {
	var body struct{ Text struct{ Content string } }
	_ = json.Unmarshal(message.Body, &body) // it was read when it was taken
	what, to := "a message of msgtype "+strconv.Quote(readable(message.MsgType, code)), "to the follower"
	if message.MsgType == "text" {
		what = textOf(body.Text.Content, code)
	}
	if message.ToUser != openid {
		to = "to somebody else"
	}
	return what + " " + to, message.MsgType == "text" && message.ToUser == openid && body.Text.Content == code+"_from_api"
}

// told says how a push was answered.
func told(answer PushAnswer, err error, code string) string {
	text, after := "", ""
	if answer.Attempts > 1 {
		after = " at attempt " + strconv.Itoa(answer.Attempts)
	}
	switch {
	case err != nil && answer.Body != "":
		return readable(err.Error(), code) + "; the answer was " + strconv.Quote(readable(answer.Body, code))
	case err != nil:
		return readable(err.Error(), code)
	case answer.Reply != "" && element(answer.Reply, "MsgType") == "text":
		text = textOf(element(answer.Reply, "Content"), code)
	case answer.Reply != "":
		text = "a reply of MsgType " + strconv.Quote(readable(element(answer.Reply, "MsgType"), code))
	case answer.Body == "":
		text = "an empty answer"
	default:
		text = "`" + answer.Body + "`"
	}
	return text + after
}

// textOf names a text as it is shown.
func textOf(content, code string) string { return "the text " + strconv.Quote(readable(content, code)) }

var codeForm = regexp.MustCompile(`queryauthcode@@@[A-Za-z0-9]+`)

// readable shortens a text and replaces the authorization codes in it.
func readable(text, code string) string {
	if code != "" {
		text = strings.ReplaceAll(text, code, "$query_auth_code$")
	}
	text = codeForm.ReplaceAllString(text, "(another code)")
	if characters := []rune(text); len(characters) > maxTold {
		return string(characters[:maxTold]) + "…"
	}
	return text
}
