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

// box is one storage key, with the storage and the keyring that were current
// when the operation began. So an operation that reads and writes uses the same
// keys, also if a new configuration is loaded meanwhile. Where the storage is a
// Reloadable, it is the same one, too; it decides what a reload means for it.
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

// box returns the box at key. The caller has checked the names in key. The
// error is ErrUnavailable if the component is not configured.
func (v *Vault) box(component, key string) (box, error) {
	keys := v.keys(component)
	if keys == nil {
		return box{}, unavailable("opening", key, ErrNoKeys)
	}
	return box{storage: v.storage(), keys: keys, key: key}, nil
}

// load reads and opens b and decodes it into a W, one of the wire types. With
// an error W is zero.
func load[W any](ctx context.Context, b box) (W, error) {
	var none, w W
	plaintext, _, err := b.openAt(ctx, b.key)
	if err != nil {
		return none, err
	}
	if json.Unmarshal(plaintext, &w) != nil { // its error could quote a secret
		return none, &Unreadable{Key: b.key, Err: errors.New("not a record inside")}
	}
	return w, nil
}

// openAt reads and opens the file at key. That is b.key, or the name to which
// the file of b was copied by keepAside; it was sealed for b.key in both cases.
// It also returns the id of the seal key.
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

// loadOrKeepAside loads what the caller is about to replace. If there is
// nothing, it returns the zero W. If the file does not open, it copies the file
// to another name and returns the zero W. If the copy fails, it returns an
// error, and the caller must not write: the file may contain the only refresh
// token.
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

// store encodes w, seals it and writes it to b.
func store[W any](ctx context.Context, b box, w W) error {
	plaintext, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("storing %s: %w", b.key, err)
	}
	return b.seal(ctx, plaintext)
}

// seal seals plaintext with the current key and writes it to b.
func (b box) seal(ctx context.Context, plaintext []byte) error {
	file, err := b.keys.seal(b.key, plaintext)
	if err != nil {
		return fmt.Errorf("storing %s: %w", b.key, err)
	}
	return b.write(ctx, b.key, file)
}

// keepAside copies the file of b, without a change, to
// <key>.unreadable-<digest>. The digest is four bytes of the SHA-256 of the
// seal key's id. So for each unknown key only the newest file is kept, and one
// for all files without an id. Otherwise two nodes with different keys, each of
// which replaces the other's files, would fill the storage. Reseal restores
// such a file when it opens; an operator can also copy it back to its name.
func (b box) keepAside(ctx context.Context) error {
	file, err := b.read(ctx)
	if err != nil {
		return err
	}
	var e envelope
	_ = json.Unmarshal(file, &e) // if it fails, the key id is empty
	digest := sha256.Sum256([]byte(e.Key))
	return b.write(ctx, b.key+".unreadable-"+hex.EncodeToString(digest[:4]), file)
}

// read loads the file of b. Its errors are ErrNotFound and ErrUnavailable. Like
// write and remove it checks the context first, because some storages ignore
// it.
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

// write writes file to key, which is b.key or a name beside it. It replaces
// what is there. Its error is ErrUnavailable.
func (b box) write(ctx context.Context, key string, file []byte) error {
	if err := ctx.Err(); err != nil {
		return unavailable("storing", key, err)
	}
	if err := b.storage.Store(ctx, key, file); err != nil {
		return unavailable("storing", key, err)
	}
	return nil
}

// remove deletes the file of b. It is no error if there is no such file. Its
// error is ErrUnavailable.
func (b box) remove(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return unavailable("deleting", b.key, err)
	}
	if err := b.storage.Delete(ctx, b.key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable("deleting", b.key, err)
	}
	return nil
}

// List returns the appids of all authorizers of the component that have a
// record, also of those that have withdrawn, in alphabetical order. It reads no
// records. It lists up to 256 folders, which may take seconds, so it is for
// operators and not for the calls of applications. Folders and temporary files,
// which storages list as well, are left out.
func (v *Vault) List(ctx context.Context, component string) ([]string, error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	return v.listRecords(ctx, component, "wechat/"+component+"/authorizers")
}

// ListShard is List for one shard of the authorizers, the one of the appids that end
// with the two digits of shard. It lists one folder.
func (v *Vault) ListShard(ctx context.Context, component string, shard byte) ([]string, error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	return v.listRecords(ctx, component, fmt.Sprintf("wechat/%s/authorizers/%02x", component, shard))
}

// listRecords returns the appids of the authorizers' records in a folder and below.
func (v *Vault) listRecords(ctx context.Context, component, folder string) ([]string, error) {
	keys, err := v.list(ctx, folder)
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

// list returns all keys below the folder root and its subfolders, and no keys
// if there is no such folder. The order is that of the storage. Its error is
// ErrUnavailable.
func (v *Vault) list(ctx context.Context, root string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("listing", root, err)
	}
	keys, err := v.storage().List(ctx, root, true)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(keys) == 0:
		return nil, nil
	case err != nil: // FileStorage also fails if a temporary file disappears while it lists
		return nil, unavailable("listing", root, err)
	}
	return keys, nil
}

// recordKey returns the storage key of the record of s. Appids are checked,
// because they may come from a request and storages do not check keys: an appid
// such as "../.." would lead to a file outside the folder.
func recordKey(s subject.Subject) (string, error) {
	if err := check(s); err != nil {
		return "", err
	}
	if s.IsComponent() {
		return "wechat/" + s.Component() + "/component.json", nil
	}
	return shardKey(s, "authorizers"), nil
}

// shardKey returns the storage key of the file of an authorizer in one of the folders
// that have shards. The appids are valid.
func shardKey(s subject.Subject, folder string) string {
	appID := s.Authorizer()
	return "wechat/" + s.Component() + "/" + folder + "/" + appID[len(appID)-2:] + "/" + appID + ".json"
}

// recordLock returns the name of the lock of s. The name has no characters
// other than [a-z0-9_.-]: storages remove or replace others, and two different
// names could become the same lock.
func recordLock(s subject.Subject) (string, error) {
	if err := check(s); err != nil {
		return "", err
	}
	return "wechat_" + s.Component() + "_" + cmp.Or(s.Authorizer(), "component"), nil
}

func ticketLock(component string) string { return "wechat_" + component + "_ticket" }

// check returns an error unless all appids in s are valid.
func check(s subject.Subject) error {
	switch {
	case !subject.ValidAppID(s.Component()):
		return errAppID(s.Component())
	case !s.IsComponent() && !subject.ValidAppID(s.Authorizer()):
		return errAppID(s.Authorizer())
	}
	return nil
}

// errAppID quotes at most 40 characters: the text may come from a request.
func errAppID(text string) error { return fmt.Errorf("naming a record: %.40q is not an appid", text) }
