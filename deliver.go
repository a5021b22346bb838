// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/delivery"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Match says which of the messages and events a target gets.
type Match = delivery.Match

// Deliver is an address to which a client gets what WeChat pushes: messages of
// the accounts for which it may act, and authorisation events without the codes
// in them. A delivery looks like a push of WeChat to an ordinary account, so
// the message server of any SDK accepts it; or like one to a platform, see As. Its
// query has the parameters of WeChat, the appid of the account, and an event_id, the
// same at every attempt. Any 2xx status means that the application has taken the
// delivery.
//
// Tokens, EncodingAESKeys and WebhookSecrets may have two values each, the current
// one first. The previous one is for the time in which the application changes over:
// replies are accepted with it, and the headers of Standard Webhooks have a signature
// for each.
type Deliver struct {
	// URL is http or https. Redirects are not followed. $APPID$ in the path or the
	// query stands for the appid of the account. Required.
	URL string `json:"url,omitempty"`

	// Name is that of the target, in the form of the names of clients. What waits for
	// the target belongs to this name. Default: the first 8 hexadecimal digits of the
	// SHA-256 of the URL.
	Name string `json:"name,omitempty"`

	// Tokens are the target's 消息校验Token: 3 to 32 letters and digits. They sign
	// the deliveries. Required, unless there is a webhook secret and no
	// EncodingAESKey.
	Tokens []string `json:"tokens,omitempty"`

	// EncodingAESKeys are the target's 消息加解密Key: 43 letters and digits. With
	// them, deliveries and replies are encrypted as in WeChat's safe mode, and the
	// receive id is the appid of the account. Default: plain mode.
	EncodingAESKeys []string `json:"encoding_aes_keys,omitempty"`

	// As is as what the application gets deliveries: "account", the form in which WeChat
	// pushes to an ordinary account, or "platform", the form in which it pushes to a
	// third-party platform, for the SDKs of such. Then the receive id is the
	// component_appid, authorisation events have a gateway code, which the endpoint
	// api_query_auth of the gateway takes, and a component_verify_ticket of the gateway
	// comes every ten minutes, which opens nothing. "platform" needs an EncodingAESKey.
	// Default: "account".
	As string `json:"as,omitempty"`

	// WebhookSecrets are whsec_ and base64 of 24 to 64 bytes. They sign in the
	// headers of Standard Webhooks. Default: no such headers.
	WebhookSecrets []string `json:"webhook_secrets,omitempty"`

	// Match says what the target gets. Default: everything.
	Match Match `json:"match,omitzero"`

	// NoReply means that what the target answers is never the reply to a follower.
	// Default: false.
	NoReply bool `json:"no_reply,omitempty"`

	// Timeout is the time of one attempt to deliver what has waited, 1 second to 5
	// minutes. Default: 30 seconds.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// RetryFor is how long a delivery is tried, 1 minute to 30 days. Then it becomes a
	// dead letter. Default: 72 hours.
	RetryFor caddy.Duration `json:"retry_for,omitempty"`

	// Concurrency is of how many accounts what has waited is delivered at a time, 1 to
	// 256. Default: 16.
	Concurrency int `json:"concurrency,omitempty"`

	// Queue is how many deliveries may wait, 1 to 1000000. More become dead letters.
	// Default: 10000.
	Queue int `json:"queue,omitempty"`

	// Headers are sent with each delivery, by name. A value may contain placeholders,
	// as secrets may. Those that HTTP and the form of a delivery need are not
	// possible. Default: none.
	Headers map[string]string `json:"headers,omitempty"`

	// Transport has the options of Caddy's HTTP transport, for instance for a private
	// certificate authority or a client certificate. Without them a connection must be
	// made within 2 seconds, and likewise a TLS handshake; there are at most 256
	// connections, of which 64 are kept, and the header of an answer has at most 64
	// KiB. HTTP/3, the PROXY protocol and a tls_server_name with placeholders are not
	// possible.
	Transport *reverseproxy.HTTPTransport `json:"transport,omitempty"`
}

