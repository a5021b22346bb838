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
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

const (
	// defaultTimeout leaves a renewal room to be stored and handed out while
	// the request that waits for it is still alive.
	defaultTimeout = 10 * time.Second

	// maxAnswer bounds an answer after decompression. The largest honest one,
	// api_get_authorizer_info with long domain lists, has a few hundred KiB.
	maxAnswer = 1 << 20
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

	// Observe is called with the errcode, 0 for none, and the HTTP status of each
	// answer; nil for nobody. It must be safe for concurrent use.
	Observe func(errcode, status int)
}

// GatewayHeader marks every refusal of the gateway's own. In an answer that
// should be WeChat's it says that a gateway is called in WeChat's place, most
// likely this one by itself.
const GatewayHeader = "Wechat-Gateway-Error"

// HintHeader says to a caller what a refusal of WeChat means that no program can mend.
// It is the gateway's own alone: one in an answer of WeChat is not passed on.
const HintHeader = "Wechat-Gateway-Hint"

// HopHeader marks every request that a gateway makes in order to reach WeChat.
// A gateway that receives one is called in WeChat's place.
const HopHeader = "Wechat-Gateway"

// AppIDHeader names the account where an application shows a client secret in
// place of a gateway token. It does not travel on to WeChat.
const AppIDHeader = "Wechat-Appid"

// Params are the members of a request body: strings and integers.
type Params map[string]any

// Call posts body to the endpoint, one of the names below or a path, with or without a
// query, or gets it if body is nil, and returns WeChat's answer: a JSON object without an errcode, or with
// 0. A nil token sends no query at all: the endpoints that take a secret in the body
// want it so. The answer does not repeat a credential that was sent, but it may hold
// others.
func (c *Client) Call(ctx context.Context, endpoint string, token secret.Secret, body Params) ([]byte, error) {
	answer, err := c.call(ctx, endpoint, token, body)
	if err != nil {
		return nil, err
	}
	return conceal(answer, sent(token, body)), nil
}

// call is Call, and returns WeChat's answer as it came.
func (c *Client) call(ctx context.Context, endpoint string, token secret.Secret, body Params) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()

	status, data, err := c.exchange(ctx, endpoint, token, body)
	switch {
	case err != nil:
		return nil, &Outage{Endpoint: endpoint, Status: status, Err: silence(err, token, body)}
	case status != http.StatusOK: // WeChat answers 200 to errors as well
		c.observe(0, status)
		return nil, &Outage{Endpoint: endpoint, Status: status, Err: errStatus}
	}
	verdict, err := judge(data)
	if err != nil {
		return nil, &Outage{Endpoint: endpoint, Status: status, Err: err}
	}
	c.observe(verdict.code, status)
	if verdict.code != 0 {
		refusal := newRefusal(endpoint, verdict)
		if repeats(verdict.message, token, body) {
			refusal.Message = "withheld, it repeats the request"
		}
		return nil, refusal
	}
	return data, nil
}

// CallWithSecret is Call for the endpoints that take a secret in the body, in the
// member called name, and no token. It leaves body as it is: whoever has made it
// must not find the secret in it.
func (c *Client) CallWithSecret(ctx context.Context, endpoint, name string, value secret.Secret, body Params) ([]byte, error) {
	with := maps.Clone(body)
	with[name] = value.Reveal()
	return c.Call(ctx, endpoint, nil, with)
}

// callInto is call for the functions that decode the answer.
func (c *Client) callInto(ctx context.Context, endpoint string, token secret.Secret, body Params, answer any) (raw []byte, err error) {
	raw, err = c.call(ctx, endpoint, token, body)
	if err == nil && unmarshal(raw, answer) != nil {
		err = malformed(endpoint)
	}
	return raw, err
}

// exchange tries the hosts in turn and returns the first answer. Only a host
// that could not be dialled is passed over: nothing can have reached it, while
// after any other failure the token may have been issued or the code spent.
func (c *Client) exchange(ctx context.Context, endpoint string, token secret.Secret, body Params) (int, []byte, error) {
	target := endpoint
	if !strings.HasPrefix(endpoint, "/") {
		target = "/cgi-bin/component/" + endpoint
	}
	if token != nil {
		mark := "?"
		if strings.Contains(target, mark) {
			mark = "&"
		}
		target += mark + "access_token=" + url.QueryEscape(token.Reveal())
	}
	var content []byte
	method := http.MethodGet
	if body != nil {
		var err error
		if content, err = encode(body); err != nil {
			return 0, nil, err
		}
		method = http.MethodPost
	}
	var err error
	for _, host := range c.hosts() {
		var status int
		var data []byte
		status, data, err = c.send(ctx, method, strings.TrimSuffix(host, "/")+target, content)
		if !isDialError(err) || ctx.Err() != nil {
			return status, data, err
		}
	}
	return 0, nil, err
}

// send sends one request and reads its answer to the end.
func (c *Client) send(ctx context.Context, method, target string, content []byte) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set(HopHeader, "1")
	response, err := c.transport().RoundTrip(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	if response.Header.Get(GatewayHeader) != "" {
		return response.StatusCode, nil, errGateway
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err == nil && len(data) > maxAnswer {
		err = errTooLarge
	}
	return response.StatusCode, data, err
}

// encode writes body as JSON. Some of WeChat's parsers take \u0026 literally,
// so & < and > stay as they are.
func encode(body Params) ([]byte, error) {
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

// silence returns err without the text that could carry what was sent: a
// *url.Error shows the URL with its token, and "malformed HTTP response" quotes
// a peer that may simply have echoed the request.
func silence(err error, token secret.Secret, body Params) error {
	var shown *url.Error
	if errors.As(err, &shown) {
		err = shown.Err
	}
	if repeats(err.Error(), token, body) {
		return fmt.Errorf("%T whose text repeats the request", err)
	}
	return err
}

// repeats reports whether text shows anything that was sent and may be secret,
// however it is written there.
func repeats(text string, token secret.Secret, body Params) bool {
	sent := []string{token.Reveal()}
	for _, value := range body {
		if value, ok := value.(string); ok {
			sent = append(sent, value)
		}
	}
	return slices.ContainsFunc(sent, func(value string) bool { return rewrite.TokenOf(value).In(text) })
}

func (c *Client) observe(errcode, status int) {
	if c.Observe != nil {
		c.Observe(errcode, status)
	}
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
