// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// vector is one of the official samples.
type vector struct {
	ID           string `json:"id"`
	Key          string `json:"encoding_aes_key"`
	Token        string `json:"token"`
	Timestamp    string `json:"timestamp"`
	Nonce        string `json:"nonce"`
	ReceiveID    string `json:"receive_id"`
	Random       string `json:"random16_hex"`
	Encrypt      string `json:"encrypt"`
	MsgSignature string `json:"msg_signature"`
	Signature    string `json:"signature"`
	Plaintext    string `json:"plaintext"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	data, err := os.ReadFile("../testdata/bizmsg-vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 6 {
		t.Fatalf("%d official vectors, want 6: none may go missing unseen", len(all))
	}
	return all
}

func TestOfficialVectorsSealAndOpen(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.ID, func(t *testing.T) {
			random16, err := hex.DecodeString(v.Random)
			if err != nil {
				t.Fatal(err)
			}
			box, err := seal(v.Key, random16, v.Plaintext, v.ReceiveID)
			if err != nil || box != v.Encrypt {
				t.Errorf("sealed to %q, %v", box, err)
			}
			msg, receiveID, err := open(v.Key, v.Encrypt)
			if err != nil || msg != v.Plaintext || receiveID != v.ReceiveID {
				t.Errorf("opened to %q for %q, %v", msg, receiveID, err)
			}
			if got := sign(v.Token, v.Timestamp, v.Nonce, v.Encrypt); got != v.MsgSignature {
				t.Errorf("msg_signature %s", got)
			}
			if got := sign(v.Token, v.Timestamp, v.Nonce); got != v.Signature {
				t.Errorf("signature %s", got)
			}
		})
	}
}

func TestPaddingReaches32AndEveryLengthReturns(t *testing.T) {
	for length := range 70 {
		msg := strings.Repeat("x", length)
		box, err := seal(DefaultEncodingAESKey, []byte("0123456789abcdef"), msg, DefaultComponent)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := base64.StdEncoding.DecodeString(box)
		if len(raw)%32 != 0 {
			t.Fatalf("length %d: sealed to %d bytes, not a multiple of 32", length, len(raw))
		}
		if got, id, err := open(DefaultEncodingAESKey, box); err != nil || got != msg || id != DefaultComponent {
			t.Fatalf("length %d: opened to %q for %q, %v", length, got, id, err)
		}
	}
}

func TestBrokenBoxesDoNotOpen(t *testing.T) {
	good := vectors(t)[0]
	otherKey := strings.Repeat("b", 43)
	for name, row := range map[string]struct{ key, box string }{
		"nothing":                     {good.Key, ""},
		"no base64":                   {good.Key, "%%%"},
		"not whole blocks":            {good.Key, good.Encrypt[:8]},
		"the key of another platform": {otherKey, good.Encrypt},
		"a malformed key":             {"short", good.Encrypt},
		"one block only":              {good.Key, good.Encrypt[:64]},
	} {
		if msg, _, err := open(row.key, row.box); err == nil || msg != "" {
			t.Errorf("%s: opened to %q, %v", name, msg, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.Key, v.Encrypt)
	}
	f.Fuzz(func(t *testing.T, key, box string) {
		msg, id, err := open(key, box)
		if err != nil && msg+id != "" {
			t.Error("plaintext escaped with an error")
		}
		if err != nil {
			return
		}
		again, err := seal(key, []byte("0123456789abcdef"), msg, id)
		if err != nil {
			t.Fatalf("opened but does not seal: %v", err)
		}
		if got, gotID, err := open(key, again); err != nil || got != msg || gotID != id {
			t.Errorf("came back as %q for %q, %v", got, gotID, err)
		}
	})
}
