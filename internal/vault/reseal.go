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

// Parts is the number of parts into which Reseal divides the files of a
// component. Part 0 has the component's record, the ticket, what waits in queues, the
// dead letters, the claims of messages, the publish tests and the notes of the standings. Each of the other 256 parts
// has one shard of authorizers, with their profiles.
const Parts = 1 + 256

// Resealed is the result of Reseal for one part.
type Resealed struct {
	Anew       int      // number of files that were sealed with the current key
	Unreadable []string // storage keys of files that no key opens; they are not changed
}

// Reseal seals the files in one part (0 to Parts-1) of a component with the
// current key, if another key of the keyring has sealed them. Without Reseal a
// record is sealed with the current key only when it changes. The record of an
// account for which nobody calls never changes, so the previous key could never
// be removed from the configuration.
//
// A file that was copied to another name because it did not open, see
// keepAside, is restored if it opens now and there is no file with its own key.
// Such files are normally events that SetEventAside has removed; a record that
// did not open has been replaced.
//
// It also completes the index of the standings, where a record of the release before is in
// none.
//
// Reseal takes the lock of each file that it changes, one after the other, and
// waits for it as Lock and LockQueue do. The caller must hold none of them. An
// error ends it: ErrUnavailable, or that of an invalid appid or part. The
// result then tells what was done before, and that stays done. Reseal may be
// repeated.
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
			continue // a folder, a temporary file or a file that is not sealed
		}
		b, err := v.box(component, key)
		if err != nil {
			return done, err
		}
		anew, err := v.reseal(ctx, b, file, lock)
		var unreadable *Unreadable
		switch {
		case errors.Is(err, ErrNotFound): // deleted after it was listed
		case errors.As(err, &unreadable) && file != key: // it did not open before either
		case errors.As(err, &unreadable):
			done.Unreadable = append(done.Unreadable, key)
		case err != nil:
			return done, err
		case anew:
			done.Anew++
		}
		if err := v.ensureIndexed(ctx, component, key); err != nil {
			return done, err
		}
	}
	return done, nil
}

// ensureIndexed brings the account whose record is at key into the index of its standing,
// if it is not authorized and not in it: nodes of the release before store its record
// without. It does nothing for other keys, nor for a record that does not open.
func (v *Vault) ensureIndexed(ctx context.Context, component, key string) error {
	who := subject.Of(component, strings.TrimSuffix(path.Base(key), ".json"))
	if want, err := recordKey(who); err != nil || want != key || who.IsComponent() {
		return nil
	}
	record, err := v.Load(ctx, who)
	if err == nil && record.Standing() != Stands {
		if _, err = v.LoadNote(ctx, who, record.Standing()); errors.Is(err, ErrNotFound) {
			_, err = v.Repair(ctx, who, record, Stands)
		}
	}
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return nil
}

// setAside is the form of the names that keepAside gives; its group is the
// storage key of the original.
var setAside = regexp.MustCompile(`^(.+)\.unreadable-[0-9a-f]{8}$`)

// part returns the storage keys of the files in a part, sealed or not, in any
// order. Not all of them need exist.
func (v *Vault) part(ctx context.Context, component string, part int) ([]string, error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	if part < 0 || part >= Parts {
		return nil, fmt.Errorf("resealing: there is no part %d", part)
	}
	folder := "wechat/" + component
	files, folders := []string{folder + "/component.json", folder + "/ticket.json"}, []string{"/events", "/dead-events", "/messages", "/publish-test", "/states"}
	if part > 0 {
		shard := fmt.Sprintf("/%02x", part-1)
		files, folders = nil, []string{"/authorizers" + shard, "/profiles" + shard}
	}
	for _, below := range folders {
		found, err := v.list(ctx, folder+below)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return files, nil
}

// locker takes a certain lock, see Vault.Lock.
type locker func(ctx context.Context) (unlock func() error, err error)

// lockOf returns the lock that the owner of changes to the file at key must
// hold. It returns nil if key is not that of a record, a profile, a note, a ticket, an
// event, a claim or a publish test.
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
	case kind == "profiles":
		who = subject.Of(component, strings.TrimSuffix(name, ".json"))
		if want, err := profileKey(who); err != nil || want != key {
			return nil
		}
		return func(ctx context.Context) (func() error, error) { return v.LockProfile(ctx, who) }
	case kind == "states":
		who = subject.Of(component, name)
		if want, err := noteKey(who, Standing(below)); err != nil || want != key {
			return nil
		}
		return func(ctx context.Context) (func() error, error) { return v.Lock(ctx, who) }
	case kind == "events" || kind == "dead-events":
		client, target, _ := strings.Cut(below, "/")
		q := Queue{Component: component, Client: client, Target: target}
		if _, ok := q.parse(name, false); !ok || q.check() != nil {
			return nil
		}
		return func(ctx context.Context) (func() error, error) { return v.LockQueue(ctx, q) }
	case kind == "publish-test":
		test, ok := publishTestOf(component, name)
		if !ok {
			return nil
		}
		return func(ctx context.Context) (func() error, error) { return v.LockPublishTest(ctx, test) }
	case kind == "messages":
		if !claimName.MatchString(name) || strings.HasSuffix(name, repeatedSuffix) {
			return nil
		}
		// Its owner takes no lock: if both write it at the same time, a message may be
		// delivered twice.
		return func(context.Context) (func() error, error) { return func() error { return nil }, nil }
	}
	if want, err := recordKey(who); err != nil || want != key {
		return nil
	}
	return func(ctx context.Context) (func() error, error) { return v.Lock(ctx, who) }
}

// reseal opens file, which is b.key or a name that keepAside has given, seals
// the content with the current key, and writes it to b. It deletes file if that
// is not b.key. It reports whether it has changed something. It reads the file
// without the lock first, and takes the lock only if there is something to do.
// Under the lock it reads the file again, because another node may have changed
// it.
func (v *Vault) reseal(ctx context.Context, b box, file string, lock locker) (bool, error) {
	if _, key, err := b.openAt(ctx, file); err != nil || file == b.key && key == b.keys.current {
		return false, err
	}
	unlock, err := lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock() // if that fails, the lock expires by itself
	if file != b.key {
		if _, err := b.read(ctx); !errors.Is(err, ErrNotFound) {
			return false, err // there is a newer file with its key, or nobody knows
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
