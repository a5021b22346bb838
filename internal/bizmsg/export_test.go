// SPDX-License-Identifier: Apache-2.0

package bizmsg

import "time"

// SealWith is Codec.Seal with the 16 random bytes chosen.
func (c *Codec) SealWith(random [16]byte, plain []byte, now time.Time, nonce string) Envelope {
	return seal(c.Keys[0], c.Tokens[0], c.ReceiveID, random, plain, now, nonce)
}
