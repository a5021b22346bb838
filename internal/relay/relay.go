// SPDX-License-Identifier: Apache-2.0

// Package relay makes one call of an application at WeChat: it attaches the real
// token, sends the call, and streams the answer back. If WeChat rejects the token,
// it gets another one, if that can be had, and repeats the call once. If the answer or an error contains
// the token, it takes it out. Who calls, and whether he may, is decided before, in
// package gateway.
//
// [Relay.Forward] is the door; its steps are in roundTrip, sendWithToken and send.
package relay

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/tokens"
	"github.com/caddy-wechat/caddy-wechat/internal/upstream"
)

// Relay makes calls of applications at WeChat. It alone writes real tokens into
// requests, on a request of its own, so that no log, placeholder or other handler
// can see one. It is safe for concurrent use; its fields are not changed.
type Relay struct {
	Tokens *tokens.Keeper

	// Hosts are scheme and host of WeChat's API. They come from the configuration
	// only: a host that a caller could choose would be sent real tokens. The
	// second and further ones are called when no connection to those before can be
	// made.
	Hosts []*url.URL

	// Direct makes the calls that are in memory and at most upstream.Short bytes
	// long, Standard all others. Both mark an error that says that no connection
	// was made as a [DialError].
	Direct   http.RoundTripper
	Standard http.RoundTripper

	// Gzip asks WeChat for compressed answers, which are then uncompressed here,
	// because they are searched. What the caller accepts does not matter.
	Gzip bool

	// IsCredential reports whether a value in a query is a client secret or a
	// gateway token. Such a parameter is left out, wherever it stands.
	IsCredential func(string) bool

	// HasCredential reports whether the value of a header has a client secret or a
	// gateway token in it. Such a header is left out.
	HasCredential func(string) bool

	// MaxReplayBody is up to how many bytes of a request body are kept, so that
	// the call can be made once more. Memory is where larger bodies than smallBody
	// are kept; it may be shared with other Relays.
	MaxReplayBody int64
	Memory        *Memory

	// Hint is called before the answer is written to a call that WeChat has refused with
	// an errcode, or for which WeChat has refused a call of the gateway's own. Then it gets
	// that refusal, otherwise nil. It may add to the header of the answer.
	Hint func(w http.ResponseWriter, call *Call, refused *openapi.Refusal)

	Log *zap.Logger

	bodies Bodies
}

// Call is one call as it is to be made at WeChat.
type Call struct {
	Client  string          // the id of who calls; "" if the only credential is an end user's
	Subject subject.Subject // whose real token is attached; "" for none
	Param   string          // the query parameter that the token is attached as
	Path    string          // WeChat's
	Query   string          // as received, but for what a login adds and leaves out

	// Withhold are the names, in lower case, of the members whose values are
	// withheld from an answer that is JSON; nil for none.
	Withhold []string

	// Report is what came of the call.
	Report Report

	timed  timedBody
	body   body
	answer peekedBody // the last
}

// DialError marks an error of a transport that says that no connection was made:
// nothing can have reached WeChat.
type DialError struct{ Err error }

func (e DialError) Error() string { return e.Err.Error() }
func (e DialError) Unwrap() error { return e.Err }

// roundTrip makes a call at WeChat. If WeChat rejects the real token and another one
// can be had, the call is made once more, provided that the body was kept. WeChat may
// do so before all of the body has come; the rest then comes for the second attempt.
// Nothing else is ever sent twice, except to the next host if no connection could be
// made: a message must not be sent twice, nor a code be spent twice.
//
// A rejection is not passed on: the gateway token is good, and there are SDKs that
// answer 40001 by sending an empty file, or half of it.
func (l *Relay) roundTrip(r *http.Request, call *Call) (*http.Response, error) {
	if call.Subject == "" {
		response, err := l.send(r, call, call.Query)
		if err == nil {
			call.peek(response)
		}
		return response, err
	}
	token, err := l.Tokens.Current(r.Context(), call.Subject, call.Client)
	if err != nil {
		return nil, err
	}
	response, rejection, err := l.sendAndJudge(r, call, token)
	if err != nil || rejection == nil {
		return response, err
	}
	response.Body.Close()
	call.Report.end()
	newer, err := l.Tokens.Replace(r.Context(), call.Subject, *rejection)
	switch {
	case err != nil:
		return nil, err
	case !call.body.repeatable():
		return nil, problem.ErrNotKept // the client's own repetition meets the new token
	}
	call.Report.again()
	response, rejection, err = l.sendAndJudge(r, call, newer)
	if err != nil || rejection == nil {
		return response, err
	}
	response.Body.Close()
	return nil, rejection.AsRejected(nil)
}

