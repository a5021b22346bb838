// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/gwtoken"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// maxDead is the number of dead letters that are kept for one client, those
// with the latest CreateTime. A client that fails for weeks must not fill the
// storage.
const maxDead = 1000

// Queue names the queue of the events of one component, a component_appid, for
// one client, which has this name in the configuration.
type Queue struct {
	Component, Client, Target string
}

// EventKey names one event in a queue. It becomes the storage key, so it can be
// read without opening the event.
type EventKey struct {
	Queue
	CreateTime uint32 // Unix seconds, 0 if WeChat gave none; the queue is sorted by it
	AppID      string // the account that the event is about, or else the component
	ID         string // 32 hexadecimal digits, equal whenever WeChat pushes the same event
	Dead       bool   // a dead letter: given up, kept for operators
}

// Event is an authorisation event that waits for delivery to one client, or a
// dead letter.
type Event struct {
	EventKey
	InfoType string
	Body     []byte    // the XML that is delivered; contains no credential
	Queued   time.Time // when the push arrived; delivery.giveUpAfter counts from here
	Attempts int       // number of failed attempts
	Due      time.Time // the next attempt is not made before
	Failure  string    // why the last attempt failed
}

// Enqueue stores e if the queue does not contain it. If it does, Enqueue does
// nothing and returns nil: WeChat repeats its pushes, and a repetition must not
// reset the number of attempts. A file with the same key that does not open is
// copied to another name and replaced. Enqueue needs no lock. If it meets a
// delivery of the same event, the event may be delivered once more.
//
// The error is ErrUnavailable, or that of an invalid name.
func (v *Vault) Enqueue(ctx context.Context, e Event) error {
	b, err := v.eventBox(e.EventKey)
	if err != nil {
		return err
	}
	if there, err := loadOrKeepAside[eventWire](ctx, b); err != nil || !there.Queued.IsZero() {
		return err
	}
	return store(ctx, b, newEventWire(e))
}

