// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// EventKey names one event in a queue. It becomes the storage key, so it can be
// read without opening the event.
type EventKey struct {
	Queue
	// Arrived is when the event came, in Unix microseconds; the queue is in this
	// order. In a flat queue, see [Queue], it is the CreateTime in Unix seconds.
	Arrived int64
	AppID   string // the account that the event is about, or else the component
	ID      string // 32 hexadecimal digits, equal whenever WeChat pushes the same
	Dead    bool   // a dead letter: given up, kept for operators
}

// Event is what waits for delivery to one target, or a dead letter: a message,
// an authorisation event, or news of the gateway's own.
type Event struct {
	EventKey
	Kind       string // a delivery.Kind; "" in events of the release before
	InfoType   string
	ToUserName string
	OpenID     string
	CodeIn     string    // the element in which WeChat's event had a code; "" for none
	Body       []byte    // the text that is delivered; contains no credential
	Queued     time.Time // the time until it is given up counts from here
	Attempts   int       // number of failed attempts
	Due        time.Time // the next attempt is not made before
	NotBefore  time.Time // nor is it made before this, for any reason: the application has asked for it
	Failure    string    // why the last attempt failed
	Died       time.Time // when it became a dead letter
}

// Enqueue stores e. It needs no lock, and reads nothing: each event has a key of
// its own. The error is ErrUnavailable, or that of an invalid name.
func (v *Vault) Enqueue(ctx context.Context, e Event) error {
	return v.StoreEvent(ctx, e)
}

// Events returns the keys of all events in a queue, or if dead of all dead
// letters, in the order of their arrival. It reads no events and needs no lock.
// The error is ErrUnavailable, or that of an invalid name.
func (v *Vault) Events(ctx context.Context, q Queue, dead bool) ([]EventKey, error) {
	folder, err := q.folder(dead)
	if err != nil {
		return nil, err
	}
	files, err := v.children(ctx, folder)
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

// BuryEvent moves an event to the dead letters of its queue. The dead letter is
// stored before the event is deleted: a crash in between leaves both, and never
// loses the event. After an error the event may be at either place or at both;
// the call may be repeated. The caller must hold the queue's lock.
func (v *Vault) BuryEvent(ctx context.Context, e Event) error {
	buried := e
	buried.Dead = true
	if err := v.StoreEvent(ctx, buried); err != nil {
		return err
	}
	return v.RemoveEvent(ctx, e.EventKey)
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
	name := key.Name()
	if parsed, ok := key.parse(name, key.Dead); !ok || parsed != key {
		return box{}, fmt.Errorf("naming an event: %.40q at %d is not possible", key.ID, key.Arrived)
	}
	return v.box(key.Component, folder+"/"+name)
}

// Name returns the file name of the event, which says when it arrived, so names
// are in the order of the queue.
func (k EventKey) Name() string {
	return fmt.Sprintf("%0*d-%s-%s.json", k.digits(), k.Arrived, k.AppID, k.ID)
}

// Time returns when the event arrived.
func (k EventKey) Time() time.Time {
	if k.Target == "" {
		return time.Unix(k.Arrived, 0)
	}
	return time.UnixMicro(k.Arrived)
}

// HasFile reports whether a file with this name can be in the queue.
func (q Queue) HasFile(name string) bool {
	_, ok := q.parse(name, false)
	return ok && q.check() == nil
}

// eventName is the form of the file names. The number has leading zeros, so that
// names in alphabetical order are in order of time.
var eventName = regexp.MustCompile(`^([0-9]{10}|[0-9]{16})-wx[0-9a-f]{16}-[0-9a-f]{32}\.json$`)

// parse returns the EventKey that eventBox has made a file name of. It reports
// false for any other name, such as that of a temporary file.
func (q Queue) parse(name string, dead bool) (EventKey, bool) {
	if !eventName.MatchString(name) {
		return EventKey{}, false
	}
	number, rest, _ := strings.Cut(strings.TrimSuffix(name, ".json"), "-")
	appID, id, _ := strings.Cut(rest, "-")
	arrived, err := strconv.ParseInt(number, 10, 64)
	return EventKey{Queue: q, Arrived: arrived, AppID: appID, ID: id, Dead: dead}, err == nil && len(number) == q.digits()
}
