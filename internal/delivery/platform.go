// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-wechat/caddy-wechat/internal/bizmsg"
	"github.com/caddy-wechat/caddy-wechat/internal/metrics"
	"github.com/caddy-wechat/caddy-wechat/internal/rewrite"
)

// Platform makes what stands in the place of WeChat's credentials in deliveries to a
// platform. Its functions do not block and are safe for concurrent use.
type Platform struct {
	// Code returns a new gateway code for an account, which is valid until expires. No
	// two are the same, and none is kept.
	Code func(appID string, now time.Time) (code string, expires time.Time)
	// Ticket returns a new gateway ticket.
	Ticket func() string
}

// The elements of an authorised event that had credentials in them.
const (
	elementCode        = "AuthorizationCode"
	elementCodeExpires = "AuthorizationCodeExpiredTime"
	elementPreAuthCode = "PreAuthCode"
	elementAuthCode    = "auth_code" // of a fast registration
)

// withheld is what a platform gets in the place of a pre_auth_code, because SDKs read the
// element. A pre_auth_code can open the page on which an account authorises, and it may
// be one that the gateway's own launch page has fetched, so it stays here.
const withheld = "withheld"

// notAcknowledged is what the log says about errNoSuccess.
const notAcknowledged = "the application has answered something else than success, the event counts as taken"

// errNoSuccess does not quote the answer.
var errNoSuccess = errors.New("reading the answer: not success, with which a platform acknowledges; " + hintAs)

// codeIn returns the name of the element in which an event has a code that can be
// exchanged, "" for none.
func codeIn(e bizmsg.Event) string {
	switch {
	case e.AuthorizationCode == nil:
		return ""
	case e.InfoType == bizmsg.InfoFastRegister:
		return elementAuthCode
	}
	return elementCode
}

// body returns the text of an item as the target gets it. The event of an authorisation
// has, for a platform, a gateway code that is made now: so it can be exchanged however
// long the event has waited, and stands in no queue.
func (t *Target) body(item Item, now time.Time) []byte {
	if t.Platform == nil || item.CodeIn == "" || item.AppID == item.Component {
		return item.Body
	}
	code, expires := t.Platform.Code(item.AppID, now)
	values := []codeValue{{item.CodeIn, code, true}}
	if item.CodeIn == elementCode {
		values = append(values, codeValue{elementCodeExpires, strconv.FormatInt(expires.Unix(), 10), false}, codeValue{elementPreAuthCode, withheld, true})
	}
	if startsJSON(item.Body) {
		return completeJSON(item.Body, values)
	}
	return completeXML(item.Body, values)
}

// codeValue is an element that redact has taken out of an event, with another text.
// The text needs no escapes.
type codeValue struct {
	name, text string
	isText     bool // in JSON it stands between quotes
}

// completeXML adds the elements at the end of the root, which is the end of what redact
// has written.
func completeXML(body []byte, values []codeValue) []byte {
	end := bytes.LastIndex(body, []byte("</"))
	if end < 0 {
		return body
	}
	complete := bytes.Clone(body[:end])
	for _, v := range values {
		complete = append(complete, "<"+v.name+">"+v.text+"</"+v.name+">"...)
	}
	return append(complete, body[end:]...)
}

// completeJSON puts the values where redact has put null.
func completeJSON(body []byte, values []codeValue) []byte {
	complete, err := rewrite.Edit(body, func(name string, value []byte) []byte {
		for _, v := range values {
			switch {
			case plainName(v.name) != plainName(name) || string(value) != "null":
			case v.isText:
				return []byte(strconv.Quote(v.text))
			default:
				return []byte(v.text)
			}
		}
		return nil
	})
	if err != nil { // not of what redact has written
		return body
	}
	return complete
}

// acknowledged returns an error if a platform has answered an event otherwise than
// WeChat wants it: success, or nothing. SDKs may say in such a text that they could not
// read the event.
func (t *Target) acknowledged(item Item, answer []byte) error {
	if silent(answer) {
		return nil
	}
	if opened, err := t.openReply(item, answer); err == nil && silent(opened) {
		return nil
	}
	return errNoSuccess
}

// SendTickets sends a gateway ticket to all platforms under a component that want it. It
// is called when WeChat's own ticket has come, which is every ten minutes, on one node of
// a cluster. It does not wait. What is not taken is not queued: the next one comes.
func (ds *Deliveries) SendTickets(component string) {
	for name, target := range ds.settings().Targets {
		item := Item{Kind: KindOwn, Component: component, AppID: component, InfoType: bizmsg.InfoTicket}
		if name.Component != component || target.Platform == nil || !target.Wants(item) {
			continue
		}
		ds.mu.Lock()
		ds.spawn(func() { ds.sendTicket(target, component) })
		ds.mu.Unlock()
	}
}

// sendTicket sends one ticket to one platform, unless that gets nothing at the moment.
func (ds *Deliveries) sendTicket(t *Target, component string) {
	item := newTicketItem(component, t.Platform.Ticket(), time.Now())
	result, made := ds.send(t, item)
	log := logFor(ds.settings().Log, t.Queue())
	switch {
	case !made:
	case result.Err != nil:
		log.Warn("ticket not delivered, the next one comes in ten minutes", zap.Error(result.Err))
	default:
		metrics.Delivered(t.Client, t.Name, string(KindOwn), metrics.Taken)
		if result.Unusable != nil {
			log.Warn(notAcknowledged, zap.Error(result.Unusable))
		}
	}
}

// newTicketItem returns a ticket in the form of WeChat's.
func newTicketItem(component, ticket string, now time.Time) Item {
	return Item{
		Kind: KindOwn, Component: component, AppID: component, ID: newID(), InfoType: bizmsg.InfoTicket, Arrived: now,
		Body: fmt.Appendf(nil, "<xml><AppId>%s</AppId><CreateTime>%d</CreateTime><InfoType>%s</InfoType><ComponentVerifyTicket>%s</ComponentVerifyTicket></xml>",
			component, now.Unix(), bizmsg.InfoTicket, ticket),
	}
}
