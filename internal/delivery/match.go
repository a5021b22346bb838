// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"errors"
	"slices"
	"strings"
)

// Match says which items a target gets. Of each list that is not empty, one value
// must be that of the item; an item without such a property is not wanted then.
// Upper and lower case make no difference. The zero Match wants everything.
type Match struct {
	// MsgTypes are values of MsgType: text, image, event and others. Authorisation
	// events have none.
	MsgTypes []string `json:"msg_type,omitempty"`
	// Events are values of Event, which messages of the MsgType event have:
	// subscribe, CLICK and others.
	Events []string `json:"event,omitempty"`
	// InfoTypes are values of InfoType, which authorisation events have: authorized,
	// unauthorized and others.
	InfoTypes []string `json:"info_type,omitempty"`
	// AppIDs are accounts; the component_appid stands for events about no account.
	AppIDs []string `json:"appid,omitempty"`
}

// Validate returns an error if nothing can be wanted.
func (m Match) Validate() error {
	switch {
	case len(m.InfoTypes) > 0 && (len(m.MsgTypes) > 0 || len(m.Events) > 0):
		return errors.New("info_type beside msg_type or event matches nothing: messages have no info_type; deliver them to a target of their own, with the same URL and another name")
	case len(m.Events) > 0 && !oneOf(m.MsgTypes, "event"):
		return errors.New("event beside a msg_type other than event matches nothing; add event to msg_type")
	}
	return nil
}

// wants reports whether an item is wanted.
func (m Match) wants(item Item) bool {
	return oneOf(m.MsgTypes, item.MsgType) && oneOf(m.Events, item.Event) && oneOf(m.InfoTypes, item.InfoType) && oneOf(m.AppIDs, item.AppID)
}

// oneOf reports whether value is in the list, or the list is empty. Values in the
// list are never empty.
func oneOf(list []string, value string) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(each string) bool { return strings.EqualFold(each, value) })
}
