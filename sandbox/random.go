// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
)

const lettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// random continues prefix with random letters and digits up to length.
func random(prefix string, length int) string {
	value := []byte(prefix)
	chance := make([]byte, max(0, length-len(value)))
	_, _ = rand.Read(chance) // never fails, says its documentation
	for _, b := range chance {
		value = append(value, lettersAndDigits[int(b)%len(lettersAndDigits)])
	}
	return string(value)
}

// randomHex is n random lower-case hex digits; n is even.
func randomHex(n int) string {
	chance := make([]byte, n/2)
	_, _ = rand.Read(chance)
	return hex.EncodeToString(chance)
}

func randomUint32() uint64 {
	var chance [4]byte
	_, _ = rand.Read(chance[:])
	return uint64(binary.BigEndian.Uint32(chance[:]))
}

// openID makes the openid of a user name under an appid: stable, and different for every appid.
func openID(appid, user string) string {
	digest := sign("openid", appid, user)
	return "o" + base64.RawURLEncoding.EncodeToString([]byte(digest))[:27]
}
