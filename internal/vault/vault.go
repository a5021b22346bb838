// SPDX-License-Identifier: Apache-2.0

// Package vault stores what must survive a restart, in a storage that all nodes
// of a cluster share: the records of components and authorizers, their
// profiles, why accounts are not authorized, the tickets, the codes of publish tests, the
// claims of messages, and the
// messages and events that wait for delivery to clients. All of these are sealed,
// which means encrypted and authenticated. The marks of pending codes and of repeated
// messages and the notices for other nodes are not sealed: their files are empty
// objects, only their names carry information. Nor is states/index, which tells how often
// all records were compared with the index of the standings.
//
// Only this package knows the storage keys:
//
//	wechat/<component_appid>/ticket.json
//	wechat/<component_appid>/component.json
//	wechat/<component_appid>/authorizers/<shard>/<authorizer_appid>.json
//	wechat/<component_appid>/profiles/<shard>/<authorizer_appid>.json
//	wechat/<component_appid>/pending/<authorizer_appid>
//	wechat/<component_appid>/states/<standing>/<authorizer_appid>, and states/index
//	wechat/<component_appid>/news/<authorizer_appid>-<id>
//	wechat/<component_appid>/publish-test/<received>-<id>.json
//	wechat/<component_appid>/messages/<slot>/<id>.json, and .repeated
//	wechat/<component_appid>/events/<client>/<target>/<arrival>-<appid>-<id>.json
//	wechat/<component_appid>/dead-events/<client>/<target>/<arrival>-<appid>-<id>.json
//	wechat/doctor/<id>, for a moment, see [Vault.Probe]
//
// The shard is the last two digits of the authorizer_appid: a folder with a
// hundred thousand files is slow on some file systems. The arrival is in Unix
// microseconds. The release before kept events as
// events/<client>/<create_time>-<appid>-<id>.json, and dead-events alike: these
// are still read, and moved, see [Queue]. A file that does not
// open is copied to <key>.unreadable-<digest> before it is replaced, see
// keepAside.
//
// Only this package knows the names of the storage locks, too:
//
//	wechat_<component_appid>_component             the component's record
//	wechat_<component_appid>_<authorizer_appid>    an authorizer's record and mark
//	wechat_<component_appid>_<authorizer_appid>_profile   an authorizer's profile
//	wechat_<component_appid>_ticket                the ticket
//	wechat_<component_appid>_publish-test_<id>     the publish tests of one message
//	wechat_<component_appid>_events_<client>_<target>   a queue, with its dead letters
//	wechat_<component_appid>_events_<client>       the same of the release before
//	wechat_doctor_<id>                             nothing, see [Vault.Probe]
//
// A sealed file contains
//
//	{"schema":1,"key":"3f0c9a51e2b7d684","box":"<base64>"}
//
// The member key is the id of the seal key. The member box is a random nonce
// and the JSON of the record, encrypted with AES-256-GCM. The storage key is
// the additional data, so a record does not open under another name. Somebody
// who can write to the storage cannot give one account the tokens of another by
// copying a file. The JSON inside, with times in UTC and without empty members,
// is one of
//
//	{"generation":7,"token":"…","obtained":"2026-11-22T12:00:00Z","expires":"2026-11-22T14:00:00Z",
//	 "refresh":"…","state":"authorized","event_time":"2026-11-22T11:59:58Z","code":"…",
//	 "code_expires":"2026-11-22T12:59:58Z","functions":[1,2]}
//
//	{"user_name":"gh_…","name":"…","principal":"…","kind":"official_account","functions":[1,2],
//	 "learned":"2026-11-22T12:00:00Z"}
//
//	{"since":"2026-11-22T12:00:00Z","slug":"refused","errcode":61004,"rid":"…","text":"…","remedy":"…"}
//
//	{"value":"…","create_time":"2026-11-22T12:00:00Z","received":"2026-11-22T12:00:01Z","asked":"2026-11-22T11:50:00Z"}
//
//	{"kind":"message","info_type":"","to_user_name":"gh_…","openid":"…","code_in":"…","body":"<base64>",
//	 "queued":"2026-11-22T12:00:00Z","attempts":2,"due":"2026-11-22T12:00:07Z",
//	 "not_before":"2026-11-22T12:00:05Z","failure":"…","died":"2026-11-25T12:00:00Z"}
//
//	{"appid":"wx…","openid":"…","code":"…"}
//
//	{"until":"2026-11-22T12:00:23Z","answered":"2026-11-22T12:00:07Z","taken":["shop/main"],"reply":"<base64>"}
//
// The vault keeps no records in memory. It logs nothing: its errors contain
// what the caller needs for the log, and nothing of the records. Its methods
// wait for the storage as long as that takes; the context ends the waiting only
// if the storage obeys it. The methods that take a lock also wait until the
// lock is free, see [Vault.Lock].
package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Storage is the part of certmagic.Storage that the vault uses. It must be safe
// for concurrent use. The error fs.ErrNotExist means that there is no such key,
// folder or lock. After any other error nobody knows what the storage contains.
// Not every storage obeys the context, so the vault checks it before each
// operation.
type Storage interface {
	// Lock waits until the lock is free and takes it. It must release the locks
	// of a process that has ended, after some seconds.
	Lock(ctx context.Context, name string) error
	// Unlock releases a lock. The vault also calls it for a lock that another
	// owner does not release. A storage may return an error then.
	Unlock(ctx context.Context, name string) error
	// Store writes the whole value. A Load at the same time must return the old
	// value or the new one, because the vault reads without a lock.
	Store(ctx context.Context, key string, value []byte) error
	// Load returns the whole value. The vault does not change it.
	Load(ctx context.Context, key string) ([]byte, error)
	// Delete deletes a key. If there is none, it may return fs.ErrNotExist or
	// nil.
	Delete(ctx context.Context, key string) error
	// List returns the keys below path, in any order. It may return folders and
	// temporary files as well. If there is no such path, it may return
	// fs.ErrNotExist or nothing.
	List(ctx context.Context, path string, recursive bool) ([]string, error)
}