// sendAndJudge sends a call and tells the engine what the answer says of the token. If
// WeChat rejects it, there is a rejection beside the answer, which the caller closes.
func (l *Relay) sendAndJudge(r *http.Request, call *Call, token *tokens.Token) (*http.Response, *tokens.Rejection, error) {
	response, err := l.sendWithToken(r, call, token)
	if err != nil {
		return nil, nil, err
	}
	code := call.peek(response)
	by := tokens.Caller{Client: call.Client, Path: call.Path}
	switch {
	case response.StatusCode != http.StatusOK: // WeChat answers 200, whatever it has to say of a token
	case openapi.RejectsToken(code):
		return response, &tokens.Rejection{Caller: by, Token: token, Errcode: code, RID: call.Report.RID, Arrived: time.Now()}, nil
	case code == 61003:
		l.Tokens.Recheck(call.Subject, token)
	case code != -1:
		l.Tokens.Accepted(call.Subject, token, by)
	}
	call.body.release()
	return response, nil, nil
}

// peek reads what an answer says of itself into the report of the call, and returns
// its errcode, see peekErrcode.
func (c *Call) peek(response *http.Response) (errcode int) {
	errcode = c.answer.peekErrcode(response)
	c.Report.answered(response.StatusCode, errcode, c.answer.begun())
	return errcode
}

// sendWithToken attaches token and removes it wherever the answer, or the error in
// its place, repeats it. WeChat never repeats it, but a redirect or an error page
// of some server on the way may quote the address of the request. The body is
// searched while it streams; it is not held back, except where credentials are
// withheld from it.
func (l *Relay) sendWithToken(r *http.Request, call *Call, token *tokens.Token) (*http.Response, error) {
	real := rewrite.TokenOf(token.Value.Reveal())
	response, err := l.send(r, call, rewrite.Splice(call.Query, call.Param, real, l.IsCredential))
	if err != nil {
		return nil, withhold(err, real)
	}
	rewrite.ScrubHeader(response.Header, real, "REDACTED")
	if real.Fits(response.ContentLength) {
		response.Body = rewrite.Scrub(response.Body, real)
	}
	if call.Withhold == nil || r.Method == http.MethodHead {
		return response, nil
	}
	if err := withholdMembers(response, call.Withhold); err != nil {
		response.Body.Close()
		return nil, withhold(err, real)
	}
	return response, nil
}

// withhold returns err without a text that quotes the token, as that of a
// "malformed HTTP response" does whose sender echoes what it gets.
func withhold(err error, token rewrite.Token) error {
	if token.In(err.Error()) {
		return fmt.Errorf("%T whose text repeats the request", err)
	}
	return err
}

// send tries the hosts in turn as long as no connection can be made.
func (l *Relay) send(r *http.Request, call *Call, query string) (*http.Response, error) {
	header, err := requestHeader(r.Header, l.HasCredential)
	if err != nil {
		return nil, err
	}
	transport := l.Standard
	if call.body.upload == nil && len(call.body.kept)+len(query) <= upstream.Short {
		transport = l.Direct
	}
	zipped := l.Gzip && r.Method != http.MethodHead && header["Range"] == nil
	header["Accept-Encoding"] = acceptIdentity
	if zipped {
		header["Accept-Encoding"] = acceptGzip
	}
	call.Report.begin()
	for _, host := range l.Hosts {
		var out struct { // at once, for one allocation
			http.Request
			url url.URL
		}
		out.Request = *r
		out.url = url.URL{Scheme: host.Scheme, Host: host.Host, Path: call.Path, RawQuery: query}
		out.URL, out.Host, out.RequestURI, out.Header = &out.url, host.Host, "", header
		out.Body, out.TransferEncoding = call.body.next(r.Method)
		out.ContentLength, out.GetBody, out.Trailer, out.Close = call.body.length, nil, nil, framedOtherwise(r.Method, call.body.length)
		if transport == l.Standard && r.Method == http.MethodPost {
			// net/http asks for it where a connection that is used again turns out to be
			// closed before a byte of the call was written.
			out.GetBody = func() (io.ReadCloser, error) {
				again, _ := call.body.next(r.Method)
				return again, nil
			}
		}
		var response *http.Response
		response, err = transport.RoundTrip(&out.Request)
		switch {
		case err == nil && response.Header.Get(openapi.GatewayHeader) != "":
			response.Body.Close()
			return nil, problem.ErrLoop
		case err == nil && response.StatusCode == http.StatusSwitchingProtocols:
			response.Body.Close()
			return nil, problem.ErrUnreachable.Because("it switches protocols unasked")
		case err == nil:
			call.answer = peekedBody{size: response.ContentLength}
			if err := readable(r.Method, response, zipped); err != nil {
				response.Body.Close()
				return nil, err
			}
			return response, nil
		case !errors.As(err, new(DialError)):
			return nil, err
		}
	}
	return nil, err
}
