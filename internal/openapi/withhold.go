// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"slices"
	"strings"

	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// Withheld stands in the place of a credential in an answer that is passed on.
// An empty credential stays empty: WeChat says so that there is none.
const Withheld = `"withheld"`

// Credentials are the names, in lower case, of what holds a credential of the
// platform's in any request to the API or answer of it.
var Credentials = []string{
	"component_access_token", "authorizer_access_token", "access_token",
	"authorizer_refresh_token", "refresh_token",
	"component_verify_ticket", "component_appsecret", "component_secret", "appsecret", "secret",
	"authorization_code", "auth_code", "pre_auth_code",
}

// withhold returns an answer with Withheld in the place of its credentials, to
// be passed on to a client with other values; nil where that is not possible.
func withhold(answer []byte) []byte {
	edited, err := rewrite.Edit(answer, func(name string, value []byte) []byte {
		if slices.Contains(Credentials, name) && strings.Trim(string(value), `"`) != "" {
			return []byte(Withheld)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return edited
}