var (
	// ErrNotFound means that the storage has answered, and that it contains no
	// such record.
	ErrNotFound = errors.New("no such record")

	// ErrUnavailable means that nobody knows what the storage contains: the
	// storage failed, the context ended, or the component has no keyring. It
	// never means that there is no record: a caller that took it for that would
	// replace a record that still exists. The cause is wrapped as well.
	ErrUnavailable = errors.New("vault unavailable")

	// ErrNoKeys is the cause of ErrUnavailable where the component is not
	// configured.
	ErrNoKeys = errors.New("the component has no seal key")
)

// Unreadable means that there is a file with the key of the record, but that it
// does not open. It was sealed with an unknown key, damaged, moved from another
// name, or written by a newer release. Store, StoreTicket and Enqueue copy such
// a file to another name before they replace it, so that it can still be read
// when the right key is configured.
type Unreadable struct {
	Key string // the storage key
	Err error  // the reason, such as ErrOtherKey; never quotes the contents
}

// Error returns the storage key and the reason. The text contains no secret.
func (u *Unreadable) Error() string { return fmt.Sprintf("reading %s: %v", u.Key, u.Err) }

// Unwrap returns the reason, for errors.Is with ErrOtherKey and ErrNewer.
func (u *Unreadable) Unwrap() error { return u.Err }

// Vault reads and writes records, tickets and events. It is safe for concurrent
// use; it has no fields that change, except for turns, which has its own mutex.
type Vault struct {
	// Broken, if it is not nil, is called with the name of a lock that was
	// taken from its owner, see Lock. It is called from any goroutine, also
	// from several at the same time. It must be set before the Vault is used.
	Broken func(lock string)

	// Changed, if it is not nil, is called after the standing of an account has
	// changed, after its first record was stored, and after it was removed. The caller
	// of Store or Remove holds the lock of the account meanwhile, so Changed must not
	// wait. It is called from any goroutine, also from several at the same time. It must
	// be set before the Vault is used.
	Changed func(Change)

	storage func() Storage
	keys    func(component string) *Keyring
	turns   turns
}

