// SPDX-License-Identifier: Apache-2.0

// Package check checks the values of options. A check returns an error that says
// what is wanted, and never repeats what may be a secret. The same checks serve
// the Caddyfile, where errors carry file and line, and JSON.
package check

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Pair checks how many values an option has that may be given twice.
func Pair(values []string) error {
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

// visible refuses what gets into a secret by accident, such as the line
// end of a file, and what cannot be sent in a header.
func visible(text string) error {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return errors.New("has a space, a line break or a character outside ASCII in it; was it copied and stored rightly?")
		}
	}
	return nil
}

// Quote quotes a value for an error message, unless it is long enough for an
// app secret or a key that stands in the wrong place.
func Quote(text string) string {
	if len(text) > 24 {
		return fmt.Sprintf("a text of %d characters", len(text))
	}
	return strconv.Quote(text)
}

var pushToken = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)

// AppID checks the appid of a component or an account.
func AppID(text string) error {
	if !subject.ValidAppID(text) {
		return fmt.Errorf("%s is not an appid: want wx and 16 lower-case hexadecimal digits", Quote(text))
	}
	return nil
}

// Authorizer checks the appid of an account, or * for all.
func Authorizer(text string) error {
	if text == "*" {
		return nil
	}
	return AppID(text)
}

// ClientID checks the name of a client.
func ClientID(text string) error {
	if !gwtoken.ValidClient(text) {
		return fmt.Errorf("%s is not a client name: want up to 64 lower-case letters, digits and hyphens", Quote(text))
	}
	return nil
}

// AppSecret checks the AppSecret of a component.
func AppSecret(text string) error {
	if len(text) < 32 {
		return fmt.Errorf("the AppSecret has %d characters; WeChat's have 32", len(text))
	}
	return visible(text)
}

// PushToken checks a 消息校验Token.
func PushToken(text string) error {
	if !pushToken.MatchString(text) {
		return errors.New("want 3 to 32 letters and digits, as 消息校验Token in WeChat's console")
	}
	return nil
}

// AESKey checks a 消息加解密Key.
func AESKey(text string) error {
	_, err := bizmsg.ParseKey(secret.New(text))
	return err
}

// ParseSealKey reads a seal key: base64 of vault.KeySize bytes.
func ParseSealKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != vault.KeySize {
		return nil, errors.New("want base64 of 32 bytes; make one with: openssl rand -base64 32")
	}
	return key, nil
}

// SealKey checks a seal key.
func SealKey(text string) error {
	_, err := ParseSealKey(text)
	return err
}

const (
	// HashedSecret begins a client secret of which only the digest is configured.
	HashedSecret = "sha256:"
	// MinClientSecret is how many characters a client secret has at least.
	MinClientSecret = 32
)

// ClientSecret checks the secret of a client: a text, or HashedSecret and a digest.
func ClientSecret(text string) error {
	// SHA256: in capitals would pass as a secret of 71 characters, and then
	// whoever knows the digest could call.
	if strings.HasPrefix(strings.ToLower(text), HashedSecret) {
		raw, err := hex.DecodeString(strings.TrimPrefix(text, HashedSecret))
		if err != nil || len(raw) != sha256.Size {
			return errors.New("sha256: must be lower case and followed by 64 hexadecimal digits; make them with: printf %s \"$SECRET\" | sha256sum")
		}
		return nil
	}
	if len(text) < MinClientSecret {
		return fmt.Errorf("the client secret has %d characters, want at least %d; make one with: openssl rand -hex 32", len(text), MinClientSecret)
	}
	return visible(text)
}
