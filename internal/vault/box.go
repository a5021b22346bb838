// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// box is one place in the storage, with the storage and the keys that were
// current when an operation began: one operation never mixes two configs.
type box struct {
	storage Storage
	keys    *Keyring
	key     string
}

func (v *Vault) recordBox(s subject.Subject) (box, error) {
	key, err := recordKey(s)
	if err != nil {
		return box{}, err
	}
	return v.box(s.Component(), key)
}

func (v *Vault) ticketBox(component string) (box, error) {
	if !subject.ValidAppID(component) {
		return box{}, errAppID(component)
	}
	return v.box(component, "wechat/"+component+"/ticket.json")
}

func (v *Vault) box(component, key string) (box, error) {
	keys := v.keys(component)
	if keys == nil {
		return box{}, unavailable("opening", key, errors.New("the component has no seal key"))
	}
	return box{storage: v.storage(), keys: keys, key: key}, nil
}

// load opens b and decodes it into W. W is zero whenever there is an error.
func load[W any](ctx context.Context, b box) (W, error) {
	var none, w W
	plaintext, _, err := b.openAt(ctx, b.key)
	if err != nil {
		return none, err
	}
	if json.Unmarshal(plaintext, &w) != nil { // its error would quote a secret
		return none, &Unreadable{Key: b.key, Err: errors.New("not a record inside")}
	}
	return w, nil
}

// openAt opens the file at key, b's own or where b was set aside. It returns
// the id of the seal key as well.
func (b box) openAt(ctx context.Context, key string) (plaintext []byte, sealKey string, err error) {
	file, err := box{storage: b.storage, keys: b.keys, key: key}.read(ctx)
	if err != nil {
		return nil, "", err
	}
	plaintext, sealKey, err = b.keys.open(b.key, file)
	if err != nil {
		return nil, "", &Unreadable{Key: key, Err: err}
	}
	return plaintext, sealKey, nil
}

// loadOrKeepAside loads what a write is about to replace, W's zero where
// nothing is, and copies aside what does not open.
func loadOrKeepAside[W any](ctx context.Context, b box) (W, error) {
	w, err := load[W](ctx, b)
	var unreadable *Unreadable
	switch {
	case errors.Is(err, ErrNotFound):
		return w, nil
	case errors.As(err, &unreadable):
		return w, b.keepAside(ctx)
	}
	return w, err
}

// store seals w into b.
func store[W any](ctx context.Context, b box, w W) error {
	plaintext, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("storing %s: %w", b.key, err)
	}
	return b.seal(ctx, plaintext)
}

// seal puts plaintext into b with the current key.
func (b box) seal(ctx context.Context, plaintext []byte) error {
	file, err := b.keys.seal(b.key, plaintext)
	if err != nil {
		return fmt.Errorf("storing %s: %w", b.key, err)
	}
	return b.write(ctx, b.key, file)
}

// keepAside copies the file as it is to <key>.unreadable-<digest>. The digest
// is that of the seal key's id, so that of the files of one foreign key, or of
// none, the newest is kept: two nodes with different keys would otherwise fill
// the storage. To restore one, copy it back to its name.
func (b box) keepAside(ctx context.Context) error {
	file, err := b.read(ctx)
	if err != nil {
		return err
	}
	var e envelope
	_ = json.Unmarshal(file, &e) // what cannot be read has no key id
	digest := sha256.Sum256([]byte(e.Key))
	return b.write(ctx, b.key+".unreadable-"+hex.EncodeToString(digest[:4]), file)
}

// read loads the file. Some storages ignore the context, so it is looked at
// first.
func (b box) read(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("loading", b.key, err)
	}
	file, err := b.storage.Load(ctx, b.key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("loading %s: %w", b.key, ErrNotFound)
	case err != nil:
		return nil, unavailable("loading", b.key, err)
	}
	return file, nil
}

func (b box) write(ctx context.Context, key string, file []byte) error {
	if err := ctx.Err(); err != nil {
		return unavailable("storing", key, err)
	}
	if err := b.storage.Store(ctx, key, file); err != nil {
		return unavailable("storing", key, err)
	}
	return nil
}

// remove deletes the file. That it is not there is as good.
func (b box) remove(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return unavailable("deleting", b.key, err)
	}
	if err := b.storage.Delete(ctx, b.key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable("deleting", b.key, err)
	}
	return nil
}

// List returns the appids of the authorizers that have a record under the
// component, tombstones included, in order. It walks the storage, so it is for
// people, not for requests. Storages list folders and temporary files as well;
// only what has exactly the key of a record counts.
func (v *Vault) List(ctx context.Context, component string) ([]string, error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	keys, err := v.list(ctx, "wechat/"+component+"/authorizers")
	if err != nil {
		return nil, err
	}
	var appIDs []string
	for _, key := range keys {
		appID := strings.TrimSuffix(path.Base(key), ".json")
		if want, err := recordKey(subject.Of(component, appID)); err == nil && key == want {
			appIDs = append(appIDs, appID)
		}
	}
	slices.Sort(appIDs)
	return slices.Compact(appIDs), nil
}

// list returns all keys below root, none if there is no such folder.
func (v *Vault) list(ctx context.Context, root string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("listing", root, err)
	}
	keys, err := v.storage().List(ctx, root, true)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(keys) == 0:
		return nil, nil
	case err != nil: // also from file storage, when a temporary file vanishes during the walk
		return nil, unavailable("listing", root, err)
	}
	return keys, nil
}

// recordKey returns the storage key of the record of s. Appids are checked
// because storages do not check keys: "../.." would be a path.
func recordKey(s subject.Subject) (string, error) {
	if err := check(s); err != nil {
		return "", err
	}
	folder := "wechat/" + s.Component()
	if s.IsComponent() {
		return folder + "/component.json", nil
	}
	appID := s.Authorizer()
	return folder + "/authorizers/" + appID[len(appID)-2:] + "/" + appID + ".json", nil
}

// recordLock returns the name of the lock of s. Storages drop or change other
// characters than [a-z0-9_.-] in lock names, so that two names may become one.
func recordLock(s subject.Subject) (string, error) {
	if err := check(s); err != nil {
		return "", err
	}
	return "wechat_" + s.Component() + "_" + cmp.Or(s.Authorizer(), "component"), nil
}

func ticketLock(component string) string { return "wechat_" + component + "_ticket" }

func check(s subject.Subject) error {
	switch {
	case !subject.ValidAppID(s.Component()):
		return errAppID(s.Component())
	case !s.IsComponent() && !subject.ValidAppID(s.Authorizer()):
		return errAppID(s.Authorizer())
	}
	return nil
}

func errAppID(text string) error { return fmt.Errorf("naming a record: %.40q is not an appid", text) }
