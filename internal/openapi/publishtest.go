// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"context"
	"errors"

	"github.com/caddy-wechat/caddy-wechat/internal/secret"
)

// ReturnCode sends the text by which WeChat's publish test sees that a platform has used
// the code of a message: the code and "_from_api", as a customer service message of the
// account whose token it is, to the sender of the message
// (developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/operation/thirdparty/releases_instructions.html).
// After an Outage it may have been sent.
func (c *Client) ReturnCode(ctx context.Context, token secret.Secret, openid string, code secret.Secret) error {
	_, err := c.call(ctx, EndpointCustomSend, token, Params{
		"touser":  openid,
		"msgtype": "text",
		"text":    Params{"content": code.Reveal() + "_from_api"},
	})
	if outage := new(Outage); errors.As(err, &outage) {
		outage.Err = silence(outage.Err, code, nil) // call has looked for the token alone
	}
	return err
}
