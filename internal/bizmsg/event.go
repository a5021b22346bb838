// SPDX-License-Identifier: Apache-2.0

package bizmsg

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// The InfoTypes that carry a ticket or an authorization. There are more
// (registration, filing, verification notices), and all are answered `success`.
const (
	InfoTicket           = "component_verify_ticket"
	InfoAuthorized       = "authorized"
	InfoUpdateAuthorized = "updateauthorized"
	InfoUnauthorized     = "unauthorized"
	InfoFastRegister     = "notify_third_fasteregister" // WeChat's spelling
)

// Event is a decrypted push to the authorization events URL
// (component_verify_ticket and authorize_event.html). Fields that its InfoType
// does not have are empty.
type Event struct {
	// AppID is the component_appid. The receive id has been checked, this has not.
	AppID string
	// CreateTime is when WeChat made the event; zero if missing or not a number,
	// which is no reason to refuse what is signed.
	CreateTime time.Time
	// InfoType is what happened. It may be one that is not known here.
	InfoType string

	// ComponentVerifyTicket is valid for 12 hours.
	ComponentVerifyTicket secret.Secret

	// AuthorizerAppID is the account that was authorized or withdrawn. For
	// InfoFastRegister it is the new mini program.
	AuthorizerAppID string
	// AuthorizationCode goes to api_query_auth, once. For InfoFastRegister it is
	// the auth_code, empty when the registration failed.
	AuthorizationCode secret.Secret
	// AuthorizationCodeExpiredTime is as sent. Whether it is a lifetime or a
	// date is not documented clearly: do not rely on it.
	AuthorizationCodeExpiredTime string
	// PreAuthCode is the code of the launch page that led here.
	PreAuthCode secret.Secret
}

// ParseEvent reads the decrypted text of an event: XML, or a JSON object with
// the same names. It must have an InfoType, any InfoType, and no repeated
// field; DOCTYPE, comments and the like are refused, control characters are not. An
// error never quotes the text.
func ParseEvent(plain []byte) (Event, error) {
	doc, err := parseDocument(WithoutControls(plain), maxParts)
	if err != nil {
		return Event{}, fmt.Errorf("parsing event: %w", err)
	}
	text := func(name string) string {
		value, e := doc.one(name)
		if err == nil {
			err = e
		}
		return value
	}
	event := Event{
		AppID:                        text("AppId"),
		CreateTime:                   unixTime(text("CreateTime")),
		InfoType:                     text("InfoType"),
		ComponentVerifyTicket:        secret.New(text("ComponentVerifyTicket")),
		AuthorizerAppID:              text("AuthorizerAppid"), // sic: only here is the id lower case
		AuthorizationCode:            secret.New(text("AuthorizationCode")),
		AuthorizationCodeExpiredTime: text("AuthorizationCodeExpiredTime"),
		PreAuthCode:                  secret.New(text("PreAuthCode")),
	}
	if event.InfoType == InfoFastRegister {
		event.AuthorizerAppID = text("appid")
		event.AuthorizationCode = secret.New(text("auth_code"))
	}
	if err == nil && event.InfoType == "" {
		err = errors.New("no InfoType")
	}
	if err != nil {
		return Event{}, fmt.Errorf("parsing event: %w", err)
	}
	return event, nil
}

// unixTime reads whole seconds. 32 bits reach into the year 2106 and keep a
// wild number from becoming a date that JSON cannot hold.
func unixTime(text string) time.Time {
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil || seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}
