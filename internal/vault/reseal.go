// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Parts is how many parts Reseal divides what is stored of a component into:
// one for each shard of authorizers, and before these one for all the rest.
const Parts = 1 + 256

// Resealed is what Reseal has done with one part.
type Resealed struct {
	Anew       int      // files that the current key seals now, and did not before
	Unreadable []string // storage keys of files that no key opens; they are left alone
}

// Reseal seals with the current key whatever another key of the ring has
// sealed in one part, 0 to Parts-1, of what is stored of a component. Otherwise
// a record is sealed anew only when it changes, and that of an account nobody
// calls for never does: without Reseal a previous key could never go.
//
// What was set aside because it did not open is put back if it opens now and
// its place is empty. That is so with an event that could not be delivered.
//
// Reseal may be repeated: what is done stays done, also when it fails.
func (v *Vault) Reseal(ctx context.Context, component string, part int) (Resealed, error) {
	var done Resealed
	files, err := v.part(ctx, component, part)
	if err != nil {
		return done, err
	}
	for _, file := range files {
		key := file
		if aside := setAside.FindStringSubmatch(file); aside != nil {
			key = aside[1]
		}
		lock := v.lockOf(component, key)
		if lock == nil {
			continue // a folder or a temporary file
		}
		b, err := v.box(component, key)
		if err != nil {
			return done, err
		}
		anew, err := v.reseal(ctx, b, file, lock)
		var unreadable *Unreadable
		switch {
		case errors.Is(err, ErrNotFound): // deleted since it was listed
		case errors.As(err, &unreadable) && file != key: // nothing has changed since it was set aside
		case errors.As(err, &unreadable):
			done.Unreadable = append(done.Unreadable, key)
		case err != nil:
			return done, err
		case anew:
			done.Anew++
		}
	}
	return done, nil
}

// setAside is a name that keepAside has given, around the one it was given for.
var setAside = regexp.MustCompile(`^(.+)\.unreadable-[0-9a-f]{8}$`)

// part lists the files of a part, among others that hold nothing sealed.
func (v *Vault) part(ctx context.Context, component string, part int) ([]string, error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	if part < 0 || part >= Parts {
		return nil, fmt.Errorf("resealing: there is no part %d", part)
	}
	folder := "wechat/" + component
	if part > 0 {
		return v.list(ctx, fmt.Sprintf("%s/authorizers/%02x", folder, part-1))
	}
	files := []string{folder + "/component.json", folder + "/ticket.json"}
	for _, queues := range []string{"/events", "/dead-events"} {
		found, err := v.list(ctx, folder+queues)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// locker waits for a lock.
type locker func(ctx context.Context) (unlock func() error, err error)

// lockOf returns the lock under which the file at key is changed, nil if no
// record, ticket or event has such a key.
func (v *Vault) lockOf(component, key string) locker {
	folder, name := path.Split(strings.TrimPrefix(key, "wechat/"+component+"/"))
	kind, below, _ := strings.Cut(strings.TrimSuffix(folder, "/"), "/")
	who := subject.Of(component, "")
	switch {
	case kind == "" && name == "ticket.json":
		return func(ctx context.Context) (func() error, error) {
			return v.lock(ctx, v.storage(), ticketLock(component), patience)
		}
	case kind == "authorizers":
		who = subject.Of(component, strings.TrimSuffix(name, ".json"))
	case kind == "events" || kind == "dead-events":
		q := Queue{Component: component, Client: below}
		if _, ok := q.parse(name, false); !ok || q.check() != nil {
			return nil
		}
		return func(ctx context.Context) (func() error, error) { return v.LockQueue(ctx, q) }
	}
	if want, err := recordKey(who); err != nil || want != key {
		return nil
	}
	return func(ctx context.Context) (func() error, error) { return v.Lock(ctx, who) }
}

// reseal seals what stands at file, which is b's key or where that was set
// aside, into b with the current key. It reports whether it had to: only then
// the lock is taken.
func (v *Vault) reseal(ctx context.Context, b box, file string, lock locker) (bool, error) {
	if _, key, err := b.openAt(ctx, file); err != nil || file == b.key && key == b.keys.current {
		return false, err
	}
	unlock, err := lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock() // a lock that cannot be released expires
	if file != b.key {
		if _, err := b.read(ctx); !errors.Is(err, ErrNotFound) {
			return false, err // something newer stands in its place
		}
	}
	plaintext, key, err := b.openAt(ctx, file)
	if err != nil || file == b.key && key == b.keys.current {
		return false, err
	}
	if err := b.seal(ctx, plaintext); err != nil || file == b.key {
		return err == nil, err
	}
	return true, box{storage: b.storage, keys: b.keys, key: file}.remove(ctx)
}
