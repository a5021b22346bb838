// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"context"
	"net/http"
)

// Live tells that a configuration with the gateway is in force.
func (o *Operator) Live(_ context.Context, query string) (Live, error) {
	if _, err := parseQuery(query); err != nil {
		return Live{}, err
	}
	return Live{Status: "ok"}, nil
}

// Ready tells that pushes and calls can be served: a configuration is in force, and
// storage has answered once since the start of the process. A storage that fails later,
// or a ticket that is missing, is no reason to send pushes elsewhere, for they are the
// cure; see Status. It does not wait for the storage.
func (o *Operator) Ready(ctx context.Context, query string) (Live, error) {
	live, err := o.Live(ctx, query)
	if err != nil {
		return Live{}, err
	}
	if !o.Storage().Answered() {
		return Live{}, NotReady()
	}
	return live, nil
}

// NotReady returns the error of Ready. It is shown to the public, and says nothing of
// where the storage is.
func NotReady() *Error {
	return &Error{Status: http.StatusServiceUnavailable, Text: "storage has not answered since the start", Remedy: "see whether Caddy's storage can be reached"}
}
