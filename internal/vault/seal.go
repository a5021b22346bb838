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

// KeySize is the length of a seal key in bytes.
const KeySize = 32

// schema is the version of the envelope and of what is inside it. A reader
// leaves newer ones alone.
const schema = 1

// What Unreadable may hold, besides damage of any kind.
var (
	ErrOtherKey = errors.New("sealed with another key")
	ErrNewer    = errors.New("sealed by a newer release")
)

// envelope is the JSON of a stored file.
type envelope struct {
	Schema int    `json:"schema"`
	Key    string `json:"key"` // id of the seal key
	Box    []byte `json:"box"`
}

// Keyring seals with one key and opens what any of its keys has sealed. Nonces
// are random: GCM allows 2^32 boxes per key, which is 10 years of renewing
// 100,000 authorizers every two hours.
type Keyring struct {
	current string                 // id of the key that seals
	boxes   map[string]cipher.AEAD // key id → cipher
}

// NewKeyring makes a keyring of keys of KeySize bytes, the current one first,
// followed by those that it replaced.
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

// DeriveKey derives a component's seal key from its app secret (HKDF-SHA256,
// RFC 5869). It returns nil, which NewKeyring refuses, for an empty secret: the
// key derived from that would be known to everybody.
func DeriveKey(appSecret secret.Secret, component string) []byte {
	if appSecret == nil {
		return nil
	}
	key, err := hkdf.Key(sha256.New, []byte(appSecret.Reveal()), nil, "wechat vault seal key "+component, KeySize)
	if err != nil { // FIPS mode does not accept short secrets
		return nil
	}
	return key
}

// keyID names a key in public.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("wechat vault key id "), key...))
	return hex.EncodeToString(sum[:8])
}

// seal returns the file that holds plaintext under the storage key name.
func (k *Keyring) seal(name string, plaintext []byte) ([]byte, error) {
	return json.Marshal(envelope{
		Schema: schema,
		Key:    k.current,
		Box:    k.boxes[k.current].Seal(nil, nil, plaintext, []byte(name)),
	})
}

// open returns what seal was given, and the id of the key that sealed it. Its
// errors show nothing of the contents but the key id, which is public.
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

// envelope takes a file apart. In the form that seal gives it, the parts are cut
// out: encoding/json, which reads any other, takes as long as the file system.
func (k *Keyring) envelope(file []byte) (e envelope, err error) {
	rest, ours := bytes.CutPrefix(file, []byte(`{"schema":1,"key":"`))
	key, rest, named := bytes.Cut(rest, []byte(`","box":"`))
	text, whole := bytes.CutSuffix(rest, []byte(`"}`))
	if _, known := k.boxes[string(key)]; ours && named && whole && known {
		box, err := base64.StdEncoding.AppendDecode(nil, text)
		if err == nil && base64.StdEncoding.EncodedLen(len(box)) == len(text) { // without line breaks, which JSON does not allow
			return envelope{Schema: 1, Key: string(key), Box: box}, nil
		}
	}
	return e, json.Unmarshal(file, &e)
}
