// SPDX-License-Identifier: Apache-2.0

package delivery

import "context"

// SetSend makes attempts without a request. It must be called before Serve.
func (c *Courier) SetSend(send func(context.Context, *Target, Item) Result) { c.send = send }
