// SPDX-License-Identifier: Apache-2.0

package bizmsg_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

const (
	componentID = "wx134c8103faa5a59e"
	tokenText   = "spamtest"
	keyText     = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG" // spare bits in the last character
	otherKey    = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
	timestamp   = "1715943329"
	nonce       = "1590219412"
)

var now = time.Unix(1715943329, 0)

// vector is one case of testdata/bizmsg-vectors.json, taken from Tencent's
// documentation and sample code.
type vector struct {
	ID             string `json:"id"`
	EncodingAESKey string `json:"encoding_aes_key"`
	Token          string `json:"token"`
	Timestamp      string `json:"timestamp"`
	Nonce          string `json:"nonce"`
	ReceiveID      string `json:"receive_id"`
	Random16       string `json:"random16"`
	Pad            int    `json:"pad"`
	Encrypt        string `json:"encrypt"`
	MsgSignature   string `json:"msg_signature"`
	Signature      string `json:"signature"`
	Plaintext      string `json:"plaintext"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("../../testdata/bizmsg-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 6 {
		t.Fatalf("%d vectors, want 6", len(all))
	}
	return all
}

func mustKey(t testing.TB, text string) bizmsg.Key {
	t.Helper()
	key, err := bizmsg.ParseKey(secret.New(text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCodec(t testing.TB, receiveID, token, key string) *bizmsg.Codec {
	t.Helper()
	return &bizmsg.Codec{
		ReceiveID: receiveID,
		Tokens:    []secret.Secret{secret.New(token)},
		Keys:      []bizmsg.Key{mustKey(t, key)},
	}
}

// rawSeal encrypts plain as it is, with neither padding nor structure added,
// and independently of the code under test.
func rawSeal(t testing.TB, key string, plain []byte) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(key + "=")
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		t.Fatal(err)
	}
	sealed := make([]byte, len(plain))
	cipher.NewCBCEncrypter(block, raw[:16]).CryptBlocks(sealed, plain)
	return base64.StdEncoding.EncodeToString(sealed)
}

// layout is random || length || text || receiveID, with the length as claimed.
func layout(length uint32, text, receiveID string) []byte {
	b := []byte("0123456789abcdef")
	b = binary.BigEndian.AppendUint32(b, length)
	return append(b, text+receiveID...)
}

// pad32 appends correct padding.
func pad32(b []byte) []byte {
	n := 32 - len(b)%32
	return append(b, bytes.Repeat([]byte{byte(n)}, n)...)
}

// open signs encrypt with the test token, so that only the ciphertext is judged.
func open(c *bizmsg.Codec, encrypt string) (*bizmsg.Message, error) {
	return c.Open(bizmsg.Sign(secret.New(tokenText), timestamp, nonce, encrypt), timestamp, nonce, encrypt)
}

func wantRefused(t *testing.T, m *bizmsg.Message, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	if m != nil {
		t.Error("a message came with the error")
	}
}

func TestOfficialVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.ID, func(t *testing.T) {
			c := newCodec(t, v.ReceiveID, v.Token, v.EncodingAESKey)

			m, err := c.Open(v.MsgSignature, v.Timestamp, v.Nonce, v.Encrypt)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.Plaintext, string(m.Plain)); diff != "" {
				t.Errorf("opened text (-want +got):\n%s", diff)
			}

			seconds, err := strconv.ParseInt(v.Timestamp, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			got := c.SealWith([16]byte([]byte(v.Random16)), []byte(v.Plaintext), time.Unix(seconds, 0), v.Nonce)
			want := bizmsg.Envelope{Encrypt: v.Encrypt, MsgSignature: v.MsgSignature, TimeStamp: v.Timestamp, Nonce: v.Nonce}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("sealed envelope (-want +got):\n%s", diff)
			}

			if got := bizmsg.Sign(secret.New(v.Token), v.Timestamp, v.Nonce, ""); got != v.Signature {
				t.Errorf("plain signature %s, want %s", got, v.Signature)
			}
		})
	}
}

func TestEveryLengthOfPaddingOpens(t *testing.T) {
	c := newCodec(t, componentID, tokenText, keyText)
	pads := make(map[int]bool)
	for n := range 64 {
		text := strings.Repeat("x", n)
		e := c.Seal([]byte(text), now, nonce)
		m, err := c.Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt)
		if err != nil || string(m.Plain) != text {
			t.Fatalf("text of %d bytes: %v", n, err)
		}
		pads[32-(20+n+len(componentID))%32] = true
	}
	if len(pads) != 32 {
		t.Errorf("%d lengths of padding tried, want 1 to 32", len(pads))
	}
}

func TestMalformedCiphertextIsRefused(t *testing.T) {
	c := newCodec(t, componentID, tokenText, keyText)
	text := "<xml></xml>"
	good := pad32(layout(uint32(len(text)), text, componentID))
	if _, err := open(c, rawSeal(t, keyText, good)); err != nil {
		t.Fatalf("the model of the cases does not open: %v", err)
	}
	sealed, _ := base64.StdEncoding.DecodeString(rawSeal(t, keyText, good))
	encode := base64.StdEncoding.EncodeToString
	withLength := func(n uint32) string { return rawSeal(t, keyText, pad32(layout(n, text, componentID))) }
	// A whole number of blocks that ends in n bytes of n.
	withPad := func(n int) string {
		body := layout(64, strings.Repeat("x", 64), componentID)
		body = append(body, strings.Repeat("x", (16-(len(body)+n)%16)%16)...)
		return rawSeal(t, keyText, append(body, bytes.Repeat([]byte{byte(n)}, n)...))
	}

	cases := map[string]struct {
		encrypt string
		want    error
	}{
		"nothing at all, where msg_signature is the plain signature": {"", bizmsg.ErrCiphertext},
		"not base64":                                 {"!!!!", bizmsg.ErrCiphertext},
		"base64 without its padding":                 {strings.TrimRight(encode(sealed), "="), bizmsg.ErrCiphertext},
		"not a whole number of blocks":               {encode(sealed[:len(sealed)-1]), bizmsg.ErrCiphertext},
		"last block cut off":                         {encode(sealed[:len(sealed)-16]), bizmsg.ErrCiphertext},
		"one block, all padding":                     {rawSeal(t, keyText, bytes.Repeat([]byte{16}, 16)), bizmsg.ErrCiphertext},
		"more padding than there is text":            {rawSeal(t, keyText, bytes.Repeat([]byte{32}, 16)), bizmsg.ErrCiphertext},
		"too short to hold a length":                 {rawSeal(t, keyText, pad32([]byte("0123456789abcdefXYZ"))), bizmsg.ErrCiphertext},
		"padding byte 0":                             {rawSeal(t, keyText, append(good[:len(good)-1:len(good)-1], 0)), bizmsg.ErrCiphertext},
		"padding of 33 bytes":                        {withPad(33), bizmsg.ErrCiphertext},
		"padding of 48 bytes":                        {withPad(48), bizmsg.ErrCiphertext},
		"padding of unequal bytes":                   {rawSeal(t, keyText, append(good[:len(good)-2:len(good)-2], 99, good[len(good)-1])), bizmsg.ErrCiphertext},
		"encrypted with another key":                 {rawSeal(t, otherKey, good), bizmsg.ErrCiphertext},
		"length of 4 GiB":                            {withLength(1<<32 - 1), bizmsg.ErrCiphertext},
		"length with the sign bit":                   {withLength(1 << 31), bizmsg.ErrCiphertext},
		"length one beyond the end":                  {withLength(uint32(len(text)+len(componentID)) + 1), bizmsg.ErrCiphertext},
		"length that swallows the receive id":        {withLength(uint32(len(text) + len(componentID))), bizmsg.ErrReceiveID},
		"length that takes in part of the id":        {withLength(uint32(len(text)) + 1), bizmsg.ErrReceiveID},
		"length that gives text to the id":           {withLength(uint32(len(text)) - 1), bizmsg.ErrReceiveID},
		"another component's appid":                  {rawSeal(t, keyText, pad32(layout(uint32(len(text)), text, "wx134c8103faa5a59f"))), bizmsg.ErrReceiveID},
		"no receive id":                              {rawSeal(t, keyText, pad32(layout(uint32(len(text)), text, ""))), bizmsg.ErrReceiveID},
		"the receive id and something after it":      {rawSeal(t, keyText, pad32(layout(uint32(len(text)), text, componentID+" "))), bizmsg.ErrReceiveID},
		"an upper-case spelling of the component id": {rawSeal(t, keyText, pad32(layout(uint32(len(text)), text, strings.ToUpper(componentID)))), bizmsg.ErrReceiveID},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := open(c, tc.encrypt)
			wantRefused(t, m, err, tc.want)
		})
	}
}

func TestSignatureMustMatch(t *testing.T) {
	c := newCodec(t, componentID, tokenText, keyText)
	e := c.Seal([]byte("hello"), now, nonce)
	foreign := secret.New("pamtest")
	first := "A"
	if strings.HasPrefix(e.Encrypt, first) {
		first = "B"
	}

	cases := map[string][4]string{ // msg_signature, timestamp, nonce, encrypt
		"empty":                     {"", e.TimeStamp, nonce, e.Encrypt},
		"upper case":                {strings.ToUpper(e.MsgSignature), e.TimeStamp, nonce, e.Encrypt},
		"cut short":                 {e.MsgSignature[:39], e.TimeStamp, nonce, e.Encrypt},
		"plain signature":           {bizmsg.Sign(c.Tokens[0], e.TimeStamp, nonce, ""), e.TimeStamp, nonce, e.Encrypt},
		"made with another token":   {bizmsg.Sign(foreign, e.TimeStamp, nonce, e.Encrypt), e.TimeStamp, nonce, e.Encrypt},
		"made with no token":        {bizmsg.Sign(nil, e.TimeStamp, nonce, e.Encrypt), e.TimeStamp, nonce, e.Encrypt},
		"for another timestamp":     {e.MsgSignature, "1715943330", nonce, e.Encrypt},
		"for another nonce":         {e.MsgSignature, e.TimeStamp, "1590219413", e.Encrypt},
		"for another message":       {e.MsgSignature, e.TimeStamp, nonce, first + e.Encrypt[1:]},
		"for a message not base64":  {e.MsgSignature, e.TimeStamp, nonce, "!"},
		"timestamp written with +0": {e.MsgSignature, "+0" + e.TimeStamp, nonce, e.Encrypt},
	}
	for name, a := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := c.Open(a[0], a[1], a[2], a[3])
			wantRefused(t, m, err, bizmsg.ErrSignature)
		})
	}
}

func TestAnEmptyTokenOrKeyOpensNothing(t *testing.T) {
	c := newCodec(t, componentID, tokenText, keyText)
	e := c.Seal([]byte("hello"), now, nonce)
	forged := bizmsg.Sign(nil, e.TimeStamp, nonce, e.Encrypt)

	c.Tokens = []secret.Secret{c.Tokens[0], func() string { return "" }, nil}
	m, err := c.Open(forged, e.TimeStamp, nonce, e.Encrypt)
	wantRefused(t, m, err, bizmsg.ErrSignature)

	c.Keys = []bizmsg.Key{nil}
	m, err = c.Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt)
	wantRefused(t, m, err, bizmsg.ErrCiphertext)

	m, err = new(bizmsg.Codec).Open(forged, e.TimeStamp, nonce, e.Encrypt)
	wantRefused(t, m, err, bizmsg.ErrSignature)
}

// Both facts are why Open asks for a replay window over the msg_signature.
func TestOneSignatureHoldsForSeveralReadings(t *testing.T) {
	c := newCodec(t, componentID, tokenText, keyText)
	e := c.Seal([]byte("hello"), now, "1800000000") // sorts behind the timestamp
	for e.Encrypt[0] <= '9' {                       // must not sort in between
		e = c.Seal([]byte("hello"), now, "1800000000")
	}
	for name, a := range map[string][2]string{
		"timestamp and nonce exchanged": {"1800000000", e.TimeStamp},
		"cut one digit later":           {e.TimeStamp + "1", "800000000"},
	} {
		if _, err := c.Open(e.MsgSignature, a[0], a[1], e.Encrypt); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPreviousTokenAndKeyStillOpen(t *testing.T) {
	rotated := newCodec(t, componentID, "newtoken", otherKey)
	rotated.Tokens = append(rotated.Tokens, secret.New(tokenText))
	rotated.Keys = append(rotated.Keys, mustKey(t, keyText))

	for _, token := range []string{"newtoken", tokenText} {
		for _, key := range []string{otherKey, keyText} {
			t.Run(fmt.Sprintf("token %s, key %s…", token, key[:3]), func(t *testing.T) {
				pair := newCodec(t, componentID, token, key)
				push := pair.Seal([]byte("hello"), now, nonce)
				m, err := rotated.Open(push.MsgSignature, push.TimeStamp, push.Nonce, push.Encrypt)
				if err != nil {
					t.Fatal(err)
				}
				if want := token == tokenText || key == keyText; m.Previous != want {
					t.Errorf("Previous is %t", m.Previous)
				}
				reply := m.Seal([]byte("answer"), now, nonce)
				got, err := pair.Open(reply.MsgSignature, reply.TimeStamp, reply.Nonce, reply.Encrypt)
				if err != nil {
					t.Fatalf("the reply is not sealed with what opened the message: %v", err)
				}
				if string(got.Plain) != "answer" {
					t.Errorf("reply reads %q", got.Plain)
				}
			})
		}
	}

	t.Run("a receive id that is wrong under the previous key is still named", func(t *testing.T) {
		push := newCodec(t, "wx5823bf96d3bd56c7", tokenText, keyText).Seal([]byte("hello"), now, nonce)
		m, err := rotated.Open(push.MsgSignature, push.TimeStamp, push.Nonce, push.Encrypt)
		wantRefused(t, m, err, bizmsg.ErrReceiveID)
	})
}

func TestSealIsNeverTheSameTwice(t *testing.T) {
	c := newCodec(t, componentID, tokenText, keyText)
	first, second := c.Seal([]byte("hello"), now, nonce), c.Seal([]byte("hello"), now, nonce)
	if first.Encrypt == second.Encrypt {
		t.Error("two seals of one text are equal: no randomness")
	}
}

func TestAppendingToPlainLeavesTheMessageAlone(t *testing.T) {
	c := newCodec(t, componentID, tokenText, keyText)
	e := c.Seal([]byte("hello"), now, nonce)
	m, err := c.Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt)
	if err != nil {
		t.Fatal(err)
	}
	if cap(m.Plain) != len(m.Plain) {
		t.Error("Plain reaches into the receive id and the padding")
	}
}

func TestParseKey(t *testing.T) {
	cases := map[string]struct{ text, want string }{
		"43 letters and digits":           {keyText, ""},
		"all spare bits zero":             {strings.Repeat("A", 43), ""},
		"42 characters":                   {keyText[1:], "EncodingAESKey has 42 characters, want 43"},
		"a trailing =":                    {keyText + "=", "EncodingAESKey has 44 characters, want 43"},
		"none":                            {"", "EncodingAESKey has 0 characters, want 43"},
		"43 characters in more bytes":     {strings.Repeat("钥", 43), "character 1 of EncodingAESKey is not a letter or digit"},
		"base64, but not a letter":        {"abc+" + keyText[4:], "character 4 of EncodingAESKey is not a letter or digit"},
		"a line break, ignored by base64": {keyText[:42] + "\n", "character 43 of EncodingAESKey is not a letter or digit"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := bizmsg.ParseKey(secret.New(tc.text))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("error %q, want %q", got, tc.want)
			}
		})
	}
}

func TestKeysAndTokensDoNotPrint(t *testing.T) {
	c := newCodec(t, componentID, tokenText, strings.Repeat("A", 43)) // 32 zero bytes
	e := c.Seal([]byte("hello"), now, nonce)
	m, err := c.Open(e.MsgSignature, e.TimeStamp, e.Nonce, e.Encrypt)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		for _, value := range []any{c, *c, c.Keys[0], m, *m} {
			text := fmt.Sprintf(format, value)
			if strings.Contains(text, tokenText) || strings.Contains(text, "0 0 0 0") || strings.Contains(text, "00000000000000000000") {
				t.Errorf("%s of %T: %s", format, value, text)
			}
		}
	}
}
