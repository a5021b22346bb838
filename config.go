// SPDX-License-Identifier: Apache-2.0

package wechat

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Component is one WeChat third-party platform. Wherever a value may be given
// twice, the first is the current one and the second the previous one, which
// keeps opening what it sealed.
type Component struct {
	// AppSecrets are the platform's AppSecret, as shown once in WeChat's
	// console. Required.
	AppSecrets []string `json:"app_secrets,omitempty"`

	// Tokens are the 消息校验Token: 3 to 32 letters and digits. Required.
	Tokens []string `json:"tokens,omitempty"`

	// EncodingAESKeys are the 消息加解密Key: 43 letters and digits. Required.
	EncodingAESKeys []string `json:"encoding_aes_keys,omitempty"`

	// ReturnURLs are where an admin may be sent after authorising: a URL, or
	// all URLs that begin with one followed by *. Default: nowhere.
	ReturnURLs []string `json:"return_urls,omitempty"`
}

// component is a Component with its secrets resolved.
type component struct {
	appid      string
	appSecrets []secret.Secret
	codec      *bizmsg.Codec
	returnURLs []returnURL
}

func (c *Component) provision(appid string, resolve resolver) (*component, error) {
	if c == nil {
		c = new(Component)
	}
	out := &component{appid: appid, codec: &bizmsg.Codec{ReceiveID: appid}}
	var err error
	if out.appSecrets, err = resolve.secrets("app_secret", c.AppSecrets, checkAppSecret); err != nil {
		return nil, err
	}
	if out.codec.Tokens, err = resolve.secrets("token", c.Tokens, checkPushToken); err != nil {
		return nil, err
	}
	aesKeys, err := resolve.secrets("encoding_aes_key", c.EncodingAESKeys, checkAESKey)
	if err != nil {
		return nil, err
	}
	for _, text := range aesKeys {
		key, err := bizmsg.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("encoding_aes_key: %w", err)
		}
		out.codec.Keys = append(out.codec.Keys, key)
	}
	for _, text := range c.ReturnURLs {
		pattern, err := parseReturnURL(text)
		if err != nil {
			return nil, fmt.Errorf("return_url: %w", err)
		}
		out.returnURLs = append(out.returnURLs, pattern)
	}
	return out, nil
}

// resolver turns the placeholders of secrets into their values.
type resolver struct{ *caddy.Replacer }

// secrets resolves the values of an option and checks each.
func (r resolver) secrets(option string, raw []string, check func(string) error) ([]secret.Secret, error) {
	if err := checkPair(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", option, err)
	}
	var out []secret.Secret
	for _, text := range raw {
		value, err := r.value(text)
		if err == nil {
			err = check(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		out = append(out, secret.New(value))
	}
	return out, nil
}

// placeholder is where a secret may come from.
var placeholder = regexp.MustCompile(`\{(env|file)\.([^{}]+)\}`)

// value resolves one value. The replacer's own errors are not passed on: of a
// secret with braces that is no placeholder they would show a part.
func (r resolver) value(text string) (string, error) {
	value, err := r.ReplaceOrErr(text, true, true)
	if err == nil {
		return value, nil
	}
	for _, found := range placeholder.FindAllStringSubmatch(text, -1) {
		if _, err := r.ReplaceOrErr(found[0], true, true); err == nil {
			continue
		}
		if found[1] == "env" {
			return "", fmt.Errorf("the environment variable %s is not set or empty", found[2])
		}
		return "", fmt.Errorf("the file %s is missing, unreadable or empty", found[2])
	}
	return "", errBraces
}

// The checks below never repeat a secret in their message.

var errBraces = errors.New("braces are for placeholders, of which there are {env.NAME} and {file./path}")

// checkPair checks how many values an option has that may be given twice.
func checkPair(values []string) error {
	switch {
	case len(values) == 0:
		return errors.New("missing; give it as {env.NAME} or {file./path}")
	case len(values) > 2:
		return fmt.Errorf("%d values, at most two are possible, the current one first", len(values))
	case len(values) == 2 && values[0] == values[1]:
		return errors.New("both values are the same; leave the second out")
	}
	return nil
}

// checkVisible refuses what gets into a secret by accident, such as the line
// end of a file, and what cannot be sent in a header.
func checkVisible(text string) error {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return errors.New("has a space, a line break or a character outside ASCII in it; was it copied and stored rightly?")
		}
	}
	return nil
}

