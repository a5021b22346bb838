// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"fmt"
	"math"

	"github.com/caddy-wechat/caddy-wechat/internal/vault"
)

// Sync asks WeChat for a page of the accounts that have authorised the component, 500
// of them, and stores the refresh tokens that are missing. The query has component and
// offset. A page that is empty before the end, which would make the caller repeat it for
// ever, counts as the last one.
func (o *Operator) Sync(ctx context.Context, query string) (Synced, error) {
	component, offset, err := o.parseTask(query, math.MaxInt)
	if err != nil {
		return Synced{}, err
	}
	done, err := o.Engine.SyncPage(ctx, component, offset)
	page := Synced{Progress: Progress{Component: component, Next: offset + done.Listed, Total: done.Total}, New: done.New, Restored: done.Restored}
	if done.Listed == 0 {
		page.Next = done.Total
	}
	if err != nil {
		err = o.refused(component, err)
	}
	if offset == 0 || err != nil {
		o.did("sync", component, "", fmt.Sprintf("offset=%d listed=%d new=%d restored=%d of %d", offset, done.Listed, done.New, done.Restored, done.Total), err)
	}
	if err != nil {
		return Synced{}, err
	}
	return page, nil
}

// Reseal seals a part of what is stored of the component with the current key, see
// [vault.Vault.Reseal]. The query has component and offset, the number of the part.
func (o *Operator) Reseal(ctx context.Context, query string) (Resealed, error) {
	component, part, err := o.parseTask(query, vault.Parts)
	if err != nil {
		return Resealed{}, err
	}
	done, err := o.Vault.Reseal(ctx, component, part)
	if err != nil {
		err = storageFailed(err)
	}
	if part == 0 || err != nil {
		o.did("reseal", component, "", fmt.Sprintf("offset=%d resealed=%d unreadable=%d", part, done.Anew, len(done.Unreadable)), err)
	}
	if err != nil {
		return Resealed{}, err
	}
	return Resealed{
		Progress: Progress{Component: component, Next: part + 1, Total: vault.Parts},
		Resealed: done.Anew, Unreadable: append([]string{}, done.Unreadable...),
	}, nil
}

// parseTask returns the component and the offset in the query of a task.
func (o *Operator) parseTask(query string, end int) (component string, offset int, err error) {
	values, err := parseAction(query, "component", "offset")
	if err != nil {
		return "", 0, err
	}
	if component, err = o.component(values); err != nil {
		return "", 0, err
	}
	offset, err = parseOffset(values.Get("offset"), end)
	return component, offset, err
}
