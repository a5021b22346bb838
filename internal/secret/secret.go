// SPDX-License-Identifier: Apache-2.0

// Package secret holds the type of every value that must not be printed:
// tickets, tokens, app secrets, keys.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
)

// Secret is a text that cannot be printed by accident. It is a function, so
// that fmt shows an address even where the Secret sits in an unexported field
// of a printed struct, and encoding/json refuses it instead of writing it out.
// A nil Secret means "none".
type Secret func() string

// New wraps text. The empty text gives the nil Secret.
func New(text string) Secret {
	if text == "" {
		return nil
	}
	return func() string { return text }
}

// Reveal returns the text, "" for none. It is the only way out, so a search
// for its callers is the audit.
func (s Secret) Reveal() string {
	if s == nil {
		return ""
	}
	return s()
}

// Equal reports, in time independent of the contents, whether both hold the
// same text.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// Digest returns the SHA-256 of context and the text, which names a secret of much
// chance without telling it. Context says what for, so that no two uses agree.
func (s Secret) Digest(context string) [sha256.Size]byte {
	return sha256.Sum256([]byte(context + s.Reveal()))
}
