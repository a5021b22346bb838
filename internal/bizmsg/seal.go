// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Sign returns the msg_signature: SHA-1, in lower-case hexadecimal, over the
// four texts sorted by their bytes and joined. With encrypt empty it is the
// plain `signature` of the query, which proves nothing about the body
// (message_push.html warns not to use it).
func Sign(token secret.Secret, timestamp, nonce, encrypt string) string {
	parts := [...]string{token.Reveal(), timestamp, nonce, encrypt}
	slices.Sort(parts[:])

	joined := make([]byte, 0, len(parts[0])+len(parts[1])+len(parts[2])+len(parts[3]))
	for _, part := range parts {
		joined = append(joined, part...)
	}
	sum := sha1.Sum(joined)
	return hex.EncodeToString(sum[:])
}

// Seal makes the envelope of a passive reply to m, with the token and the key
// that opened m, since WeChat may not know a newer pair yet. now becomes the
// TimeStamp, in seconds; nonce is that of the request. The answers "success"
// and "" are sent as they are, never sealed (message_push.html).
func (m *Message) Seal(plain []byte, now time.Time, nonce string) Envelope {
	return seal(m.key, m.token, m.receiveID, newRandom(), plain, now, nonce)
}

// Seal makes an envelope with the current token and key, both of which c must have.
func (c *Codec) Seal(plain []byte, now time.Time, nonce string) Envelope {
	return seal(c.Keys[0], c.Tokens[0], c.ReceiveID, newRandom(), plain, now, nonce)
}

func newRandom() (random [randomLength]byte) {
	rand.Read(random[:]) // never fails, says its documentation
	return random
}

func seal(key Key, token secret.Secret, receiveID string, random [randomLength]byte,
	plain []byte, now time.Time, nonce string,
) Envelope {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	encrypt := base64.StdEncoding.EncodeToString(key.encrypt(random, plain, receiveID))
	return Envelope{
		Encrypt:      encrypt,
		MsgSignature: Sign(token, timestamp, nonce, encrypt),
		TimeStamp:    timestamp,
		Nonce:        nonce,
	}
}