// Events returns the keys of all events in a queue, or if dead of all dead
// letters, sorted by CreateTime. It reads no events and needs no lock. The
// error is ErrUnavailable, or that of an invalid name.
func (v *Vault) Events(ctx context.Context, q Queue, dead bool) ([]EventKey, error) {
	folder, err := q.folder(dead)
	if err != nil {
		return nil, err
	}
	files, err := v.list(ctx, folder)
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var keys []EventKey
	for _, file := range slices.Compact(files) {
		if key, ok := q.parse(path.Base(file), dead); ok && file == folder+"/"+path.Base(file) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// LoadEvent returns one event. It needs no lock; but only the owner of the
// queue's lock can be sure that the event stays as it is. Its errors are those
// of Load.
func (v *Vault) LoadEvent(ctx context.Context, key EventKey) (Event, error) {
	b, err := v.eventBox(key)
	if err != nil {
		return Event{}, err
	}
	w, err := load[eventWire](ctx, b)
	if err != nil {
		return Event{}, err
	}
	return w.event(key), nil
}

// StoreEvent stores e in place of the event with the same key. It does not read
// the old one. The caller must hold the queue's lock.
func (v *Vault) StoreEvent(ctx context.Context, e Event) error {
	b, err := v.eventBox(e.EventKey)
	if err != nil {
		return err
	}
	return store(ctx, b, newEventWire(e))
}

// RemoveEvent deletes an event or a dead letter. It is no error if there is
// none. The caller must hold the queue's lock.
func (v *Vault) RemoveEvent(ctx context.Context, key EventKey) error {
	b, err := v.eventBox(key)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// BuryEvent moves an event to the dead letters of its client, and deletes the
// oldest dead letters if there are more than maxDead. The dead letter is stored
// before the event is deleted: a crash in between leaves both, and never loses
// the event. After an error the event may be at either place or at both; the
// call may be repeated. The caller must hold the queue's lock.
func (v *Vault) BuryEvent(ctx context.Context, e Event) error {
	buried := e
	buried.Dead = true
	if err := v.StoreEvent(ctx, buried); err != nil {
		return err
	}
	if err := v.RemoveEvent(ctx, e.EventKey); err != nil {
		return err
	}
	dead, err := v.Events(ctx, e.Queue, true)
	for ; err == nil && len(dead) > maxDead; dead = dead[1:] {
		err = v.RemoveEvent(ctx, dead[0])
	}
	return err
}

// SetEventAside removes an event that does not open from the queue, so that the
// events after it can be delivered. Its file stays in the storage under another
// name, see keepAside, which Events does not return. Reseal restores it when
// its key is configured. The caller must hold the queue's lock.
func (v *Vault) SetEventAside(ctx context.Context, key EventKey) error {
	b, err := v.eventBox(key)
	if err != nil {
		return err
	}
	if err := b.keepAside(ctx); err != nil {
		return err
	}
	return b.remove(ctx)
}

// LockQueue takes the lock of a queue and of its dead letters. Only its owner
// may deliver events from the queue and change them; so one node at a time
// delivers. It waits like Lock, but breaks the lock only after queuePatience,
// or three quarters of the time that ctx leaves. If a lock is lost while its
// owner delivers, an event may be delivered twice. unlock is that of Lock.
func (v *Vault) LockQueue(ctx context.Context, q Queue) (unlock func() error, err error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	return v.lock(ctx, v.storage(), q.lock(), queuePatience)
}

// lock returns the name of the queue's lock.
func (q Queue) lock() string { return "wechat_" + q.Component + "_events_" + q.Client }

// eventBox returns the box of an event. It rejects a key that parse would not
// read back exactly: such an event would be stored and never found.
func (v *Vault) eventBox(key EventKey) (box, error) {
	folder, err := key.folder(key.Dead)
	if err != nil {
		return box{}, err
	}
	if !subject.ValidAppID(key.AppID) {
		return box{}, errAppID(key.AppID)
	}
	name := fmt.Sprintf("%010d-%s-%s.json", key.CreateTime, key.AppID, key.ID)
	if parsed, ok := key.parse(name, key.Dead); !ok || parsed != key {
		return box{}, fmt.Errorf("naming an event: %.40q is not an id", key.ID)
	}
	return v.box(key.Component, folder+"/"+name)
}

// eventName is the form of the file names. The CreateTime has ten digits with
// leading zeros, so that names in alphabetical order are in order of time.
var eventName = regexp.MustCompile(`^[0-9]{10}-wx[0-9a-f]{16}-[0-9a-f]{32}\.json$`)

// parse returns the EventKey that eventBox has made a file name of. It reports
// false for any other name, such as that of a temporary file.
func (q Queue) parse(name string, dead bool) (EventKey, bool) {
	if !eventName.MatchString(name) {
		return EventKey{}, false
	}
	part := strings.Split(strings.TrimSuffix(name, ".json"), "-")
	created, err := strconv.ParseUint(part[0], 10, 32)
	return EventKey{Queue: q, CreateTime: uint32(created), AppID: part[1], ID: part[2], Dead: dead}, err == nil
}

// folder returns the storage folder of the queue or of its dead letters.
func (q Queue) folder(dead bool) (string, error) {
	if err := q.check(); err != nil {
		return "", err
	}
	if dead {
		return "wechat/" + q.Component + "/dead-events/" + q.Client, nil
	}
	return "wechat/" + q.Component + "/events/" + q.Client, nil
}

// check returns an error unless both names are valid. An invalid one could be a
// path to a file outside the queue's folder.
func (q Queue) check() error {
	if !subject.ValidAppID(q.Component) {
		return errAppID(q.Component)
	}
	if !gwtoken.ValidClient(q.Client) {
		return errors.New("naming a queue: not the name of a client")
	}
	return nil
}
