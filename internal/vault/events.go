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

// maxDead is how many dead letters of one client are kept, the newest.
const maxDead = 1000

// Queue names the events of one component on their way to one client.
type Queue struct {
	Component, Client string
}

// EventKey names one event in a queue.
type EventKey struct {
	Queue
	CreateTime uint32 // Unix seconds, 0 if WeChat gave none; orders the queue
	AppID      string // the account the event is about, or the component itself
	ID         string // 32 hexadecimal digits; the same event has the same
	Dead       bool   // given up, kept for people
}

// Event is an authorisation event on its way to one client.
type Event struct {
	EventKey
	InfoType string
	Body     []byte    // what is delivered; holds no credential
	Queued   time.Time // when it came
	Attempts int       // that failed
	Due      time.Time // when the next one may be made
	Failure  string    // of the last attempt
}

// Enqueue stores e unless it is there already: WeChat repeats its pushes, and
// a repetition must not reset what is known of the attempts.
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

// Events returns what waits in a queue, or with dead what was given up, oldest
// first.
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

// LoadEvent returns one event, with errors as of Load.
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

// StoreEvent puts e in place of what stands. The caller holds the queue's lock.
func (v *Vault) StoreEvent(ctx context.Context, e Event) error {
	b, err := v.eventBox(e.EventKey)
	if err != nil {
		return err
	}
	return store(ctx, b, newEventWire(e))
}

// RemoveEvent deletes an event. That it is not there is no error.
func (v *Vault) RemoveEvent(ctx context.Context, key EventKey) error {
	b, err := v.eventBox(key)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// BuryEvent moves an event to the dead letters of its client, and deletes the
// oldest of these beyond a thousand. The caller holds the queue's lock.
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

// SetEventAside takes an event that does not open out of the queue. Its file
// stays beside, under a name that Events passes over.
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

// LockQueue waits until this caller alone may deliver from q, as Lock does.
func (v *Vault) LockQueue(ctx context.Context, q Queue) (unlock func() error, err error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	return v.lock(ctx, v.storage(), q.lock(), queuePatience)
}

func (q Queue) lock() string { return "wechat_" + q.Component + "_events_" + q.Client }

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

// eventName is a time with leading zeros, so that names sort by it.
var eventName = regexp.MustCompile(`^[0-9]{10}-wx[0-9a-f]{16}-[0-9a-f]{32}\.json$`)

// parse undoes the naming of eventBox; temporary files and the like are no events.
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

// check keeps names that are paths out of storage keys.
func (q Queue) check() error {
	if !subject.ValidAppID(q.Component) {
		return errAppID(q.Component)
	}
	if !gwtoken.ValidClient(q.Client) {
		return errors.New("naming a queue: not the name of a client")
	}
	return nil
}
