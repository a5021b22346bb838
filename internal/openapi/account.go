// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"strings"
)

// AccountKind is what kind of account has authorised the component.
type AccountKind string

// The kinds of accounts. Only to what an official account gets can a follower be
// answered at once. Whatever WeChat does not name otherwise is an official account.
const (
	OfficialAccount AccountKind = "official_account"
	MiniProgram     AccountKind = "mini_program"
	Shop            AccountKind = "shop"
	OtherAccount    AccountKind = "other" // of Channels, their assistants, suppliers
)

// accountKind has the members of authorizer_info of which WeChat sends one for each
// kind but official accounts
// (developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo).
type accountKind struct {
	MiniProgram json.RawMessage `json:"MiniProgramInfo"`
	Shop        json.RawMessage `json:"store_info"`
	Channels    json.RawMessage `json:"channels_info"`
	Talent      json.RawMessage `json:"talent_info"`
	Supplier    json.RawMessage `json:"supplier_info"`
}

func (k accountKind) kind() AccountKind {
	switch {
	case isObject(k.MiniProgram):
		return MiniProgram
	case isObject(k.Shop):
		return Shop
	case isObject(k.Channels), isObject(k.Talent), isObject(k.Supplier):
		return OtherAccount
	}
	return OfficialAccount
}

// isObject reports whether a member is there, and an object; it may be empty.
func isObject(text json.RawMessage) bool { return strings.HasPrefix(string(text), "{") }
