// SPDX-License-Identifier: Apache-2.0

package tokens

import (
	"context"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// Health returns what went wrong last with renewals of who's token on this node, and until
// when none is attempted; both are zero if nothing is known of a failure. Of a component
// the last failure stays when it is over, of an account it is forgotten. It waits for
// nothing.
func (k *Keeper) Health(who subject.Subject) (last Failure, coolingUntil time.Time) {
	return k.health.Last(healthKey{who, renewal})
}

// Renew ends who's cool-downs on this node and has WeChat issue a new token, also if the
// present one lives, and returns until when that is valid. It waits for storage and
// WeChat, no longer than ctx; the renewal goes on without the caller. Of an account that
// has withdrawn it asks WeChat whether it is authorized again. Its errors are those of
// Current, and vault.ErrNotFound for an account of which nothing is stored.
func (k *Keeper) Renew(ctx context.Context, who subject.Subject) (expires time.Time, err error) {
	return k.operating.renew(ctx, who)
}

// Reread ends who's cool-downs on this node, asks WeChat who the account is, stores its
// profile and its refresh token, and drops what memory holds of its tokens. An account
// that had withdrawn is authorized again if WeChat tells a refresh token of it. It waits
// for storage and WeChat, no longer than ctx. Its errors are those of AuthorizerInfo and
// of the storage, and vault.ErrNotFound for an account of which nothing is stored.
func (k *Keeper) Reread(ctx context.Context, who subject.Subject) error {
	return k.operating.reread(ctx, who)
}

// Forget deletes all that is stored of an account that has withdrawn, and lets the other
// nodes know. It waits for storage, no longer than ctx. Its errors are ErrAuthorized,
// vault.ErrNotFound, and those of the storage, after which it may be called again.
func (k *Keeper) Forget(ctx context.Context, who subject.Subject) error {
	return k.operating.forget(ctx, who)
}

// Unsaved returns how many records storage has not taken yet. It waits for nothing.
func (k *Keeper) Unsaved() int { return k.records.unsaved.count() }

// IsUnsaved reports whether storage has not taken the record of who yet. It waits for
// nothing.
func (k *Keeper) IsUnsaved(who subject.Subject) bool {
	_, held := k.records.unsaved.get(who)
	return held
}

// RequestTicket asks WeChat to push a ticket of a component, once a minute at most, else
// the error is ErrAskedLately. It waits for storage and WeChat, no longer than ctx. Its
// other errors are an [openapi.Refusal] or [openapi.Outage], those of the storage, and
// problem.ErrNoComponent for a component that is not configured.
func (k *Keeper) RequestTicket(ctx context.Context, component string) error {
	return k.operating.requestTicket(ctx, component)
}

// TryComponent makes a call with the token of a component that changes nothing, and
// renews the token if that is necessary: WeChat looks at the white list. It waits for
// both, no longer than ctx. An [openapi.Refusal] in its error is WeChat's answer to the
// call; if there is no token, Health tells why.
func (k *Keeper) TryComponent(ctx context.Context, component string) error {
	return k.operating.tryComponent(ctx, component)
}

// SyncPage is AuthorizerList for operators: it counts what was not known. With an error
// of the storage the page may be asked for again; nothing is lost.
func (k *Keeper) SyncPage(ctx context.Context, component string, offset int) (Synced, error) {
	return k.operating.syncPage(ctx, component, offset)
}
