// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// KeySize is the length of a seal key in bytes: the key of AES-256.
const KeySize = 32

// schema is the version of the envelope and of the JSON in the box. A file with
// a higher one is *Unreadable with ErrNewer.
const schema = 1

// Two reasons in an Unreadable for which an operator can do something. Damaged
// and moved files have other errors.
//
// ErrOtherKey means that the key with this id is not in the keyring: the
// previous seal key or app secret is not configured. ErrNewer means that
// another node runs a newer release.
var (
	ErrOtherKey = errors.New("sealed with another key")
	ErrNewer    = errors.New("sealed by a newer release")
)

// envelope is the JSON of a sealed file. Nothing in it is authenticated except
// Box.
type envelope struct {
	Schema int    `json:"schema"`
	Key    string `json:"key"` // id of the seal key
	Box    []byte `json:"box"`
}

// Keyring seals with its current key and opens what any of its keys has sealed.
// It never changes after NewKeyring, so it is safe for concurrent use.
//
// Nonces are random. AES-GCM with random nonces allows 2^32 boxes per key (NIST
// SP 800-38D, 8.3). That is enough to renew 100,000 authorizers every two hours
// for ten years.
type Keyring struct {
	current string                 // id of the key that seals
	boxes   map[string]cipher.AEAD // key id → cipher
}

// NewKeyring returns a keyring. The first key is the current one; the others
// are previous ones, which open only. It fails without a key, and if a key does
// not have KeySize bytes; a nil key of DeriveKey is such a key. The error shows
// nothing of a key. The keys are not kept.
func NewKeyring(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("making a keyring: no seal key")
	}
	k := &Keyring{current: keyID(keys[0]), boxes: make(map[string]cipher.AEAD, len(keys))}
	for _, key := range keys {
		if len(key) != KeySize {
			return nil, fmt.Errorf("making a keyring: a seal key has %d bytes, want %d", len(key), KeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("making a keyring: %w", err)
		}
		if k.boxes[keyID(key)], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("making a keyring: %w", err)
		}
	}
	return k, nil
}

// DeriveKey derives the seal key of a component from its app secret with
// HKDF-SHA256 (RFC 5869). The appid is a parameter of the derivation, so two
// components with the same app secret have different keys. For an empty secret
// it returns nil, which NewKeyring rejects: everybody could derive that key.
func DeriveKey(appSecret secret.Secret, component string) []byte {
	if appSecret == nil {
		return nil
	}
	key, err := hkdf.Key(sha256.New, []byte(appSecret.Reveal()), nil, "wechat vault seal key "+component, KeySize)
	if err != nil { // FIPS mode rejects short secrets
		return nil
	}
	return key
}

// keyID returns the id of a key. It is stored in clear text: eight bytes of a
// SHA-256, from which the key cannot be computed.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("wechat vault key id "), key...))
	return hex.EncodeToString(sum[:8])
}

// seal returns the file that contains plaintext. It opens only under the same
// storage key, name.
func (k *Keyring) seal(name string, plaintext []byte) ([]byte, error) {
	return json.Marshal(envelope{
		Schema: schema,
		Key:    k.current,
		Box:    k.boxes[k.current].Seal(nil, nil, plaintext, []byte(name)),
	})
}

// open returns the plaintext that was given to seal, and the id of the key that
// sealed it. Its errors quote nothing of the file except the key id, which is
// no secret.
func (k *Keyring) open(name string, file []byte) (plaintext []byte, key string, err error) {
	e, err := k.envelope(file)
	if err != nil || e.Schema < 1 {
		return nil, "", errors.New("not a sealed record")
	}
	if e.Schema > schema {
		return nil, "", fmt.Errorf("%w (schema %d, known is %d)", ErrNewer, e.Schema, schema)
	}
	box, ok := k.boxes[e.Key]
	if !ok {
		return nil, "", fmt.Errorf("%w (id %.16q)", ErrOtherKey, e.Key)
	}
	plaintext, err = box.Open(e.Box[:0], nil, e.Box, []byte(name))
	if err != nil {
		return nil, "", errors.New("damaged, or moved from another name")
	}
	return plaintext, e.Key, nil
}

// envelope parses a file. A file in exactly the form that seal writes is cut
// into its parts, because encoding/json takes as long as reading the file from
// disk. Any other form, such as one with spaces, is parsed by encoding/json.
func (k *Keyring) envelope(file []byte) (e envelope, err error) {
	rest, ours := bytes.CutPrefix(file, []byte(`{"schema":1,"key":"`))
	key, rest, named := bytes.Cut(rest, []byte(`","box":"`))
	text, whole := bytes.CutSuffix(rest, []byte(`"}`))
	if _, known := k.boxes[string(key)]; ours && named && whole && known {
		box, err := base64.StdEncoding.AppendDecode(nil, text)
		if err == nil && base64.StdEncoding.EncodedLen(len(box)) == len(text) { // the decoder skips line breaks, which JSON does not allow in a text
			return envelope{Schema: 1, Key: string(key), Box: box}, nil
		}
	}
	return e, json.Unmarshal(file, &e)
}
