// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"path"
	"time"
	"unicode/utf8"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Standing is how it is with an account, as operators see it. It follows from the
// record, see [Record.Standing]. Its values are parts of storage keys.
type Standing string

const (
	// Stands: the account has authorised the component, and works as far as is known.
	Stands Standing = "authorized"
	// Withdrawn: the account has withdrawn its authorisation.
	Withdrawn Standing = "unauthorized"
	// NeedsAdmin: an admin of the account must authorise again, see NeedsAuthorization.
	NeedsAdmin Standing = "needs_authorization"
	// Failing: calls are refused for want of a token, see RenewalsFail.
	Failing Standing = "failing"
)

// Noted are the standings that have an index: all but Stands.
var Noted = [...]Standing{Withdrawn, NeedsAdmin, Failing}

// Standing returns how it is with the account of a record, which is no component's.
func (r Record) Standing() Standing {
	switch {
	case r.State == Unauthorized:
		return Withdrawn
	case r.Trouble == NeedsAuthorization:
		return NeedsAdmin
	case r.Trouble != NoTrouble: // also one that a newer release has noted
		return Failing
	}
	return Stands
}

// since returns from when on the account of a record has its standing, as far as the
// record tells.
func (r Record) since() time.Time {
	if r.State == Unauthorized {
		return r.EventTime
	}
	return r.TroubleSince
}

// Note is why an account is not simply authorized: an entry of the index of its
// standing. It contains no credential, and no text of WeChat's.
type Note struct {
	Since   time.Time
	Slug    string // of the problem that callers are told, or the standing
	Errcode int    // WeChat's; 0 if WeChat has not refused
	RID     string // WeChat's name for the call that it has refused; may be empty
	Text    string // at most maxNoteText bytes are stored
	Remedy  string // may be empty; as long as Text at most
}

// maxNoteText is how many bytes of each text of a Note are stored.
const maxNoteText = 300

// noteWire is the JSON of a Note.
type noteWire struct {
	Since   time.Time `json:"since,omitzero"`
	Slug    string    `json:"slug"`
	Errcode int       `json:"errcode,omitempty"`
	RID     string    `json:"rid,omitempty"`
	Text    string    `json:"text,omitempty"`
	Remedy  string    `json:"remedy,omitempty"`
}

// newNoteWire returns what is stored of n.
func newNoteWire(n Note) noteWire {
	n.Since, n.Text, n.Remedy = n.Since.UTC(), cut(n.Text), cut(n.Remedy)
	return noteWire(n)
}