// New returns a Vault. It calls storage and keys again for each operation, so
// that both may be replaced while the Vault is in use. Both functions must be
// safe for concurrent use and must not block. keys returns the keyring of a
// component, or nil if the component is not configured; its records are then
// ErrUnavailable.
func New(storage func() Storage, keys func(component string) *Keyring) *Vault {
	return &Vault{storage: storage, keys: keys}
}

// Load returns the record of s. It needs no lock. Its errors are ErrNotFound,
// ErrUnavailable, an *Unreadable, and for an invalid appid another error;
// errors.Is and errors.As distinguish them. With an error the record is zero.
func (v *Vault) Load(ctx context.Context, s subject.Subject) (Record, error) {
	b, err := v.recordBox(s)
	if err != nil {
		return Record{}, err
	}
	w, err := load[recordWire](ctx, b)
	return w.record(), err
}

// Store merges r with the stored record, as Merge decides, stores the result
// and returns it. The caller must hold the lock of s. Normally r is what Load
// has returned under that lock, with changes; its generation tells Merge which
// stored record the caller has read. Store writes the whole record. Where it changes
// the standing of an account, it keeps the index of the standings as well, with r.Note;
// without that note the record is not stored.
//
// The error is ErrUnavailable, or that of an invalid appid. After an error the
// old record is still stored, unless the storage has written the new one and
// failed afterwards.
func (v *Vault) Store(ctx context.Context, s subject.Subject, r Record) (Record, error) {
	b, err := v.recordBox(s)
	if err != nil {
		return Record{}, err
	}
	old, err := loadOrKeepAside[recordWire](ctx, b)
	if err != nil {
		return Record{}, err
	}
	before := old.record()
	merged := Merge(before, r)
	if merged.Standing() != r.Standing() {
		r.Note = Note{} // another writer's standing is stored, which has another cause
	}
	if err := v.storeStanding(ctx, s, b, before, merged, r.Note); err != nil {
		return Record{}, err
	}
	return merged, nil
}

// LoadTicket returns the ticket of a component. It needs no lock. Its errors
// are those of Load.
func (v *Vault) LoadTicket(ctx context.Context, component string) (Ticket, error) {
	b, err := v.ticketBox(component)
	if err != nil {
		return Ticket{}, err
	}
	w, err := load[ticketWire](ctx, b)
	return w.ticket(), err
}

// StoreTicket merges t with the stored ticket, as MergeTicket decides, stores
// the result and returns it. Its errors are those of Store. The caller may hold
// the component's lock, but need not.
//
// StoreTicket takes a lock of its own, for the few milliseconds that it needs.
// The component's lock is not suitable: a node holds it while it waits for a
// token from WeChat, but a push must be acknowledged within five seconds.
//
// After ticketPatience the ticket is stored without the lock. If another node
// writes at that moment, one of the two writes may be lost: the ticket, or the
// time when WeChat was asked. Both are acceptable, because WeChat pushes a
// ticket every ten minutes and the previous one is valid for twelve hours.
func (v *Vault) StoreTicket(ctx context.Context, component string, t Ticket) (Ticket, error) {
	b, err := v.ticketBox(component)
	if err != nil {
		return Ticket{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, ticketPatience)
	defer cancel()
	if unlock, err := v.lock(waiting, b.storage, ticketLock(component), patience); err == nil {
		defer unlock() // the ticket is stored, also if the lock must expire by itself
	}
	old, err := loadOrKeepAside[ticketWire](ctx, b)
	if err != nil {
		return Ticket{}, err
	}
	merged := MergeTicket(old.ticket(), t)
	if err := store(ctx, b, newTicketWire(merged)); err != nil {
		return Ticket{}, err
	}
	return merged, nil
}

// unavailable returns an error that wraps ErrUnavailable and cause. If cause is
// fs.ErrNotExist, only its text is used. Otherwise a caller could take a
// failure of the storage for "there is no record".
func unavailable(doing, name string, cause error) error {
	if errors.Is(cause, fs.ErrNotExist) {
		return fmt.Errorf("%s %s: %w: %v", doing, name, ErrUnavailable, cause)
	}
	return fmt.Errorf("%s %s: %w: %w", doing, name, ErrUnavailable, cause)
}
