// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"path"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// pendingFolder is the folder of the marks below that of the component. A
// record with a Code that is not exchanged yet has a mark. After a crash a node
// finds such records by their marks, without opening all records:
//
//	wechat/<component>/pending/<appid>     an empty object, not sealed
const pendingFolder = "/pending/"

// MarkPending sets the mark of s. The caller must hold the lock of s, and must
// call MarkPending before it stores the record with the Code: a mark without a
// code does no harm, a code without a mark may expire unused. A second call
// changes nothing. The error is ErrUnavailable, or that of an invalid appid.
func (v *Vault) MarkPending(ctx context.Context, s subject.Subject) error {
	b, err := v.pendingBox(s)
	if err != nil {
		return err
	}
	return b.write(ctx, b.key, []byte("{}"))
}

// ClearPending deletes the mark of s. The caller must hold the lock of s, and
// must have read under it that the record has no Code that can still be
// exchanged. It is no error if there is no mark.
func (v *Vault) ClearPending(ctx context.Context, s subject.Subject) error {
	b, err := v.pendingBox(s)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// Pending returns the appids of all authorizers of a component that have a
// mark, in no particular order. It lists one folder and reads no records. It
// needs no lock, so a mark may be set or deleted meanwhile. The error is
// ErrUnavailable, or that of an invalid appid.
func (v *Vault) Pending(ctx context.Context, component string) (appIDs []string, err error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	keys, err := v.list(ctx, "wechat/"+component+pendingFolder[:len(pendingFolder)-1])
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

// pendingBox returns the box of the mark of s, which must be an authorizer.
func (v *Vault) pendingBox(s subject.Subject) (box, error) {
	if err := check(s); err != nil {
		return box{}, err
	}
	return v.box(s.Component(), "wechat/"+s.Component()+pendingFolder+s.Authorizer())
}
