// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
)

// TargetName checks the name of a target, which is a part of storage keys and of
// metrics.
func TargetName(text string) error {
	if !gwtoken.ValidClient(text) {
		return fmt.Errorf("%s is not a name: want up to 64 lower-case letters, digits and hyphens", Quote(text))
	}
	return nil
}

// webhookPrefix begins a secret of Standard Webhooks.
const webhookPrefix = "whsec_"

// ParseWebhookSecret decodes a secret of Standard Webhooks: whsec_ and base64 of 24 to
// 64 bytes, the lengths that the specification names. The error does not quote it.
func ParseWebhookSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, webhookPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("want whsec_ and base64 of 24 to 64 bytes; make one with: echo whsec_$(openssl rand -base64 32)")
	}
	return key, nil
}

// WebhookSecret checks a secret of Standard Webhooks, see ParseWebhookSecret.
func WebhookSecret(text string) error {
	_, err := ParseWebhookSecret(text)
	return err
}

// typeName is the form of what WeChat writes as MsgType, Event or InfoType.
var typeName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// TypeName checks a MsgType, an Event or an InfoType. All that WeChat could write is
// possible, because there are new ones every year.
func TypeName(text string) error {
	if !typeName.MatchString(text) {
		return fmt.Errorf("%s is none that WeChat could push: want up to 64 letters, digits and underscores, such as text, CLICK or authorized", Quote(text))
	}
	return nil
}

// DeliverAs checks as what an application gets deliveries.
func DeliverAs(text string) error {
	if text != "account" && text != "platform" {
		return fmt.Errorf("%s is unknown, want account or platform", Quote(text))
	}
	return nil
}

// DeliverTimeout checks the time of one attempt to deliver.
func DeliverTimeout(d time.Duration) error {
	return between(d, time.Second, 5*time.Minute, "1s and 5m")
}

// RetryFor checks how long a delivery is tried.
func RetryFor(d time.Duration) error {
	return between(d, time.Minute, 30*24*time.Hour, "1m and 30d")
}

// Concurrency checks of how many accounts a queue is delivered at a time.
func Concurrency(n int) error { return between(n, 1, 256, "1 and 256") }

// QueueLength checks how many deliveries may wait.
func QueueLength(n int) error { return between(n, 1, 1_000_000, "1 and 1000000") }

// between checks that a value is one from least to most, which want says in words.
func between[T int | time.Duration](value, least, most T, want string) error {
	if value < least || value > most {
		return fmt.Errorf("%v is not between %s", value, want)
	}
	return nil
}

// fixedHeaders are headers that HTTP or the form of a delivery needs, or whose value
// cannot be the same with every delivery. Those that begin with webhook- or proxy- are
// such headers too.
var fixedHeaders = []string{
	"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade",
	"Http2-Settings", "Expect", "Accept-Encoding", "Range", "Date", "Idempotency-Key", "X-Idempotency-Key", "X-Http-Method-Override",
}

// DeliverHeader checks the name of a header that is sent with deliveries, and adds it
// to seen, where it must not be yet: upper and lower case make no difference.
func DeliverHeader(name string, seen map[string]struct{}) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fmt.Errorf("%s is not the name of a header", Quote(name))
	}
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	if slices.Contains(fixedHeaders, canonical) || strings.HasPrefix(canonical, "Webhook-") || strings.HasPrefix(canonical, "Proxy-") {
		return fmt.Errorf("%s is set by the gateway itself, or has no place in a delivery", Quote(canonical))
	}
	if _, ok := seen[canonical]; ok {
		return fmt.Errorf("%s is already specified, it may stand only once", Quote(canonical))
	}
	seen[canonical] = struct{}{}
	return nil
}

// HeaderValue checks the value of a header. The error does not quote it.
func HeaderValue(text string) error {
	if text == "" || strings.TrimSpace(text) != text || !httpguts.ValidHeaderFieldValue(text) {
		return errors.New("the value is empty, or has a line break, a control character or spaces around it")
	}
	return nil
}

// NamesCredential reports whether a header with this name is likely to hold a
// credential. It only decides about a warning.
func NamesCredential(header string) bool {
	header = strings.ToLower(header)
	return slices.ContainsFunc([]string{"auth", "token", "secret", "key", "pass", "credential", "cookie", "session"},
		func(part string) bool { return strings.Contains(header, part) })
}
