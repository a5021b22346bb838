// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// admin makes a request to the node's admin API.
func (n *node) admin(method, path, content string) (string, error) {
	var dialer net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", strings.TrimPrefix(n.Admin, "unix/"))
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(method, "http://admin"+path, strings.NewReader(content))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "text/caddyfile")
	r.Header.Set("Cache-Control", "must-revalidate") // load what has not changed as well
	response, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s %s", method, path, response.Status, body)
	}
	return string(body), err
}

// reload lets the node load its Caddyfile, which may have changed.
func (n *node) reload() error {
	_, err := n.admin(http.MethodPost, "/load", n.Caddyfile())
	return err
}
