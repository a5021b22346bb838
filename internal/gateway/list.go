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

// answerAuthorizerList answers api_get_authorizer_list with the client's own
// authorizers alone.
func (g *Gateway) answerAuthorizerList(ctx context.Context, e *endpointCall) ([]byte, error) {
	offset, count, err := e.page()
	if err != nil {
		return nil, err
	}
	if e.client.Rights.AllAuthorizers {
		list, err := g.Tokens.AuthorizerList(ctx, e.client.Component, offset, count)
		if err != nil {
			return nil, err
		}
		return e.listOf(list, list.Total)
	}
	own, err := g.ownAuthorizers(ctx, e)
	if err != nil {
		return nil, err
	}
	total := len(own.Authorizers)
	offset = min(offset, total)
	own.Authorizers = own.Authorizers[offset:min(offset+count, total)]
	return e.listOf(own, total)
}

// page returns the part of the list that is asked for.
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

// listTimeout bounds the search through all pages of WeChat's list.
const listTimeout = 30 * time.Second

// ownAuthorizers returns WeChat's first page with the client's authorizers on
// all pages. Offsets count those of WeChat's list, so to give a client the
// second page of its own, all have to be looked through.
func (g *Gateway) ownAuthorizers(ctx context.Context, e *endpointCall) (own openapi.AuthorizerList, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var found []openapi.ListedAuthorizer
	for offset := 0; ; {
		list, err := g.Tokens.AuthorizerList(ctx, e.client.Component, offset, openapi.MaxListed)
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

// listOf is a list as WeChat wrote it, with gateway values in the place of
// refresh tokens and another total.
func (e *endpointCall) listOf(list openapi.AuthorizerList, total int) ([]byte, error) {
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

// sameForm writes a number as WeChat has written another one in its place: as
// a number, or as a text.
func sameForm(written []byte, n int) []byte {
	if bytes.HasPrefix(written, []byte(`"`)) {
		return []byte(strconv.Quote(strconv.Itoa(n)))
	}
	return []byte(strconv.Itoa(n))
}
