// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/check"
	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
)

// Contains reports whether a text, such as the value of a header, has a client
// secret or a gateway token in it, plain or with percent-escapes. The cost does
// not grow with the number of clients, and it allocates only for escapes.
//
// A gateway token is known by its beginning. A client secret that is configured
// in plain text is found wherever it begins and ends. Of one that is configured
// as a digest nothing but the digest is known, so it is found only as a whole
// between separators, as in "Bearer <secret>", "key=<secret>; a=b" or JSON.
// Package relay looks for the one that the caller itself shows in Authorization.
func (c *Clients) Contains(text string) bool {
	if c.contains(text) {
		return true
	}
	return strings.IndexByte(text, '%') >= 0 && c.contains(unescaped(text))
}

// unescaped returns text with its percent-escapes decoded. A "%" that begins none
// stays, and hides none behind it. So does "+": it may be a part of a secret.
func unescaped(text string) string {
	plain := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		var c [1]byte
		if text[i] == '%' && i+2 < len(text) {
			if _, err := hex.Decode(c[:], []byte(text[i+1:i+3])); err == nil {
				plain = append(plain, c[0])
				i += 2
				continue
			}
		}
		plain = append(plain, text[i])
	}
	return string(plain)
}

// contains is Contains without escapes.
func (c *Clients) contains(text string) bool {
	return gwtoken.Within(text) || len(text) >= check.MinClientSecret &&
		(c.plain.within(text, c.isSecret) || c.shortest < check.MinClientSecret && c.betweenSeparators(text))
}

// isSecret reports whether text is a client secret.
func (c *Clients) isSecret(text string) bool {
	found, _ := c.withSecret(text)
	return found != nil
}

// betweenSeparators reports whether a client secret stands in text between
// separators. "=", ":" and "/" are separators only in the second place: they may
// be a part of a secret.
func (c *Clients) betweenSeparators(text string) bool {
	isSecret := func(part string) bool { return len(part) >= check.MinClientSecret && c.isSecret(part) }
	return anyPart(text, " \t,;\"'&?<>(){}[]|", func(part string) bool {
		// A secret in base64 may end in "=".
		_, afterEqual, _ := strings.Cut(part, "=")
		_, afterColon, _ := strings.Cut(part, ":")
		return isSecret(part) || isSecret(afterEqual) || isSecret(afterColon) || anyPart(part, "=:/", isSecret)
	})
}

// anyPart reports whether the function is true for one of the parts of text that
// are as long as a client secret.
func anyPart(text, separators string, is func(part string) bool) bool {
	for len(text) >= check.MinClientSecret {
		part := text
		if end := strings.IndexAny(text, separators); end >= 0 {
			part, text = text[:end], text[end+1:]
		} else {
			text = ""
		}
		if len(part) >= check.MinClientSecret && is(part) {
			return true
		}
	}
	return false
}

// beginning is what is kept of a client secret to find it in a text: its length,
// and a hash of its first MinClientSecret bytes. The hash is one that can be moved
// along a text byte by byte (Rabin and Karp). It is no proof, which SHA-256 is, and
// does not tell the secret.
type beginning struct {
	hash   uint64
	length int
}

const (
	hashed     = check.MinClientSecret // bytes
	multiplier = 0x9E3779B97F4A7C15    // any odd number whose bits look random
)

// beginningOf returns the beginning of a secret of at least MinClientSecret bytes.
func beginningOf(secret string) beginning {
	b := beginning{length: len(secret)}
	for _, c := range []byte(secret[:hashed]) {
		b.hash = b.hash*multiplier + uint64(c)
	}
	return b
}

// beginnings finds the places of a text at which a secret may begin.
type beginnings struct {
	lengths map[uint64][]int // hash → lengths of the secrets that begin so
	filter  [64]uint64       // a bit for the first 12 bits of each hash; saves most look-ups
}

// add adds a secret.
func (b *beginnings) add(secret beginning) {
	if b.lengths == nil {
		b.lengths = make(map[uint64][]int)
	}
	if lengths := b.lengths[secret.hash]; !slices.Contains(lengths, secret.length) {
		b.lengths[secret.hash] = append(lengths, secret.length)
	}
	b.filter[secret.hash>>58] |= 1 << (secret.hash >> 52 & 63)
}

// within reports whether is is true for a part of text that begins as a secret
// does, and is as long.
func (b *beginnings) within(text string, is func(part string) bool) bool {
	if b.lengths == nil {
		return false
	}
	var hash uint64
	for i := range len(text) {
		if i >= hashed {
			hash -= uint64(text[i-hashed]) * leading
		}
		hash = hash*multiplier + uint64(text[i])
		begin := i + 1 - hashed
		if begin < 0 || b.filter[hash>>58]&(1<<(hash>>52&63)) == 0 {
			continue
		}
		for _, length := range b.lengths[hash] {
			if begin+length <= len(text) && is(text[begin:begin+length]) {
				return true
			}
		}
	}
	return false
}

// leading is by what the first of the hashed bytes is multiplied: multiplier to
// the power of hashed-1, which is 31.
const (
	modulus = 1 << 64
	power2  = multiplier * multiplier % modulus
	power4  = power2 * power2 % modulus
	power8  = power4 * power4 % modulus
	power16 = power8 * power8 % modulus
	leading = multiplier * power2 % modulus * power4 % modulus * power8 % modulus * power16 % modulus
)