// The values of As.
const (
	asAccount  = "account"
	asPlatform = "platform"
)

// Deliveries are the targets of a client. In JSON an object is read as a list of one.
type Deliveries []*Deliver

// UnmarshalJSON reads a list, or an object. Unknown fields are errors, as they are in
// all of a configuration.
func (d *Deliveries) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		text = slices.Concat([]byte("["), text, []byte("]"))
	}
	return caddy.StrictUnmarshalJSON(text, (*[]*Deliver)(d))
}

// UnmarshalJSON reads the fields, and those of before, which had one value: token and
// encoding_aes_key.
func (d *Deliver) UnmarshalJSON(text []byte) error {
	type fields Deliver
	both := struct {
		*fields
		Token          string `json:"token"`
		EncodingAESKey string `json:"encoding_aes_key"`
	}{fields: (*fields)(d)}
	if err := caddy.StrictUnmarshalJSON(text, &both); err != nil {
		return err
	}
	for _, old := range []struct {
		name, value string
		into        *[]string
	}{{"token", both.Token, &d.Tokens}, {"encoding_aes_key", both.EncodingAESKey, &d.EncodingAESKeys}} {
		switch {
		case old.value == "":
		case len(*old.into) > 0:
			return fmt.Errorf("%s and %ss: only one of them is possible", old.name, old.name)
		default:
			*old.into = []string{old.value}
		}
	}
	return nil
}

// provision returns the targets of a client, with their secrets resolved and each with
// a transport of its own. The errors begin with deliver.
func (d Deliveries) provision(ctx caddy.Context, resolve resolver) (targets []*delivery.Target, err error) {
	if len(d) > maxTargets {
		return nil, fmt.Errorf("deliver: %d targets, at most %d are possible", len(d), maxTargets)
	}
	for i, each := range d {
		target, err := each.provision(ctx, resolve.within("block", "deliver"))
		if err == nil {
			err = d[:i].free(target.Name)
		}
		switch {
		case err != nil && len(d) > 1:
			return nil, fmt.Errorf("deliver: target %d: %w", i+1, err)
		case err != nil:
			return nil, fmt.Errorf("deliver: %w", err)
		}
		target.Place = i
		targets = append(targets, target)
	}
	return targets, nil
}

// free returns an error if one of the targets has this name.
func (d Deliveries) free(name string) error {
	if slices.ContainsFunc(d, func(other *Deliver) bool { return other.name() == name }) {
		return fmt.Errorf("name: %s is that of another target of this client: set name, and give each its own", name)
	}
	return nil
}

// name returns the name of the target, which the URL yields if none is set.
func (d *Deliver) name() string {
	if d.Name != "" {
		return d.Name
	}
	digest := sha256.Sum256([]byte(d.URL))
	return hex.EncodeToString(digest[:4])
}

// provision returns the target. Its names of component and client are not set.
func (d *Deliver) provision(ctx caddy.Context, resolve resolver) (*delivery.Target, error) {
	if d == nil {
		d = new(Deliver)
	}
	to, err := check.ParseDeliverURL(d.URL)
	if err != nil {
		return nil, err
	}
	d.defaults()
	if err := d.validate(); err != nil {
		return nil, err
	}
	target := &delivery.Target{
		URL: to, Name: d.name(), Match: d.Match, NoReply: d.NoReply, Timeout: time.Duration(d.Timeout), RetryFor: time.Duration(d.RetryFor),
		Concurrency: d.Concurrency, MaxWaiting: d.Queue,
	}
	if d.As == asPlatform {
		target.Platform = &delivery.Platform{Ticket: gwtoken.NewTicket} // the client yields Code
	}
	if err := d.resolve(target, resolve.within("target", target.Name)); err != nil {
		return nil, err
	}
	target.Transport, err = d.newTransport(ctx, to.Scheme)
	return target, err
}

