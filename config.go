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
	// AppSecrets are the platform's AppSecret, as shown once in WeChat's console.
	AppSecrets []string `json:"app_secrets,omitempty"`

	// Tokens are the 消息校验Token: 3 to 32 letters and digits.
	Tokens []string `json:"tokens,omitempty"`

	// EncodingAESKeys are the 消息加解密Key: 43 letters and digits.
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
	if err := checkAppID(appid); err != nil {
		return nil, err
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
			return nil, err
		}
		out.codec.Keys = append(out.codec.Keys, key)
	}
	for _, text := range c.ReturnURLs {
		pattern, err := parseReturnURL(text)
		if err != nil {
			return nil, err
		}
		out.returnURLs = append(out.returnURLs, pattern)
	}
	return out, nil
}

// resolver turns the placeholders of secrets into their values.
type resolver struct{ *caddy.Replacer }

// secrets resolves one or two values of an option and checks each.
func (r resolver) secrets(option string, raw []string, check func(string) error) ([]secret.Secret, error) {
	if len(raw) == 0 {
		return nil, fmt.Errorf("%s is missing", option)
	}
	if len(raw) > 2 {
		return nil, fmt.Errorf("%s has %d values, want the current and at most one previous", option, len(raw))
	}
	var out []secret.Secret
	for _, text := range raw {
		value, err := r.ReplaceOrErr(text, true, true)
		if err != nil {
			return nil, fmt.Errorf("%s: resolving %s: is the environment variable or file there? %w", option, text, err)
		}
		if err := check(value); err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		out = append(out, secret.New(value))
	}
	return out, nil
}

func (r resolver) sealKey(text string) ([]byte, error) {
	value, err := r.ReplaceOrErr(text, true, true)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: is the environment variable or file there? %w", text, err)
	}
	if err := checkSealKey(value); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(value)
}

// The checks below never repeat the value in their message: it is a secret.

var pushToken = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)

func checkAppID(text string) error {
	if !subject.ValidAppID(text) {
		return fmt.Errorf("%q is not an appid: want wx and 16 lower-case hexadecimal digits", text)
	}
	return nil
}

func checkClientID(text string) error {
	if !gwtoken.ValidClient(text) {
		return fmt.Errorf("%q is not a client name: want up to 64 lower-case letters, digits and hyphens", text)
	}
	return nil
}

func checkAppSecret(text string) error {
	if len(text) < 32 {
		return fmt.Errorf("the app secret has %d characters; WeChat's have 32", len(text))
	}
	return nil
}

func checkPushToken(text string) error {
	if !pushToken.MatchString(text) {
		return errors.New("the token must be 3 to 32 letters and digits, as WeChat allows")
	}
	return nil
}

func checkAESKey(text string) error {
	_, err := bizmsg.ParseKey(secret.New(text))
	return err
}

func checkSealKey(text string) error {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != vault.KeySize {
		return errors.New("want base64 of 32 bytes; make one with: openssl rand -base64 32")
	}
	return nil
}

const (
	hashedSecret   = "sha256:"
	maxAuthorizers = 100_000 // of one client; WeChat allows no component more
)

func checkClientSecret(text string) error {
	if digest, hashed := strings.CutPrefix(text, hashedSecret); hashed {
		if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size {
			return errors.New("sha256: must be followed by 64 hexadecimal digits")
		}
		return nil
	}
	if len(text) < 32 {
		return fmt.Errorf("the client secret has %d characters, want at least 32; make one with: openssl rand -hex 32", len(text))
	}
	return nil
}

func parseBaseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		(u.Scheme != "https" && u.Scheme != "http") || (u.Path != "" && u.Path != "/") {
		return nil, fmt.Errorf("%q is not a base URL: want https://host or https://host:port", text)
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func checkBaseURL(text string) error {
	_, err := parseBaseURL(text)
	return err
}

func checkReturnURL(text string) error {
	_, err := parseReturnURL(text)
	return err
}

func checkAuthorizer(text string) error {
	if text == "*" {
		return nil
	}
	return checkAppID(text)
}
