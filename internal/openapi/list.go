// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"context"
	"encoding/json"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// MaxListed is how many authorizers WeChat lists at a time.
const MaxListed = 500

// AuthorizerList is one page of the accounts that have authorised a component.
type AuthorizerList struct {
	Total       int // on all pages
	Authorizers []ListedAuthorizer

	Answer []byte // WeChat's, with Withheld in the place of the refresh tokens
}

// ListedAuthorizer is one account of the list.
type ListedAuthorizer struct {
	AppID string
	// Refresh is nil when api_query_auth was never called for this
	// authorisation: no refresh token exists then.
	Refresh secret.Secret
	Answer  []byte // the entry as WeChat wrote it, with Withheld in the place of the refresh token
}

// AuthorizerList lists authorizers from an offset, at most MaxListed: WeChat
// refuses more with 40170
// (developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerlist).
func (c *Client) AuthorizerList(ctx context.Context, component string, componentToken secret.Secret, offset, count int) (AuthorizerList, error) {
	var answer struct {
		Total number            `json:"total_count"`
		List  []json.RawMessage `json:"list"`
	}
	raw, err := c.callInto(ctx, EndpointAuthorizerList, componentToken, Params{
		"component_appid": component,
		"offset":          offset,
		"count":           count,
	}, &answer)
	if err == nil && answer.Total.bad {
		err = malformed(EndpointAuthorizerList)
	}
	if err != nil {
		return AuthorizerList{}, err
	}
	credentials := sent(componentToken, nil)
	list := AuthorizerList{Total: int(answer.Total.value), Answer: withhold(raw, credentials)}
	for _, raw := range answer.List {
		var entry struct {
			AppID   string `json:"authorizer_appid"`
			Refresh string `json:"refresh_token"`
		}
		if unmarshal(raw, &entry) != nil {
			return AuthorizerList{}, malformed(EndpointAuthorizerList)
		}
		list.Authorizers = append(list.Authorizers, ListedAuthorizer{entry.AppID, secret.New(entry.Refresh), withhold(raw, credentials)})
	}
	return list, nil
}