// shown quotes a value for an error message, unless it is long enough for an
// app secret or a key that stands in the wrong place.
func shown(text string) string {
	if len(text) > 24 {
		return fmt.Sprintf("a text of %d characters", len(text))
	}
	return strconv.Quote(text)
}

var pushToken = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)

func checkAppID(text string) error {
	if !subject.ValidAppID(text) {
		return fmt.Errorf("%s is not an appid: want wx and 16 lower-case hexadecimal digits", shown(text))
	}
	return nil
}

func checkAuthorizer(text string) error {
	if text == "*" {
		return nil
	}
	return checkAppID(text)
}

func checkClientID(text string) error {
	if !gwtoken.ValidClient(text) {
		return fmt.Errorf("%s is not a client name: want up to 64 lower-case letters, digits and hyphens", shown(text))
	}
	return nil
}

func checkAppSecret(text string) error {
	if len(text) < 32 {
		return fmt.Errorf("the AppSecret has %d characters; WeChat's have 32", len(text))
	}
	return checkVisible(text)
}

func checkPushToken(text string) error {
	if !pushToken.MatchString(text) {
		return errors.New("want 3 to 32 letters and digits, as 消息校验Token in WeChat's console")
	}
	return nil
}

func checkAESKey(text string) error {
	_, err := bizmsg.ParseKey(secret.New(text))
	return err
}

func parseSealKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != vault.KeySize {
		return nil, errors.New("want base64 of 32 bytes; make one with: openssl rand -base64 32")
	}
	return key, nil
}

func checkSealKey(text string) error {
	_, err := parseSealKey(text)
	return err
}

const (
	hashedSecret    = "sha256:"
	minClientSecret = 32
	maxAuthorizers  = 100_000 // of one client; WeChat allows no component more
	maxPages        = 2
	maxCacheSize    = 10_000_000
	maxReplayBody   = 64 << 20
)

func checkClientSecret(text string) error {
	// SHA256: in capitals would pass as a secret of 71 characters, and then
	// whoever knows the digest could call.
	if strings.HasPrefix(strings.ToLower(text), hashedSecret) {
		raw, err := hex.DecodeString(strings.TrimPrefix(text, hashedSecret))
		if err != nil || len(raw) != sha256.Size {
			return errors.New("sha256: must be lower case and followed by 64 hexadecimal digits; make them with: printf %s \"$SECRET\" | sha256sum")
		}
		return nil
	}
	if len(text) < minClientSecret {
		return fmt.Errorf("the client secret has %d characters, want at least %d; make one with: openssl rand -hex 32", len(text), minClientSecret)
	}
	return checkVisible(text)
}

// parseBaseURL reads a URL that is scheme and host alone. Its errors do not
// repeat the URL, whose user name or query may be a secret.
func parseBaseURL(text string) (*url.URL, error) {
	const want = "want https://host or https://host:port"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || u.Hostname() == "":
		return nil, errors.New("not an absolute URL, " + want)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("a URL that is neither https nor http, " + want)
	case u.User != nil:
		return nil, errors.New("a URL with a user name, " + want)
	case u.Path != "" && u.Path != "/" || strings.ContainsAny(text, "?#"):
		return nil, errors.New("a URL with something after the host, " + want)
	}
	return u, nil
}

func checkBaseURL(text string) error {
	_, err := parseBaseURL(text)
	return err
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func checkReturnURL(text string) error {
	_, err := parseReturnURL(text)
	return err
}
