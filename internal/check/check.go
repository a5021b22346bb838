// SPDX-License-Identifier: Apache-2.0

// Package check checks the values of options. A check returns an error that
// says which values are valid, without the name of the option; the caller adds
// it. The error does not quote a value that may be a secret, because users may
// put secrets into wrong options. The same checks are used for Caddyfile and
// JSON. None of them waits or has a state.
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
	"unicode"
	"unicode/utf8"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Pair checks the number of values of an option that has a current value and
// may have a previous one.
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

// visible rejects characters that get into a secret by mistake, such as the
// line break at the end of a file, and those that a header cannot contain.
func visible(text string) error {
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return errors.New("has a space, a line break or a character outside ASCII in it; was it copied and stored rightly?")
		}
	}
	return nil
}

// Quote quotes a value for an error message. If the value has more than 24
// characters, it may be an app secret or a key in the wrong place; then only
// the length is named. An appid has 18 characters.
func Quote(text string) string {
	if len(text) > 24 {
		return fmt.Sprintf("a text of %d characters", len(text))
	}
	return strconv.Quote(text)
}

// pushToken is what WeChat's console accepts as 消息校验Token.
var pushToken = regexp.MustCompile(`^[A-Za-z0-9]{3,32}$`)

// AppID checks the appid of a component or an account, see subject.ValidAppID.
// Valid appids are safe as parts of storage keys.
func AppID(text string) error {
	if !subject.ValidAppID(text) {
		return fmt.Errorf("%s is not an appid: want wx and 16 lower-case hexadecimal digits", Quote(text))
	}
	return nil
}

// Authorizer checks the appid of an account, or *, which means all accounts.
func Authorizer(text string) error {
	if text == "*" {
		return nil
	}
	return AppID(text)
}

// ClientID checks the name of a client, which is a part of gateway tokens and
// of storage keys, and a label of metrics: none is for calls without a client.
func ClientID(text string) error {
	if text == "none" {
		return errors.New("none is no client name: in metrics and logs it stands for calls without a client")
	}
	if !gwtoken.ValidClient(text) {
		return fmt.Errorf("%s is not a client name: want up to 64 lower-case letters, digits and hyphens", Quote(text))
	}
	return nil
}

// DisplayName checks a name that is shown to people. Characters without a shape
// are rejected: some change the order of those around them, so that the page
// would show another name.
func DisplayName(text string) error {
	const longest = 64
	if !utf8.ValidString(text) || strings.TrimSpace(text) == "" || utf8.RuneCountInString(text) > longest ||
		strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsGraphic(c) }) {
		return fmt.Errorf("want a name of 1 to %d characters, without control characters and line breaks", longest)
	}
	return nil
}

// AppSecret checks the AppSecret of a component. WeChat's have 32 characters,
// so a shorter one was not copied completely. Longer ones are accepted.
func AppSecret(text string) error {
	if len(text) < 32 {
		return fmt.Errorf("the AppSecret has %d characters; WeChat's have 32", len(text))
	}
	return visible(text)
}

// PushToken checks a 消息校验Token, with which pushes are signed.
func PushToken(text string) error {
	if !pushToken.MatchString(text) {
		return errors.New("want 3 to 32 letters and digits, as 消息校验Token in WeChat's console")
	}
	return nil
}

// AESKey checks a 消息加解密Key (EncodingAESKey), see bizmsg.ParseKey.
func AESKey(text string) error {
	_, err := bizmsg.ParseKey(secret.New(text))
	return err
}

// ParseSealKey decodes a seal key: base64 of vault.KeySize bytes. The error
// does not quote the key.
func ParseSealKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != vault.KeySize {
		return nil, errors.New("want base64 of 32 bytes; make one with: openssl rand -base64 32")
	}
	return key, nil
}

// SealKey checks a seal key, see ParseSealKey.
func SealKey(text string) error {
	_, err := ParseSealKey(text)
	return err
}

const (
	// HashedSecret is the beginning of a client secret that is configured as
	// its SHA-256, in hexadecimal digits. The gateway then never knows the
	// secret.
	HashedSecret = "sha256:"
	// MinClientSecret is the least number of characters of a client secret. So
	// many random characters cannot be guessed, even with their SHA-256.
	MinClientSecret = 32
)

// ClientSecret checks the secret of a client: a text of MinClientSecret visible
// characters or more, or HashedSecret and 64 hexadecimal digits.
func ClientSecret(text string) error {
	// With SHA256: in capital letters the text would be accepted as a secret of
	// 71 characters. Everybody who knows the digest could then call with this
	// text.
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