// cut returns at most maxNoteText bytes of a text, and whole characters.
func cut(text string) string {
	if len(text) <= maxNoteText {
		return text
	}
	end := maxNoteText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// Change is what Vault.Changed is told of an account. Before is its standing as it was
// stored or listed. The same change may be told twice.
type Change struct {
	Who           subject.Subject
	Before, After Standing
	New, Removed  bool
}

// storeStanding stores merged in place of old, with the index of the standings. The
// note comes first, then the record, and the note of the standing before goes last. So
// whenever the process dies, no account that is broken is missing in the index. An entry
// that is left over does no harm: whoever reads the index compares it with the record,
// and calls Repair. Where the standing is the same as before, nothing is written but the
// record. A component has no standing.
func (v *Vault) storeStanding(ctx context.Context, s subject.Subject, b box, old, merged Record, note Note) error {
	if s.IsComponent() {
		return store(ctx, b, newRecordWire(merged))
	}
	before, after := old.Standing(), merged.Standing()
	if before != after && after != Stands {
		if note == (Note{}) {
			note = plainNote(merged)
		}
		if err := v.storeNote(ctx, s, after, note); err != nil {
			return err
		}
	}
	if err := store(ctx, b, newRecordWire(merged)); err != nil {
		return err
	}
	if before != after && before != Stands {
		_ = v.removeNote(ctx, s, before) // else it is repaired by whoever reads it
	}
	if isNew := old.Generation == 0; before != after || isNew {
		v.changed(Change{Who: s, Before: before, After: after, New: isNew})
	}
	return nil
}

// plainNote is the note of an account about which nothing more is known than its record.
func plainNote(r Record) Note {
	note := Note{Since: r.since(), Slug: string(r.Standing())}
	if note.Since.IsZero() {
		note.Since = time.Now()
	}
	return note
}

func (v *Vault) changed(c Change) {
	if v.Changed != nil {
		v.Changed(c)
	}
}

// storeNote stores a note in place of another one. A file that does not open is
// replaced, for a note can be made again; but that of a newer release is left alone.
func (v *Vault) storeNote(ctx context.Context, s subject.Subject, st Standing, note Note) error {
	b, err := v.noteBox(s, st)
	if err != nil {
		return err
	}
	switch _, err := load[noteWire](ctx, b); {
	case errors.Is(err, ErrNewer):
		return nil
	case errors.Is(err, ErrUnavailable):
		return err
	}
	return store(ctx, b, newNoteWire(note))
}

func (v *Vault) removeNote(ctx context.Context, s subject.Subject, st Standing) error {
	b, err := v.noteBox(s, st)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// LoadNote returns why an account has a standing, which is one of Noted. It needs no
// lock. Its errors are those of Load. Only the record tells whether the account still
// has that standing.
func (v *Vault) LoadNote(ctx context.Context, s subject.Subject, st Standing) (Note, error) {
	b, err := v.noteBox(s, st)
	if err != nil {
		return Note{}, err
	}
	w, err := load[noteWire](ctx, b)
	return Note(w), err
}

// ListStanding returns the appids in the index of a standing, one of Noted, in no
// particular order. It lists one folder and reads no files. It needs no lock. An entry may
// be left over, so the caller must compare it with the record. The error is
// ErrUnavailable, or that of an invalid appid.
func (v *Vault) ListStanding(ctx context.Context, component string, st Standing) (appIDs []string, err error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	keys, err := v.list(ctx, statesFolder(component)+"/"+string(st))
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if appID := path.Base(key); subject.ValidAppID(appID) { // else it is a folder or a temporary file
			appIDs = append(appIDs, appID)
		}
	}
	return appIDs, nil
}

// Repair makes the index agree with the record of s, which the caller has loaded as r
// and found in the index of the standing listed, Stands if in none. Only if these differ
// it takes the lock of s, which the caller must not hold, and reads the record again. It
// returns the standing. Its errors are those of Lock, Load and Store. An account without
// a record stands, and is in no index.
func (v *Vault) Repair(ctx context.Context, s subject.Subject, r Record, listed Standing) (Standing, error) {
	if r.Standing() == listed {
		return listed, nil
	}
	unlock, err := v.Lock(ctx, s)
	if err != nil {
		return "", err
	}
	defer unlock() // if that fails, the lock expires by itself
	r, err = v.Load(ctx, s)
	gone := errors.Is(err, ErrNotFound)
	if err != nil && !gone {
		return "", err
	}
	stands := r.Standing()
	if err := v.ensureNote(ctx, s, r); err != nil {
		return "", err
	}
	if listed != stands && listed != Stands {
		if err := v.removeNote(ctx, s, listed); err != nil {
			return "", err
		}
	}
	v.changed(Change{Who: s, Before: listed, After: stands, Removed: gone})
	return stands, nil
}

// ensureNote stores a plain note of an account that is not authorized and has none.
func (v *Vault) ensureNote(ctx context.Context, s subject.Subject, r Record) error {
	if r.Standing() == Stands {
		return nil
	}
	_, err := v.LoadNote(ctx, s, r.Standing())
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	return v.storeNote(ctx, s, r.Standing(), plainNote(r))
}

// Remove deletes what is stored of an authorizer: profile, notes, the mark of a pending
// code, and last the record, so that after a crash the account is still listed. Files
// that keepAside has made stay. The caller must hold the lock of s. It is no error if
// there is nothing. The error is that of LockProfile, ErrUnavailable, or that of an
// invalid appid.
func (v *Vault) Remove(ctx context.Context, s subject.Subject) error {
	profile, err := v.profileBox(s)
	if err != nil {
		return err
	}
	record, err := v.recordBox(s)
	if err != nil {
		return err
	}
	unlock, err := v.LockProfile(ctx, s)
	if err != nil {
		return err
	}
	defer unlock() // if that fails, the lock expires by itself
	old, _ := v.Load(ctx, s)
	if err := profile.remove(ctx); err != nil {
		return err
	}
	for _, st := range Noted {
		if err := v.removeNote(ctx, s, st); err != nil {
			return err
		}
	}
	if err := v.ClearPending(ctx, s); err != nil {
		return err
	}
	if err := record.remove(ctx); err != nil {
		return err
	}
	v.changed(Change{Who: s, Before: old.Standing(), After: Stands, Removed: true})
	return nil
}

// statesFolder is the folder of the indexes of a component.
func statesFolder(component string) string { return "wechat/" + component + "/states" }

func (v *Vault) noteBox(s subject.Subject, st Standing) (box, error) {
	key, err := noteKey(s, st)
	if err != nil {
		return box{}, err
	}
	return v.box(s.Component(), key)
}

// noteKey returns the storage key of the note of s. A component has none.
func noteKey(s subject.Subject, st Standing) (string, error) {
	if !subject.ValidAppID(s.Authorizer()) {
		return "", errAppID(s.Authorizer())
	}
	if err := check(s); err != nil {
		return "", err
	}
	return statesFolder(s.Component()) + "/" + string(st) + "/" + s.Authorizer(), nil
}
