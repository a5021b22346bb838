// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"context"
	"time"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// The kinds of shared tickets: that of the JS-SDK, and that of cards.
const (
	TicketJSAPI = "jsapi"
	TicketCard  = "wx_card"
)

// maxSharedTicket is the most bytes that a shared ticket may have. WeChat's have 86.
const maxSharedTicket = 1024

// SharedTicket is a ticket of an account with which applications sign what they hand
// to WeChat's JS-SDK. WeChat demands that an account's applications share it.
type SharedTicket struct {
	Value    secret.Secret
	Lifetime time.Duration // from the moment of the call; positive, and at most a day
}

// SharedTicket fetches a ticket of the account whose token it is
// (developers.weixin.qq.com/doc/service/api/webdev/js/api_getticket). An answer without
// a ticket, or without a lifetime that can be believed, is an Outage: what is shared for
// hours must be known to live.
func (c *Client) SharedTicket(ctx context.Context, kind string, token secret.Secret) (SharedTicket, error) {
	var answer struct {
		Ticket    string `json:"ticket"`
		ExpiresIn number `json:"expires_in"`
	}
	endpoint := EndpointSharedTicket + "?type=" + kind
	_, err := c.callInto(ctx, endpoint, token, nil, &answer)
	if err != nil {
		return SharedTicket{}, err
	}
	lifetime := answer.ExpiresIn.lifetime(0)
	if answer.Ticket == "" || len(answer.Ticket) > maxSharedTicket || lifetime == 0 || repeats(answer.Ticket, token, nil) {
		return SharedTicket{}, malformed(endpoint)
	}
	return SharedTicket{Value: secret.New(answer.Ticket), Lifetime: lifetime}, nil
}
