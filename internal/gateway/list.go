// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/openapi"
	"github.com/caddy-wechat/caddy-wechat/internal/problem"
	"github.com/caddy-wechat/caddy-wechat/internal/subject"
)

// answerAuthorizerList answers api_get_authorizer_list, which lists the accounts
// that have authorised the component, with their refresh tokens
// (developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerlist).
// A client with a right to named accounts sees only these, and total_count is
// their number. It cannot find out which other accounts there are. The refresh
// tokens are stored first and then replaced by labels.
func (g *Gateway) answerAuthorizerList(ctx context.Context, e *endpointCall) ([]byte, error) {
	offset, count, err := e.page()
	if err != nil {
		return nil, err
	}
	if e.client.Rights.AllAuthorizers {
		list, err := g.Tokens.AuthorizerList(ctx, e.client.Component, e.client.ID, offset, count)
		if err != nil {
			return nil, err
		}
		return e.listAnswer(list, list.Total)
	}
	own, err := g.ownAuthorizers(ctx, e)
	if err != nil {
		return nil, err
	}
	total := len(own.Authorizers)
	offset = min(offset, total)
	own.Authorizers = own.Authorizers[offset:min(offset+count, total)]
	return e.listAnswer(own, total)
}

// page returns the part of the list that the client wants. WeChat refuses a
// count above openapi.MaxListed with 40170; the gateway refuses it too, with
// 47001. A missing count means MaxListed.
func (e *endpointCall) page() (offset, count int, err error) {
	count = openapi.MaxListed
	if text := e.form.Get("offset"); text != "" {
		offset, err = strconv.Atoi(text)
	}
	if text := e.form.Get("count"); text != "" && err == nil {
		count, err = strconv.Atoi(text)
	}
	if err != nil || offset < 0 || count < 1 || count > openapi.MaxListed {
		return 0, 0, problem.ErrBadRequest.Because("want an offset from 0 and a count from 1 to %d", openapi.MaxListed)
	}
	return offset, count, nil
}

// listTimeout is how long ownAuthorizers may take for all pages of WeChat's
// list. A platform with 100,000 accounts has 200 pages.
const listTimeout = 30 * time.Second

// ownAuthorizers returns WeChat's first page, in which the list is replaced by
// the client's own accounts from all pages. It makes one call to WeChat for
// every 500 accounts of the component, also for a later page of the client's
// list: WeChat's offset counts all accounts, so nobody knows at which one this
// page begins.
//
// It stops early when it has found as many accounts as the client has. It also
// stops at an empty page. Otherwise a total_count that is too large would make
// it ask for ever.
func (g *Gateway) ownAuthorizers(ctx context.Context, e *endpointCall) (own openapi.AuthorizerList, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var found []openapi.ListedAuthorizer
	for offset := 0; ; {
		list, err := g.Tokens.AuthorizerList(ctx, e.client.Component, e.client.ID, offset, openapi.MaxListed)
		if err != nil {
			return own, err
		}
		if offset == 0 {
			own = list
		}
		for _, listed := range list.Authorizers {
			if e.client.Rights.Authorizer(listed.AppID) {
				found = append(found, listed)
			}
		}
		offset += len(list.Authorizers)
		if len(list.Authorizers) == 0 || offset >= list.Total || len(found) >= len(e.client.Rights.Authorizers) {
			own.Authorizers = found
			return own, nil
		}
	}
}

// listAnswer returns list as WeChat wrote it, with these authorizers as its
// entries, a label in place of each refresh token, and another total. Other
// members stay.
func (e *endpointCall) listAnswer(list openapi.AuthorizerList, total int) ([]byte, error) {
	var entries [][]byte
	for _, listed := range list.Authorizers {
		entry, err := e.substitute(listed.Answer, subject.Of(e.client.Component, listed.AppID))
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return edit(list.Answer, func(name string, value []byte) []byte {
		switch name {
		case "list":
			return append(append([]byte("["), bytes.Join(entries, []byte(","))...), ']')
		case "total_count":
			return sameForm(value, total)
		}
		return nil
	})
}

// sameForm writes n as a JSON number, or as a JSON string where WeChat has
// written a string. WeChat uses both, and an SDK with typed fields accepts only
// the one that it knows.
func sameForm(written []byte, n int) []byte {
	if bytes.HasPrefix(written, []byte(`"`)) {
		return []byte(strconv.Quote(strconv.Itoa(n)))
	}
	return []byte(strconv.Itoa(n))
}
