// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

const (
	// maxAnswer is the size in bytes of the largest answer that is read from an
	// application. A passive reply is far smaller; an application must not be able
	// to fill the memory.
	maxAnswer = 64 << 10
	// maxRetryAfter is the longest time for which a Retry-After is believed.
	maxRetryAfter = 24 * time.Hour
)

// Result is what one attempt to deliver has shown.
type Result struct {
	// Err says why the application has not taken the item; nil: it has taken it,
	// by any 2xx status. It is stored, logged and shown, so it quotes nothing that
	// the application has answered, and neither the query of the URL nor a header.
	Err error
	// Reply is the passive reply to a message, in clear text; nil: none.
	Reply []byte
	// Unusable says why the body of the answer is no reply, where it should be
	// one, or not the success of a platform; the item is taken all the same. It quotes
	// nothing of the answer either.
	Unusable error
	// Hung: no answer came within the time of the attempt.
	Hung bool
	// Gone: the application has answered 410.
	Gone bool
	// RetryAfter is how long the application wants to be left alone; 0: not said.
	// At most a day.
	RetryAfter time.Duration
}

// DialError is what a Transport returns if no connection could be made. The text
// of Err names the address at most.
type DialError struct{ Err error }

// Error returns the text of the cause.
func (e DialError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e DialError) Unwrap() error { return e.Err }

// Send makes one attempt to deliver an item. It waits until the answer is read or
// ctx ends; it sets no limit itself. An item counts as taken as soon as the header
// of a 2xx answer is there.
//
// Redirects are not followed: RoundTrip does not. Otherwise somebody who can
// answer in the place of the application could have the messages sent to any
// address.
func (t *Target) Send(ctx context.Context, item Item) Result {
	request, err := t.request(ctx, item)
	if err != nil {
		return Result{Err: err}
	}
	response, err := t.Transport.RoundTrip(request)
	if err != nil {
		return Result{Err: noAnswer(ctx, err), Hung: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return Result{
			Err: t.statusError(response.StatusCode), Gone: response.StatusCode == http.StatusGone,
			RetryAfter: retryAfter(response.Header.Get("Retry-After"), time.Now()),
		}
	}
	answer, err := readAnswer(ctx, response.Body) // also where none is wanted, so that the connection can be used again
	switch {
	case item.Kind != KindMessage && t.Platform != nil && err == nil:
		return Result{Unusable: t.acknowledged(item, answer)}
	case item.Kind != KindMessage || t.NoReply:
		return Result{}
	}
	if err != nil {
		return Result{Unusable: err}
	}
	reply, err := t.reply(item, answer, response.Header.Get("Content-Type"))
	return Result{Reply: reply, Unusable: err}
}

// readAnswer reads the body of an answer, at most maxAnswer bytes. It waits until
// ctx ends at the latest.
func readAnswer(ctx context.Context, body io.Reader) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(body, maxAnswer+1))
	switch {
	case len(answer) > maxAnswer:
		return nil, errors.New("reading the answer: larger than 64 KiB")
	case err != nil && ctx.Err() != nil:
		return nil, errors.New("reading the answer: not complete when the time was over")
	case err != nil: // its text may quote the answer
		return nil, errors.New("reading the answer: it broke off")
	}
	return answer, nil
}

// noAnswer returns the error for a request that got no answer. The text of err is
// used only where it is known to quote nothing: that of package http quotes lines
// of an answer that it cannot read.
func noAnswer(ctx context.Context, err error) error {
	var (
		dial        DialError
		network     *net.OpError
		timeout     net.Error
		noTLS       tls.RecordHeaderError
		certificate *tls.CertificateVerificationError
	)
	isNetwork := errors.As(err, &network)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("posting: no answer came in time")
	case ctx.Err() != nil:
		return errors.New("posting: broken off before an answer came")
	case errors.As(err, &dial):
		return fmt.Errorf("posting: no connection: %w", dial)
	case isNetwork && network.Op == "dial":
		return fmt.Errorf("posting: no connection: %w", network)
	case errors.As(err, &noTLS):
		return errors.New("posting: the server speaks no TLS at this port: write http:// in the URL, or the port at which it does")
	case errors.As(err, &certificate):
		return certificateError(certificate)
	case isNetwork && network.Op == "remote error": // an alert of TLS, one of a fixed list of texts
		return fmt.Errorf("posting: the server has ended the TLS handshake (%w): if it wants a certificate, name one with tls_client_auth in transport http", network.Err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("posting: the time for the TLS handshake, or for the header of an answer, was over")
	case isNetwork && (network.Op == "read" || network.Op == "write"):
		return fmt.Errorf("posting: the connection broke before an answer came: %w", network)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("posting: the connection was closed before an answer came")
	}
	return errors.New("posting: the connection failed, or what came is no answer in HTTP")
}

// certificateError returns the error for a certificate that is not accepted. It
// does not quote the names in it, of which there may be many.
func certificateError(err error) error {
	var (
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &host):
		return errors.New("posting: the server's certificate is for another host name than that in the URL")
	case errors.As(err, &unknown):
		return errors.New("posting: the server's certificate is signed by an authority that is not known here: name it with tls_trust_pool in transport http")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return errors.New("posting: the server's certificate has expired or is not valid yet")
	}
	return errors.New("posting: the server's certificate is not valid")
}

// statusError returns the error for a status other than 2xx, with a remedy where
// there is one.
func (t *Target) statusError(status int) error {
	remedy := ""
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		remedy = ": compare token, encoding_aes_key, as, webhook_secret and header of deliver with what the application expects"
	case (status == http.StatusInternalServerError || status == http.StatusBadRequest) && t.safe():
		remedy = ": " + hintAs
	case status == http.StatusNotFound:
		remedy = ": check the path in the URL of deliver"
	case status == http.StatusMethodNotAllowed:
		remedy = ": the application takes no POST at the URL of deliver"
	case status == http.StatusGone:
		remedy = ": the application wants nothing more at the URL of deliver"
	case status == http.StatusRequestEntityTooLarge:
		remedy = ": let the application take requests of 64 KiB and more"
	case status >= 300 && status <= 399:
		remedy = ": redirects are not followed; write the address to which it leads into deliver"
	}
	return fmt.Errorf("answered with status %d%s", status, remedy)
}

// retryAfter reads the header Retry-After: seconds, or a date (RFC 9110, 10.2.3).
// It returns 0 if there is none, or none that makes sense or lies ahead.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) { // then the largest number
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	date, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}
