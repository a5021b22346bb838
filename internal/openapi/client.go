// SPDX-License-Identifier: Apache-2.0

// Package openapi calls WeChat's component API, the calls by which a
// third-party platform obtains and keeps its credentials: one function per
// endpoint. It neither remembers, repeats nor decides anything.
//
// Every function returns one of two errors. A [*Refusal] is WeChat saying no:
// the exchange worked and errcode is not 0. An [*Outage] is the lack of an
// answer that could be believed; the call may or may not have taken effect. No
// text of either contains a secret, a request or an errmsg.
package openapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

const (
	// defaultTimeout leaves a renewal room to be stored and handed out while
	// the request that waits for it is still alive.
	defaultTimeout = 10 * time.Second

	// maxAnswer bounds an answer after decompression. The largest honest one,
	// api_get_authorizer_info with long domain lists, has a few hundred KiB.
	maxAnswer = 4 << 20
)

var defaultHosts = []string{"https://api.weixin.qq.com", "https://api2.weixin.qq.com"}

// Client calls the component API. The zero value is ready for use; a Client is
// safe for concurrent use as long as its fields are not changed.
type Client struct {
	// Transport performs the exchanges; nil means http.DefaultTransport.
	// Redirects are not followed, so that a token goes to Hosts and nowhere
	// else. Its dial timeout should be a fraction of Timeout: a host that
	// swallows packets is given up for the next one only when dialling fails.
	Transport http.RoundTripper

	// Hosts are base URLs. The first is called; a host that cannot be dialled
	// is passed over for the next. Empty means https://api.weixin.qq.com and
	// https://api2.weixin.qq.com, WeChat's address for disaster recovery
	// (developers.weixin.qq.com/doc/service/Basic_Information/Interface_field_description.html).
	Hosts []string

	// Timeout bounds one call with all its hosts; 0 means 10 s.
	Timeout time.Duration
}

// params are the members of a request body. All values are strings.
type params map[string]string

// call posts body to the endpoint and decodes the answer. A nil token sends no
// query at all: the endpoints that take a secret in the body want it so.
func (c *Client) call(ctx context.Context, endpoint string, token secret.Secret, body params, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()

	status, data, err := c.exchange(ctx, endpoint, token, body)
	switch {
	case err != nil:
		return &Outage{Endpoint: endpoint, Status: status, Err: withhold(err, token, body)}
	case status != http.StatusOK: // WeChat answers 200 to errors as well
		return &Outage{Endpoint: endpoint, Status: status, Err: errStatus}
	}
	verdict, err := decode(data, answer)
	if err != nil {
		return &Outage{Endpoint: endpoint, Status: status, Err: err}
	}
	if verdict.code != 0 {
		return newRefusal(endpoint, verdict)
	}
	return nil
}

// exchange tries the hosts in turn and returns the first answer. Only a host
// that could not be dialled is passed over: nothing can have reached it, while
// after any other failure the token may have been issued or the code spent.
func (c *Client) exchange(ctx context.Context, endpoint string, token secret.Secret, body params) (int, []byte, error) {
	target := "/cgi-bin/component/" + endpoint
	if token != nil {
		target += "?access_token=" + url.QueryEscape(token.Reveal())
	}
	content, err := encode(body)
	if err != nil {
		return 0, nil, err
	}
	for _, host := range c.hosts() {
		var status int
		var data []byte
		status, data, err = c.post(ctx, strings.TrimSuffix(host, "/")+target, content)
		if !isDialError(err) || ctx.Err() != nil {
			return status, data, err
		}
	}
	return 0, nil, err
}

// post sends one request and reads its answer to the end.
func (c *Client) post(ctx context.Context, target string, content []byte) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.transport().RoundTrip(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = errTooLarge
	}
	return response.StatusCode, data, err
}

// encode writes body as JSON. Some of WeChat's parsers take \u0026 literally,
// so & < and > stay as they are.
func encode(body params) ([]byte, error) {
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(body)
	return bytes.TrimSuffix(content.Bytes(), []byte("\n")), err
}

// isDialError reports whether err proves that no connection was made.
func isDialError(err error) bool {
	var dial *net.OpError
	var lookup *net.DNSError
	return errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &lookup)
}

// withhold returns err without the text that could carry what was sent: a
// *url.Error shows the URL with its token, and "malformed HTTP response" quotes
// a peer that may simply have echoed the request.
func withhold(err error, token secret.Secret, body params) error {
	var shown *url.Error
	if errors.As(err, &shown) {
		err = shown.Err
	}
	text := err.Error()
	sent := []string{token.Reveal()}
	for _, value := range body {
		sent = append(sent, value)
	}
	for _, value := range sent {
		if value != "" && (strings.Contains(text, value) || strings.Contains(text, url.QueryEscape(value))) {
			return fmt.Errorf("%T whose text repeats the request", err)
		}
	}
	return err
}

func (c *Client) transport() http.RoundTripper {
	if c.Transport == nil {
		return http.DefaultTransport
	}
	return c.Transport
}

func (c *Client) hosts() []string {
	if len(c.Hosts) == 0 {
		return defaultHosts
	}
	return c.Hosts
}

func (c *Client) timeout() time.Duration {
	if c.Timeout <= 0 {
		return defaultTimeout
	}
	return c.Timeout
}