// defaults sets the options that are not configured.
func (d *Deliver) defaults() {
	d.Timeout = cmp.Or(d.Timeout, caddy.Duration(30*time.Second))
	d.RetryFor = cmp.Or(d.RetryFor, caddy.Duration(72*time.Hour))
	d.Concurrency = cmp.Or(d.Concurrency, 16)
	d.Queue = cmp.Or(d.Queue, 10_000)
}

// validate checks the options that are no secrets. A Caddyfile is checked when it is
// parsed, so this is for JSON.
func (d *Deliver) validate() error {
	if d.Name != "" {
		if err := check.TargetName(d.Name); err != nil {
			return fmt.Errorf("name: %w", err)
		}
	}
	if err := checkMatch(d.Match); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	if err := d.checkAs(); err != nil {
		return err
	}
	for _, each := range []struct {
		option string
		err    error
	}{
		{"timeout", check.DeliverTimeout(time.Duration(d.Timeout))},
		{"retry_for", check.RetryFor(time.Duration(d.RetryFor))},
		{"concurrency", check.Concurrency(d.Concurrency)},
		{"queue", check.QueueLength(d.Queue)},
	} {
		if each.err != nil {
			return fmt.Errorf("%s: %w", each.option, each.err)
		}
	}
	switch {
	case len(d.Tokens) > 0:
	case len(d.EncodingAESKeys) > 0:
		return errors.New("token is missing: with encoding_aes_key, msg_signature is made with it")
	case len(d.WebhookSecrets) == 0:
		return errors.New("token is missing: the application checks with it that a delivery comes from here; or set webhook_secret")
	}
	return nil
}

// checkAs checks the value of As, and that platform has a key: WeChat pushes nothing in
// clear to a platform, so the SDKs read nothing else.
func (d *Deliver) checkAs() error {
	if err := check.DeliverAs(cmp.Or(d.As, asAccount)); err != nil {
		return fmt.Errorf("as: %w", err)
	}
	if d.As == asPlatform && len(d.EncodingAESKeys) == 0 {
		return errors.New("as: platform needs encoding_aes_key, because platform SDKs read encrypted deliveries alone; add it, or leave as out")
	}
	return nil
}

// resolve sets the secrets of the target.
func (d *Deliver) resolve(target *delivery.Target, from resolver) error {
	var err error
	if len(d.Tokens) > 0 {
		if target.Tokens, err = from.secrets("token", d.Tokens, check.PushToken); err != nil {
			return err
		}
	}
	if len(d.EncodingAESKeys) > 0 {
		texts, err := from.secrets("encoding_aes_key", d.EncodingAESKeys, check.AESKey)
		if err != nil {
			return err
		}
		for _, text := range texts {
			key, err := bizmsg.ParseKey(text)
			if err != nil {
				return fmt.Errorf("encoding_aes_key: %w", err)
			}
			target.Keys = append(target.Keys, key)
		}
	}
	if len(d.WebhookSecrets) > 0 {
		texts, err := from.secrets("webhook_secret", d.WebhookSecrets, check.WebhookSecret)
		if err != nil {
			return err
		}
		for _, text := range texts {
			raw, err := check.ParseWebhookSecret(text.Reveal())
			if err != nil {
				return fmt.Errorf("webhook_secret: %w", err)
			}
			target.WebhookSecrets = append(target.WebhookSecrets, secret.New(string(raw)))
		}
	}
	target.Headers, err = from.headers(d.Headers)
	return err
}

// headers resolves the values of headers. A text that stands in the configuration is
// warned of where the name is that of a credential.
func (r resolver) headers(raw map[string]string) (headers []delivery.Header, err error) {
	seen := make(map[string]struct{})
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if err := check.DeliverHeader(name, seen); err != nil {
			return nil, fmt.Errorf("header: %w", err)
		}
		value, err := r.value(raw[name])
		if err == nil {
			err = check.HeaderValue(value)
		}
		if err != nil {
			return nil, fmt.Errorf("header: %s: %w", name, err)
		}
		if value == raw[name] && check.NamesCredential(name) {
			r.warnOfText("header "+name, 1)
		}
		headers = append(headers, delivery.Header{Name: name, Value: secret.New(value)})
	}
	return headers, nil
}
