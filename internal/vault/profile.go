// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Profile is what WeChat tells of an account that has authorised the component. It
// holds no credential.
type Profile struct {
	UserName  string // gh_…, the ToUserName of the account's messages
	Name      string // as followers see it
	Principal string // the company behind it
	Kind      string // official_account, mini_program, shop or other
	Functions []int  // ids of the permission sets granted
	// Learned is when WeChat was asked, by the clock of the node that asked.
	Learned time.Time
}

// profileWire is the JSON of a Profile.
type profileWire struct {
	UserName  string    `json:"user_name,omitempty"`
	Name      string    `json:"name,omitempty"`
	Principal string    `json:"principal,omitempty"`
	Kind      string    `json:"kind,omitempty"`
	Functions []int     `json:"functions,omitempty"`
	Learned   time.Time `json:"learned"`
}

// LoadProfile returns the profile of an authorizer. It needs no lock. Its errors are
// those of Load.
func (v *Vault) LoadProfile(ctx context.Context, s subject.Subject) (Profile, error) {
	b, err := v.profileBox(s)
	if err != nil {
		return Profile{}, err
	}
	w, err := load[profileWire](ctx, b)
	return Profile(w), err
}

// StoreProfile stores a profile in place of the one that is stored. The caller must
// hold the lock of LockProfile. A file that does not open is kept aside first; but
// that of a newer release is left alone, and the error is an *Unreadable with ErrNewer.
// Otherwise the error is ErrUnavailable, or that of an invalid appid.
func (v *Vault) StoreProfile(ctx context.Context, s subject.Subject, p Profile) error {
	b, err := v.profileBox(s)
	if err != nil {
		return err
	}
	_, err = load[profileWire](ctx, b)
	unreadable := new(Unreadable)
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
	case errors.As(err, &unreadable) && !errors.Is(err, ErrNewer):
		if err := b.keepAside(ctx); err != nil {
			return err
		}
	default:
		return err
	}
	p.Learned = p.Learned.UTC()
	return store(ctx, b, profileWire(p))
}

// LockProfile takes the lock of the profile of s, as Lock does. It is not the lock of
// the record: that is held while a token is renewed.
func (v *Vault) LockProfile(ctx context.Context, s subject.Subject) (unlock func() error, err error) {
	name, err := recordLock(s)
	if err != nil {
		return nil, err
	}
	return v.lock(ctx, v.storage(), name+"_profile", patience+rand.N(spread))
}

func (v *Vault) profileBox(s subject.Subject) (box, error) {
	key, err := profileKey(s)
	if err != nil {
		return box{}, err
	}
	return v.box(s.Component(), key)
}

// profileKey returns the storage key of the profile of s. A component has none.
func profileKey(s subject.Subject) (string, error) {
	if !subject.ValidAppID(s.Authorizer()) {
		return "", errAppID(s.Authorizer())
	}
	if err := check(s); err != nil {
		return "", err
	}
	return shardKey(s, "profiles"), nil
}
