// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// blockSize is WXBizMsgCrypt's padding block: PKCS#7, but over 32 bytes where AES has 16.
const blockSize = 32

// seal encrypts msg as WXBizMsgCrypt does: random16 ‖ length ‖ msg ‖ receiveID,
// padded to 32, AES-256-CBC with the key's first 16 bytes as IV, base64.
func seal(encodingAESKey string, random16 []byte, msg, receiveID string) (string, error) {
	key, err := aesKey(encodingAESKey)
	if err != nil {
		return "", fmt.Errorf("decoding the AES key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", fmt.Errorf("preparing AES: %w", err)
	}
	plain := bytes.NewBuffer(slices.Clone(random16))
	_ = binary.Write(plain, binary.BigEndian, uint32(len(msg)))
	plain.WriteString(msg + receiveID)
	pad := blockSize - plain.Len()%blockSize
	plain.Write(bytes.Repeat([]byte{byte(pad)}, pad))
	box := plain.Bytes()
	cipher.NewCBCEncrypter(block, key[:aes.BlockSize]).CryptBlocks(box, box)
	return base64.StdEncoding.EncodeToString(box), nil
}

// errSealed says that a box does not open; which step failed would help only an attacker.
var errSealed = errors.New("the box does not open with this key")

// open reverses seal.
func open(encodingAESKey, sealed string) (msg, receiveID string, err error) {
	key, err := aesKey(encodingAESKey)
	if err != nil {
		return "", "", fmt.Errorf("decoding the AES key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", "", fmt.Errorf("preparing AES: %w", err)
	}
	box, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(box) == 0 || len(box)%aes.BlockSize != 0 {
		return "", "", errSealed
	}
	cipher.NewCBCDecrypter(block, key[:aes.BlockSize]).CryptBlocks(box, box)
	pad := int(box[len(box)-1])
	if pad < 1 || pad > blockSize || pad > len(box) {
		return "", "", errSealed
	}
	box = box[:len(box)-pad]
	if len(box) < 20 {
		return "", "", errSealed
	}
	length, rest := binary.BigEndian.Uint32(box[16:20]), box[20:]
	if uint64(length) > uint64(len(rest)) { // not int: 32-bit machines would see a negative length
		return "", "", errSealed
	}
	return string(rest[:length]), string(rest[length:]), nil
}

// sign is SHA-1 over the byte-sorted parts. With the box among them it is
// msg_signature, without it the signature that proves nothing about the body.
func sign(parts ...string) string {
	slices.Sort(parts)
	sum := sha1.Sum([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}
