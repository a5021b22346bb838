// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"time"
)

// errOtherValue means that a storage does not return what was stored just before.
var errOtherValue = errors.New("the storage has returned something else than was stored")

// Probed is what a probe of the storage has shown.
type Probed struct {
	Slowest string        // the operation that took longest: locking, storing, loading, deleting or unlocking
	Took    time.Duration // how long that took
}

// Probe takes a lock of its own, stores, loads and deletes a value that is nobody's, and
// releases the lock, as for any record. It waits for the storage. The error is
// ErrUnavailable, and names the operation that has failed; none is made after it but
// those that clean up. If Probe is interrupted, its file wechat/doctor/<id> may stay.
func (v *Vault) Probe(ctx context.Context) (p Probed, err error) {
	storage, id := v.storage(), rand.Text()
	key, value := "wechat/doctor/"+id, []byte(id)
	timed := func(doing string, operation func() error) bool {
		began := time.Now()
		cause := operation()
		if took := time.Since(began); took >= p.Took {
			p.Slowest, p.Took = doing, took
		}
		if cause != nil && err == nil {
			err = cause
			if !errors.Is(cause, ErrUnavailable) {
				err = unavailable(doing, key, cause)
			}
		}
		return cause == nil
	}
	var unlock func() error
	if !timed("locking", func() (err error) {
		unlock, err = v.lock(ctx, storage, "wechat_doctor_"+id, patience)
		return err
	}) {
		return p, err
	}
	defer timed("unlocking", unlock)
	if !timed("storing", func() error { return storage.Store(ctx, key, value) }) {
		return p, err
	}
	timed("loading", func() error {
		loaded, err := storage.Load(ctx, key)
		if err == nil && !bytes.Equal(loaded, value) {
			err = errOtherValue
		}
		return err
	})
	timed("deleting", func() error { return storage.Delete(ctx, key) })
	return p, err
}
