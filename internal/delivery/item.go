// SPDX-License-Identifier: Apache-2.0

package delivery

import "time"

// Kind says what an Item is.
type Kind string

const (
	// KindMessage is a message or an event of an account, from the messages URL.
	KindMessage Kind = "message"
	// KindEvent is an authorisation event, from the events URL.
	KindEvent Kind = "event"
	// KindOwn is news that the gateway itself has to tell, in the form of an
	// authorisation event, or a gateway ticket.
	KindOwn Kind = "own"
)

// Item is what is delivered to an application. It is the same at every attempt.
type Item struct {
	Kind Kind
	// Component is the component_appid.
	Component string
	// AppID is the account that the item is about; the component if it is about
	// no account.
	AppID string
	// ID is 32 hexadecimal digits, the same whenever WeChat pushes the same and at
	// every attempt, so that applications can find repetitions.
	ID string
	// InfoType is that of an authorisation event, "" for messages.
	InfoType string
	// MsgType and Event are those of a message, for [Target.Wants]; not stored.
	MsgType, Event string
	// ToUserName is the account's gh_ id, OpenID the sender. Of messages only.
	ToUserName, OpenID string
	// CodeIn is the name of the element, or the member, in which WeChat's event
	// had an authorization_code, "" for none. A platform gets a gateway code there.
	CodeIn string
	// Arrived is when the push came; a queue is in this order.
	Arrived time.Time
	// Body is the text of the push, in clear, without credentials. Nobody may
	// change it.
	Body []byte
}
