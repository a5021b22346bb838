// SPDX-License-Identifier: Apache-2.0

package gwtoken

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// keyInfo separates these keys from others derived from the same app secret.
const keyInfo = "caddy-wechat gateway token"

const (
	keySize   = sha256.Size
	keyIDSize = 6 // bytes; 8 characters in the token
)

// Key makes and checks the tokens of one client secret at one component. It is
// safe for concurrent use. The key itself stands in no field, only within the
// hashes of the pool, so a Key can be printed.
type Key struct {
	id   string
	pool sync.Pool // of *workspace
}

// workspace is what one computation needs, kept so that a check allocates nothing.
type workspace struct {
	mac  hash.Hash
	text [maxLength]byte   // hash.Hash takes no string
	sum  [sha256.Size]byte // what the MAC is
	got  [sha256.Size]byte // what the token says it is
}

// NewKey derives a key, with HKDF-SHA256, from the component's app secret and
// the digest of the client's secret (of which the gateway may know no more).
// Neither WeChat, who knows the one, nor the client, who knows the other, can
// make a token. It fails without an app secret.
func NewKey(appSecret secret.Secret, clientSecretSHA256 [sha256.Size]byte) (*Key, error) {
	if appSecret.Reveal() == "" {
		return nil, errors.New("deriving gateway token key: no app secret")
	}
	derived, err := hkdf.Key(sha256.New, []byte(appSecret.Reveal()), clientSecretSHA256[:], keyInfo, keySize+keyIDSize)
	if err != nil {
		return nil, fmt.Errorf("deriving gateway token key: %w", err)
	}
	key, id := derived[:keySize], derived[keySize:]
	k := &Key{id: encoding.EncodeToString(id)}
	k.pool.New = func() any { return &workspace{mac: hmac.New(sha256.New, key)} }
	return k, nil
}

// ID names the key in its tokens: 8 characters that tell nothing about it. Among
// several keys (previous app secret, second client secret) it finds the right
// one without trying.
func (k *Key) ID() string { return k.id }

// Verify returns the claims of u if k made it. Whether they have expired is for
// the caller to say, who has the clock: "expired" and "forged" are answered
// differently, and the first only to the rightful holder.
func (k *Key) Verify(u Unverified) (Claims, bool) {
	if !k.authentic(u) {
		return Claims{}, false
	}
	return Claims{
		Client:  u.client,
		Subject: subject.Of(u.component, u.authorizer),
		Expires: time.Unix(u.expires, 0),
	}, true
}

// authentic checks the MAC in constant time.
func (k *Key) authentic(u Unverified) bool {
	w := k.pool.Get().(*workspace)
	defer k.pool.Put(w)

	n, err := encoding.Decode(w.got[:], append(w.text[:0], u.mac...))
	if err != nil || n != len(w.got) {
		return false
	}
	return subtle.ConstantTimeCompare(w.compute(u.signed), w.got[:]) == 1
}

// sign appends the MAC of text to it.
func (k *Key) sign(text string) string {
	w := k.pool.Get().(*workspace)
	defer k.pool.Put(w)
	return text + "." + encoding.EncodeToString(w.compute(text))
}

func (w *workspace) compute(text string) []byte {
	w.mac.Reset()
	w.mac.Write(append(w.text[:0], text...))
	return w.mac.Sum(w.sum[:0])
}
