// SPDX-License-Identifier: Apache-2.0

// Package vault keeps what must survive a restart, sealed, in a storage shared
// by every node: the records of components and authorizers, the tickets, and the
// events on their way to clients.
//
// It alone knows the storage keys:
//
//	wechat/<component_appid>/ticket.json
//	wechat/<component_appid>/component.json
//	wechat/<component_appid>/authorizers/<shard>/<authorizer_appid>.json
//	wechat/<component_appid>/pending/<authorizer_appid>
//	wechat/<component_appid>/news/<authorizer_appid>-<id>
//	wechat/<component_appid>/events/<client>/<create_time>-<appid>-<id>.json
//	wechat/<component_appid>/dead-events/<client>/<create_time>-<appid>-<id>.json
//
// The shard is the last two digits of the authorizer_appid: a folder with a
// hundred thousand files is slow on some file systems. A file holds
//
//	{"schema":1,"key":"3f0c9a51e2b7d684","box":"<base64>"}
//
// where key names the seal key and box is AES-256-GCM, a random nonce in
// front, over the JSON of the record. The storage key is the additional data,
// so a record copied to another name does not open there. Inside, with times
// in UTC and empty members left out:
//
//	{"generation":7,"token":"…","obtained":"2026-11-22T12:00:00Z","expires":"2026-11-22T14:00:00Z",
//	 "refresh":"…","state":"authorized","event_time":"2026-11-22T11:59:58Z","code":"…",
//	 "code_expires":"2026-11-22T12:59:58Z","functions":[1,2]}
//
//	{"value":"…","create_time":"2026-11-22T12:00:00Z","received":"2026-11-22T12:00:01Z","asked":"2026-11-22T11:50:00Z"}
//
//	{"info_type":"authorized","body":"<base64>","queued":"2026-11-22T12:00:00Z","attempts":2,
//	 "due":"2026-11-22T12:00:07Z","failure":"…"}
//
// The vault has no memory, waits for nothing but the storage, and logs nothing:
// its errors say everything.
package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Storage is the part of certmagic.Storage that the vault uses. A missing key
// gives fs.ErrNotExist; any other error means that nobody knows.
type Storage interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, path string, recursive bool) ([]string, error)
}

var (
	// ErrNotFound means that the storage has answered and holds no such record.
	ErrNotFound = errors.New("no such record")

	// ErrUnavailable means that nobody knows what the storage holds: it failed,
	// the context ended, or the component has no keyring. It never means
	// "nothing there". The cause is wrapped beside it.
	ErrUnavailable = errors.New("vault unavailable")
)

// Unreadable means that something stands where the record should be, and that
// it does not open: sealed with an unknown key, damaged, moved from another
// name, or written by a newer release. Storing a record in its place copies it
// aside first.
type Unreadable struct {
	Key string // the storage key
	Err error  // why; never shows contents
}

// Error implements error.
func (u *Unreadable) Error() string { return fmt.Sprintf("reading %s: %v", u.Key, u.Err) }

// Unwrap gives the cause.
func (u *Unreadable) Unwrap() error { return u.Err }

// Vault reads and writes records. It is safe for concurrent use.
type Vault struct {
	// Broken is told the name of a lock that was taken from its owner, see
	// Lock. Default: nobody is told.
	Broken func(lock string)

	storage func() Storage
	keys    func(component string) *Keyring
	turns   turns
}

// New returns a Vault over the storage and the keyrings that are current at
// each call: a config reload replaces both, and may close the old storage. A
// nil Keyring means that the component is not configured.
func New(storage func() Storage, keys func(component string) *Keyring) *Vault {
	return &Vault{storage: storage, keys: keys}
}

// Load returns the record of s. The error is ErrNotFound, ErrUnavailable or
// *Unreadable, told apart with errors.Is and errors.As, or complains of an
// invalid appid.
func (v *Vault) Load(ctx context.Context, s subject.Subject) (Record, error) {
	b, err := v.recordBox(s)
	if err != nil {
		return Record{}, err
	}
	w, err := load[recordWire](ctx, b)
	return w.record(), err
}

// Store puts r in place of what stands, as Merge decides, and returns what
// stands now. The caller holds the lock of s and has made r by changing what
// Load gave it under that lock: the generation in r tells which record it has
// seen. On an error nothing has been overwritten, as far as the storage tells.
func (v *Vault) Store(ctx context.Context, s subject.Subject, r Record) (Record, error) {
	b, err := v.recordBox(s)
	if err != nil {
		return Record{}, err
	}
	old, err := loadOrKeepAside[recordWire](ctx, b)
	if err != nil {
		return Record{}, err
	}
	merged := Merge(old.record(), r)
	if err := store(ctx, b, newRecordWire(merged)); err != nil {
		return Record{}, err
	}
	return merged, nil
}

// LoadTicket returns the ticket of a component, with errors as of Load.
func (v *Vault) LoadTicket(ctx context.Context, component string) (Ticket, error) {
	b, err := v.ticketBox(component)
	if err != nil {
		return Ticket{}, err
	}
	w, err := load[ticketWire](ctx, b)
	return w.ticket(), err
}

// StoreTicket puts t in place of what stands, as MergeTicket decides, and
// returns what stands now. It takes a lock of its own for the few milliseconds
// that this needs: the component's is held while WeChat is asked for a token,
// and a push must be acknowledged within five seconds. If it cannot be had the
// ticket is stored all the same, because pushes are ten minutes apart: only the
// note of when WeChat was asked could be lost.
func (v *Vault) StoreTicket(ctx context.Context, component string, t Ticket) (Ticket, error) {
	b, err := v.ticketBox(component)
	if err != nil {
		return Ticket{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, ticketPatience)
	defer cancel()
	if unlock, err := v.lock(waiting, b.storage, ticketLock(component), patience); err == nil {
		defer unlock() // a lock that cannot be released expires; the ticket is stored
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

// unavailable wraps cause beside ErrUnavailable. fs.ErrNotExist is cut off, so
// that no storage's way of failing can be taken for "not found".
func unavailable(doing, name string, cause error) error {
	if errors.Is(cause, fs.ErrNotExist) {
		return fmt.Errorf("%s %s: %w: %v", doing, name, ErrUnavailable, cause)
	}
	return fmt.Errorf("%s %s: %w: %w", doing, name, ErrUnavailable, cause)
}
