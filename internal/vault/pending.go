// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"path"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// A record whose Code is not exchanged yet has a mark of its own beside it, so
// that whoever starts after a crash finds it without opening every record:
//
//	wechat/<component>/pending/<appid>     empty object; the name says it all
const pendingFolder = "/pending/"

// MarkPending notes that the record of s will have a Code to exchange.
func (v *Vault) MarkPending(ctx context.Context, s subject.Subject) error {
	b, err := v.pendingBox(s)
	if err != nil {
		return err
	}
	return b.write(ctx, b.key, []byte("{}"))
}

// ClearPending takes the mark away.
func (v *Vault) ClearPending(ctx context.Context, s subject.Subject) error {
	b, err := v.pendingBox(s)
	if err != nil {
		return err
	}
	return b.remove(ctx)
}

// Pending returns the appids of the authorizers of a component that are marked.
func (v *Vault) Pending(ctx context.Context, component string) (appIDs []string, err error) {
	if !subject.ValidAppID(component) {
		return nil, errAppID(component)
	}
	keys, err := v.list(ctx, "wechat/"+component+pendingFolder[:len(pendingFolder)-1])
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if appID := path.Base(key); subject.ValidAppID(appID) { // not a folder or a temporary file
			appIDs = append(appIDs, appID)
		}
	}
	return appIDs, nil
}

func (v *Vault) pendingBox(s subject.Subject) (box, error) {
	if err := check(s); err != nil {
		return box{}, err
	}
	return v.box(s.Component(), "wechat/"+s.Component()+pendingFolder+s.Authorizer())
}
