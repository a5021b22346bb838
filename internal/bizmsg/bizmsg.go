// SPDX-License-Identifier: Apache-2.0

// Package bizmsg speaks WXBizMsgCrypt, the encryption of WeChat's pushes and of
// the replies to them: key, padding, signature and envelope. It has no clock
// and no network.
//
// A push is read in three steps. Nothing in it is trusted before the second:
//
//	envelope, err := bizmsg.ParseEnvelope(body)
//	message, err := codec.Open(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), envelope.Encrypt)
//	event, err := bizmsg.ParseEvent(message.Plain)
//
// Sources: Third-party_Platforms/2.0/api/Before_Develop/Technical_Plan.html and
// message_push.html, checked against the vectors of Tencent's sample code.
package bizmsg

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// Why a push does not open. Each is complete as it stands: a cause from below
// could quote what was decrypted.
var (
	// ErrSignature: no token makes this msg_signature. Anyone may have sent it.
	ErrSignature = errors.New("opening message: msg_signature does not match")
	// ErrCiphertext: signed with our token, but no key makes sense of it. Most
	// likely the EncodingAESKey here and in WeChat's console differ.
	ErrCiphertext = errors.New("opening message: not encrypted with any of the keys")
	// ErrReceiveID: decrypted, but meant for another appid.
	ErrReceiveID = errors.New("opening message: meant for another receive id")
)

// Codec opens and seals the messages of one receiver. It is read only and safe
// for concurrent use. Without a token or without a key it opens nothing.
type Codec struct {
	// ReceiveID is the component_appid, also for messages to its authorizers.
	ReceiveID string
	// Tokens sign. The current one comes first, then previous ones; an empty
	// one is passed over, since anybody could sign with it.
	Tokens []secret.Secret
	// Keys encrypt. The current one comes first, then previous ones: WeChat
	// asks to keep the previous key working after a change (Technical_Plan).
	Keys []Key
}

// Message is an opened message.
type Message struct {
	// Plain is the decrypted text. That of an event holds credentials: never log it.
	Plain []byte
	// Previous: made with a token or key that is not the current one. WeChat
	// has not changed over yet.
	Previous bool

	receiveID string
	token     secret.Secret
	key       Key
}

// Open verifies and decrypts the Encrypt element of an envelope; the other
// arguments come from the query of the same request, as they stand there. It
// fails with ErrSignature, ErrCiphertext or ErrReceiveID, and then returns no
// message.
//
// The signature joins its sorted parts without separators. So one msg_signature
// also holds for timestamp and nonce exchanged, or cut elsewhere: a replay
// window must remember the msg_signature, not the nonce.
func (c *Codec) Open(msgSignature, timestamp, nonce, encrypt string) (*Message, error) {
	token, previousToken := c.signer(msgSignature, timestamp, nonce, encrypt)
	if token == nil {
		return nil, ErrSignature
	}
	sealed, err := base64.StdEncoding.DecodeString(encrypt)
	if err != nil {
		return nil, ErrCiphertext
	}

	failure := ErrCiphertext
	for i, key := range c.Keys {
		plain, receiveID, ok := key.decrypt(sealed)
		switch {
		case !ok:
		case subtle.ConstantTimeCompare(receiveID, []byte(c.ReceiveID)) != 1:
			failure = ErrReceiveID
		default:
			return &Message{Plain: plain, Previous: previousToken || i > 0, receiveID: c.ReceiveID, token: token, key: key}, nil
		}
	}
	return nil, failure
}

// signer returns the token that made the signature, nil if none did, and
// whether it is a previous one.
func (c *Codec) signer(msgSignature, timestamp, nonce, encrypt string) (token secret.Secret, previous bool) {
	for i, token := range c.Tokens {
		if token.Reveal() == "" {
			continue
		}
		want := Sign(token, timestamp, nonce, encrypt)
		if subtle.ConstantTimeCompare([]byte(want), []byte(msgSignature)) == 1 {
			return token, i > 0
		}
	}
	return nil, false
}
