// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// ClaimLife is how long a claim is found. For as long a push of WeChat's may be
// believed: its timestamp may be ten minutes in the past or in the future.
const ClaimLife = 20 * time.Minute

// claimSlot is the time whose claims are in one folder. The folder tells the age
// of all claims in it, so nothing needs to be opened to find the old ones.
const claimSlot = 10 * time.Minute

// Claim says that a node delivers a message, and later what came of it. Without it,
// another node, or the same one after a restart, would deliver a repetition of the
// message once more. It is written for deliveries that take long only.
type Claim struct {
	// Until is the end of the attempt. If there is no answer then, the node that
	// made the attempt has ended, and another may deliver.
	Until time.Time
	// Answered is when the delivery ended; zero while it is in progress.
	Answered time.Time
	// Taken are the targets that have taken the message, each with its client as
	// client/target. For all others it is in their queues.
	Taken []string
	// Reply is the passive reply, in clear text; nil if there is none.
	Reply []byte
}

// claimWire is the JSON of a Claim.
type claimWire struct {
	Until    time.Time `json:"until"`
	Answered time.Time `json:"answered,omitzero"`
	Taken    []string  `json:"taken,omitempty"`
	Reply    []byte    `json:"reply,omitempty"`
}

// ClaimKey names the claim of one message. It becomes the storage key.
type ClaimKey struct {
	Component string
	ID        string    // 32 hexadecimal digits
	Made      time.Time // when the claim was made first
}

// StoreClaim stores a claim in place of the one with the same key. It needs no
// lock: at most two nodes write one at the same time, and then both deliver the
// message. The error is ErrUnavailable, or that of an invalid name.
func (v *Vault) StoreClaim(ctx context.Context, key ClaimKey, c Claim) error {
	b, err := v.claimBox(key, ".json")
	if err != nil {
		return err
	}
	return store(ctx, b, claimWire{c.Until.UTC(), c.Answered.UTC(), c.Taken, c.Reply})
}

// FindClaim returns the claim for a message that was made during ClaimLife before
// now. It loads up to three files. A claim that does not open counts as none: it
// would be of no use to anybody. The error is ErrNotFound, ErrUnavailable, or that
// of an invalid name.
func (v *Vault) FindClaim(ctx context.Context, component, id string, now time.Time) (ClaimKey, Claim, error) {
	for made := now; ; made = made.Add(-claimSlot) {
		key := ClaimKey{component, id, made}
		b, err := v.claimBox(key, ".json")
		if err != nil {
			return ClaimKey{}, Claim{}, err
		}
		w, err := load[claimWire](ctx, b)
		if err == nil {
			return key, Claim(w), nil
		}
		if unreadable := new(Unreadable); !errors.Is(err, ErrNotFound) && !errors.As(err, &unreadable) {
			return ClaimKey{}, Claim{}, err
		}
		if now.Sub(made) >= ClaimLife {
			return ClaimKey{}, Claim{}, fmt.Errorf("finding the claim of a message: %w", ErrNotFound)
		}
	}
}

// MarkRepeated notes that a repetition of the message has come to another node than
// the one that has claimed it. WasRepeated tells that node. The mark is an empty
// object, not sealed. The errors of both are ErrUnavailable, or those of an invalid
// name.
func (v *Vault) MarkRepeated(ctx context.Context, key ClaimKey) error {
	b, err := v.claimBox(key, repeatedSuffix)
	if err != nil {
		return err
	}
	return b.write(ctx, b.key, []byte("{}"))
}

// WasRepeated reports whether MarkRepeated was called for the claim.
func (v *Vault) WasRepeated(ctx context.Context, key ClaimKey) (bool, error) {
	b, err := v.claimBox(key, repeatedSuffix)
	if err != nil {
		return false, err
	}
	_, err = b.read(ctx)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// repeatedSuffix ends the names of the marks of MarkRepeated.
const repeatedSuffix = ".repeated"

// RemoveClaim deletes a claim and its mark. It is no error if there is none.
// Otherwise the error is ErrUnavailable, or that of an invalid name.
func (v *Vault) RemoveClaim(ctx context.Context, key ClaimKey) error {
	for _, suffix := range []string{".json", repeatedSuffix} {
		b, err := v.claimBox(key, suffix)
		if err != nil {
			return err
		}
		if err := b.remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// SweepClaims deletes the claims of a component that are older than ClaimLife, and
// at most claimSlot longer. Every node does it; the nodes that made them may have
// ended. It lists one folder, and the error is ErrUnavailable, or that of an invalid
// appid.
func (v *Vault) SweepClaims(ctx context.Context, component string, now time.Time) error {
	if !subject.ValidAppID(component) {
		return errAppID(component)
	}
	keys, err := v.list(ctx, "wechat/"+component+claimsFolder[:len(claimsFolder)-1])
	if err != nil {
		return err
	}
	oldest := slotOf(now.Add(-ClaimLife))
	for _, key := range keys {
		slot, err := strconv.ParseInt(path.Base(path.Dir(key)), 10, 64)
		if err != nil || slot >= oldest || !claimName.MatchString(path.Base(key)) {
			continue // a folder, a temporary file, or not old enough
		}
		b, err := v.box(component, key)
		if err != nil {
			return err
		}
		if err := b.remove(ctx); err != nil {
			return err
		}
	}
	return nil
}

// claimsFolder is the folder of the claims below that of the component.
const claimsFolder = "/messages/"

// claimName is the form of the file names.
var claimName = regexp.MustCompile(`^([0-9a-f]{32})(\.json|\.repeated)$`)

// slotOf returns the number of the slot of a time.
func slotOf(t time.Time) int64 { return t.Unix() / int64(claimSlot/time.Second) }

// claimBox returns the box of a claim or of its mark, and checks the names.
func (v *Vault) claimBox(key ClaimKey, suffix string) (box, error) {
	if !subject.ValidAppID(key.Component) {
		return box{}, errAppID(key.Component)
	}
	if !claimName.MatchString(key.ID + suffix) {
		return box{}, fmt.Errorf("naming a claim: %.40q is not an id", key.ID)
	}
	return v.box(key.Component, "wechat/"+key.Component+claimsFolder+strconv.FormatInt(slotOf(key.Made), 10)+"/"+key.ID+suffix)
}
