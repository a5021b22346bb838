// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
	"github.com/caddy-wechat/caddy-wechat/internal/vault/vaulttest"
)

// A claim is found for as long as a push may be believed, whenever within a slot it was
// made, and by no other message or component.
func TestClaimIsFoundForTwentyMinutes(t *testing.T) {
	for _, made := range []time.Time{time.Unix(1_700_000_400, 0), time.Unix(1_700_000_399, 0), time.Unix(1_700_000_123, 0)} {
		v := open(t, new(vaulttest.Memory), key(1))
		want := vault.Claim{Until: made.Add(20 * time.Second).UTC(), Answered: made.Add(5 * time.Second).UTC(), Reply: []byte("reply")}
		if err := v.StoreClaim(t.Context(), vault.ClaimKey{Component: component, ID: eventID, Made: made}, want); err != nil {
			t.Fatal(err)
		}
		for _, later := range []time.Duration{0, time.Second, 9 * time.Minute, 10 * time.Minute, 20 * time.Minute} {
			_, got, err := v.FindClaim(t.Context(), component, eventID, made.Add(later))
			if err != nil || !got.Answered.Equal(want.Answered) || string(got.Reply) != "reply" {
				t.Errorf("made at %v, %v later: %+v, %v", made.Unix(), later, got, err)
			}
		}
		if _, _, err := v.FindClaim(t.Context(), component, eventID, made.Add(31*time.Minute)); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("31 minutes later: %v", err)
		}
		if _, _, err := v.FindClaim(t.Context(), component, strings.Repeat("0", 32), made); !errors.Is(err, vault.ErrNotFound) {
			t.Errorf("another message: %v", err)
		}
	}
}

// A claim is sealed; the mark of a repetition says nothing but that there was one.
func TestClaimIsSealed(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	claim := vault.ClaimKey{Component: component, ID: eventID, Made: time.Unix(1_700_000_000, 0)}
	if repeated, err := v.WasRepeated(t.Context(), claim); repeated || err != nil {
		t.Errorf("%v, %v", repeated, err)
	}
	err := errors.Join(v.StoreClaim(t.Context(), claim, vault.Claim{Reply: []byte("what nobody may read")}), v.MarkRepeated(t.Context(), claim))
	if err != nil {
		t.Fatal(err)
	}
	if repeated, err := v.WasRepeated(t.Context(), claim); !repeated || err != nil {
		t.Errorf("%v, %v", repeated, err)
	}
	for key, file := range memory.Files() {
		if strings.Contains(string(file), "nobody") || strings.HasSuffix(key, ".repeated") && string(file) != "{}" {
			t.Errorf("%s is %s", key, file)
		}
	}
	if err := v.RemoveClaim(t.Context(), claim); err != nil || len(memory.Files()) != 0 {
		t.Errorf("%v, left is %v", err, memory.Files())
	}
}

// A sweep deletes what nobody finds any more, and nothing else.
func TestSweepDeletesOldClaims(t *testing.T) {
	memory := new(vaulttest.Memory)
	v := open(t, memory, key(1))
	now := time.Unix(1_700_000_000, 0)
	for age := range 60 {
		claim := vault.ClaimKey{Component: component, ID: strings.Repeat("0", 30) + string(rune('0'+age/10)) + string(rune('0'+age%10)), Made: now.Add(-time.Duration(age) * time.Minute)}
		if err := errors.Join(v.StoreClaim(t.Context(), claim, vault.Claim{}), v.MarkRepeated(t.Context(), claim)); err != nil {
			t.Fatal(err)
		}
	}
	memory.Put("wechat/"+component+"/messages/1/foreign", []byte("x"))
	if err := v.SweepClaims(t.Context(), component, now); err != nil {
		t.Fatal(err)
	}
	var oldest int
	for age := range 60 {
		id := strings.Repeat("0", 30) + string(rune('0'+age/10)) + string(rune('0'+age%10))
		_, _, err := v.FindClaim(t.Context(), component, id, now.Add(-time.Duration(age)*time.Minute))
		if err == nil {
			oldest = age
		} else if age <= 20 {
			t.Errorf("one of %d minutes is gone: %v", age, err)
		}
	}
	if oldest > 31 {
		t.Errorf("one of %d minutes is left", oldest)
	}
	if _, there := memory.Files()["wechat/"+component+"/messages/1/foreign"]; !there {
		t.Error("a file that is no claim was deleted")
	}
}
