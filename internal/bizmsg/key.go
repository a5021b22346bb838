// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

const (
	keyLength    = 43 // characters of an EncodingAESKey
	padBlock     = 32 // PKCS#7 over twice the AES block: 1 to 32 bytes of padding
	randomLength = 16
	headLength   = randomLength + 4 // before the text: random bytes, length of the text
)

// Key is a decoded EncodingAESKey: the prepared cipher and the IV, which is the
// first half of the key. It is a function for the reason that a secret.Secret
// is one: fmt shows an address. (A pointer to a struct would not do, %s follows
// it.) A nil Key means "none" and opens nothing.
type Key func() (block cipher.Block, iv []byte)

// ParseKey decodes an EncodingAESKey: 43 letters and digits, the base64 of 32
// bytes without its "=". The last character may carry spare bits that are not
// zero, as in Tencent's own sample keys. An error never shows the key.
func ParseKey(encodingAESKey secret.Secret) (Key, error) {
	text := encodingAESKey.Reveal()
	if n := utf8.RuneCountInString(text); n != keyLength {
		return nil, fmt.Errorf("EncodingAESKey has %d characters, want %d", n, keyLength)
	}
	if i := strings.IndexFunc(text, notAlphanumeric); i >= 0 {
		return nil, fmt.Errorf("character %d of EncodingAESKey is not a letter or digit", i+1)
	}
	raw, err := base64.StdEncoding.DecodeString(text + "=")
	if err != nil {
		return nil, fmt.Errorf("decoding EncodingAESKey: %w", err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("preparing EncodingAESKey: %w", err)
	}
	iv := raw[:aes.BlockSize:aes.BlockSize]
	return func() (cipher.Block, []byte) { return block, iv }, nil
}

func notAlphanumeric(c rune) bool {
	return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
}

// encrypt returns random || length of text || text || receiveID, padded and
// encrypted with AES-256-CBC.
func (k Key) encrypt(random [randomLength]byte, text []byte, receiveID string) []byte {
	size := headLength + len(text) + len(receiveID)
	pad := padBlock - size%padBlock

	buf := make([]byte, 0, size+pad)
	buf = append(buf, random[:]...)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(text)))
	buf = append(buf, text...)
	buf = append(buf, receiveID...)
	buf = append(buf, bytes.Repeat([]byte{byte(pad)}, pad)...)

	cipher.NewCBCEncrypter(k()).CryptBlocks(buf, buf)
	return buf
}

// decrypt undoes encrypt and leaves sealed as it is. It need not hide where it
// fails: whoever gets here knows the token.
func (k Key) decrypt(sealed []byte) (text, receiveID []byte, ok bool) {
	if k == nil || len(sealed) == 0 || len(sealed)%aes.BlockSize != 0 {
		return nil, nil, false
	}
	buf := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(k()).CryptBlocks(buf, sealed)

	buf, ok = unpad(buf)
	if !ok || len(buf) < headLength {
		return nil, nil, false
	}
	length := uint64(binary.BigEndian.Uint32(buf[randomLength:]))
	body := buf[headLength:]
	if length > uint64(len(body)) {
		return nil, nil, false
	}
	return body[:length:length], body[length:], true
}

// unpad removes PKCS#7 padding. Libraries for AES stop at 16 bytes of it, WeChat
// pads with up to 32.
func unpad(buf []byte) ([]byte, bool) {
	pad := int(buf[len(buf)-1])
	if pad < 1 || pad > padBlock || pad > len(buf) {
		return nil, false
	}
	text, padding := buf[:len(buf)-pad], buf[len(buf)-pad:]
	return text, bytes.Count(padding, padding[:1]) == pad
}
