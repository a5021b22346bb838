// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// probeTimeout bounds the look at one host.
	probeTimeout = 5 * time.Second
	// maxProbed is how much of a host's answer is read, in bytes: an errcode and a text.
	maxProbed = 64 << 10
)

// Probed is what a look at one host of the API has shown.
type Probed struct {
	Host  string        // as in Client.Hosts, without scheme and credentials
	Err   error         // nil if it has answered; its text shows no URL
	Dated bool          // it has told its time
	Ahead time.Duration // how far its clock is ahead of this one, correct to a second and half the round trip
	Is    Nature        // who has answered, if Err is nil
}

// Nature is who answers under the name of a host of the API.
type Nature uint8

// Natures of hosts.
const (
	WeChat  Nature = iota // an answer in the form of WeChat's
	Gateway               // a gateway: the name leads to one, or back to this one
	Foreign               // something else, such as the page of a proxy in between
)

// MisledTLS reports whether the host has shown a certificate that is not for its name, or
// from nobody that is trusted here: its name leads elsewhere, or a proxy is in between.
func (p Probed) MisledTLS() bool {
	var verification *tls.CertificateVerificationError
	return errors.As(p.Err, &verification)
}

// Probe looks at all hosts at the same time, with a call without a token that WeChat
// refuses. It counts for no quota. It waits no longer than five seconds, and no longer
// than ctx. The results are in the order of Hosts.
func (c *Client) Probe(ctx context.Context) []Probed {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	all := make([]Probed, len(c.hosts()))
	var looks sync.WaitGroup
	for i, host := range c.hosts() {
		looks.Go(func() { all[i] = c.probe(ctx, host) })
	}
	looks.Wait()
	return all
}

// probe looks at one host.
func (c *Client) probe(ctx context.Context, host string) Probed {
	p := Probed{Host: shownHost(host)}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(host, "/")+EndpointDomainIP, nil)
	if err != nil {
		p.Err = silence(err, nil, nil)
		return p
	}
	request.Header.Set(HopHeader, "1")
	sent := time.Now()
	response, err := c.transport().RoundTrip(request)
	if err != nil {
		p.Err = silence(err, nil, nil)
		return p
	}
	defer response.Body.Close()
	took := time.Since(sent)
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		// The header has whole seconds, rounded down: half a second is added.
		p.Dated, p.Ahead = true, date.Add(time.Second/2).Sub(sent.Add(took/2))
	}
	data, _ := io.ReadAll(io.LimitReader(response.Body, maxProbed)) // what is missing is no answer of WeChat's
	verdict, err := judge(data)
	switch {
	case response.Header.Get(GatewayHeader) != "":
		p.Is = Gateway
	case response.StatusCode != http.StatusOK || err != nil || verdict.code == 0:
		p.Is = Foreign
	}
	return p
}

// shownHost returns the host and port of a base URL.
func shownHost(base string) string {
	if u, err := url.Parse(base); err == nil {
		return u.Host
	}
	return "a host that is no URL"
}
