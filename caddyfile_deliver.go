// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
)

// unmarshal parses one deliver of a client:
//
//	deliver <url> {
//		name             <name>
//		token            <token>        [<previous>]
//		encoding_aes_key <key>          [<previous>]
//		as               account|platform
//		webhook_secret   whsec_<base64> [<previous>]
//		match            msg_type|event|info_type|appid <value>...   # repeatable
//		reply            off
//		timeout          <duration>
//		retry_for        <duration>
//		concurrency      <n>
//		queue            <n>
//		header           <name> <value>                              # repeatable
//		transport http {
//			...                # as in reverse_proxy
//		}
//	}
func (d *Deliver) unmarshal(from *caddyfile.Dispenser) error {
	if err := stringOption(&d.URL, check.DeliverURL)(from); err != nil {
		return err
	}
	err := parseBlock(from, map[string]option{
		"name":             stringOption(&d.Name, check.TargetName),
		"token":            secretOption(&d.Tokens, check.PushToken),
		"encoding_aes_key": secretOption(&d.EncodingAESKeys, check.AESKey),
		"as":               stringOption(&d.As, check.DeliverAs),
		"webhook_secret":   secretOption(&d.WebhookSecrets, check.WebhookSecret),
		"match*":           matchOption(&d.Match),
		"reply":            offOption(&d.NoReply, "the target may reply"),
		"timeout":          durationOption(&d.Timeout, check.DeliverTimeout),
		"retry_for":        durationOption(&d.RetryFor, check.RetryFor),
		"concurrency":      numberOption(&d.Concurrency, check.Concurrency),
		"queue":            numberOption(&d.Queue, check.QueueLength),
		"header*":          headerOption(&d.Headers),
		"transport":        transportOption(&d.Transport, "deliveries are made over HTTP alone"),
	})
	if err != nil {
		return err
	}
	if err := d.checkAs(); err != nil {
		return err
	}
	return checkMatch(d.Match)
}

// matchKind is one kind of what may be matched: its values, and their check.
type matchKind struct {
	name   string
	values *[]string
	valid  func(string) error
}

// matchKinds returns the lists of m by their names in a configuration.
func matchKinds(m *Match) []matchKind {
	return []matchKind{
		{"msg_type", &m.MsgTypes, check.TypeName},
		{"event", &m.Events, check.TypeName},
		{"info_type", &m.InfoTypes, check.TypeName},
		{"appid", &m.AppIDs, check.AppID},
	}
}

// matchOption parses a kind and its values. A kind may occur several times.
func matchOption(into *Match) option {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) == 0 {
			return errors.New("want msg_type, event, info_type or appid, then values")
		}
		for _, kind := range matchKinds(into) {
			if kind.name != args[0] {
				continue
			}
			if len(args) == 1 {
				return fmt.Errorf("%s: %w", kind.name, errMissing)
			}
			for _, value := range args[1:] {
				if err := plain(value, kind.valid); err != nil {
					return fmt.Errorf("%s: %w", kind.name, err)
				}
			}
			*kind.values = append(*kind.values, args[1:]...)
			return nil
		}
		return fmt.Errorf("%s is unknown, want msg_type, event, info_type or appid, then values", check.Quote(args[0]))
	}
}

// checkMatch checks the values of a Match, and that something can match all of its
// kinds.
func checkMatch(m Match) error {
	for _, kind := range matchKinds(&m) {
		if len(*kind.values) > maxMatch {
			return fmt.Errorf("%s: %d values, at most %d are possible", kind.name, len(*kind.values), maxMatch)
		}
		for _, value := range *kind.values {
			if err := kind.valid(value); err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
		}
	}
	return m.Validate()
}

// maxMatch is the largest number of values of one kind; all are compared with each
// message.
const maxMatch = 1000

// durationOption parses a time such as 30s, 72h or 3d.
func durationOption(into *caddy.Duration, valid func(time.Duration) error) option {
	return func(d *caddyfile.Dispenser) error {
		arg, err := argument(d)
		if err != nil {
			return err
		}
		duration, err := caddy.ParseDuration(arg)
		if err != nil {
			return fmt.Errorf("%s is not a time, want one such as 30s, 72h or 3d", check.Quote(arg))
		}
		*into = caddy.Duration(duration)
		return valid(duration)
	}
}

// numberOption parses a whole number.
func numberOption(into *int, valid func(int) error) option {
	return func(d *caddyfile.Dispenser) error {
		arg, err := argument(d)
		if err != nil {
			return err
		}
		if *into, err = strconv.Atoi(arg); err != nil {
			return fmt.Errorf("%s is not a whole number", check.Quote(arg))
		}
		return valid(*into)
	}
}

// headerOption parses the name and the value of a header. Its value is a secret,
// which may have text around its placeholders.
func headerOption(into *map[string]string) option {
	seen := make(map[string]struct{})
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) != 2 {
			return errors.New("want a name and a value; put a value with spaces between quotes")
		}
		name, value := args[0], args[1]
		if err := check.DeliverHeader(name, seen); err != nil {
			return err
		}
		if strings.ContainsAny(check.Placeholder.ReplaceAllLiteralString(value, ""), "{}") {
			return fmt.Errorf("%s: %w", name, errBraces)
		}
		if err := check.HeaderValue(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if *into == nil {
			*into = make(map[string]string)
		}
		(*into)[name] = value
		return nil
	}
}

// transportOption parses the subdirective transport, which has the syntax of
// reverse_proxy. Errors in its block already name file and line.
func transportOption(into **reverseproxy.HTTPTransport, reason string) option {
	return func(d *caddyfile.Dispenser) error {
		if !d.NextArg() || d.Val() != "http" || d.CountRemainingArgs() > 0 {
			return errors.New("want http and a block { ... }: " + reason)
		}
		*into = new(reverseproxy.HTTPTransport)
		if err := (*into).UnmarshalCaddyfile(d.NewFromNextSegment()); err != nil {
			return located{err}
		}
		return nil
	}
}
