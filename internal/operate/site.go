// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// Site knows what requests to the launch page have shown of a proxy in front, where
// public_url is not configured. The zero value is ready for use. It is safe for
// concurrent use and waits for nothing.
type Site struct {
	last atomic.Pointer[front]
}

// front is what a proxy has said that differs from what the gateway has made of the
// request. Anybody can say that, so what was said is not kept.
type front struct {
	at           time.Time
	scheme, host bool // which of the two differs
}

// Note looks at a request to the launch page, whose URL for browsers the gateway takes to
// be self.
func (s *Site) Note(self string, header http.Header) {
	u, err := url.Parse(self)
	if err != nil {
		return
	}
	scheme, host := forwarded(header.Get("Forwarded"))
	if first := firstOf(header.Get("X-Forwarded-Proto")); first != "" {
		scheme = first
	}
	if first := firstOf(header.Get("X-Forwarded-Host")); first != "" {
		host = first
	}
	f := front{at: time.Now(), scheme: scheme != "" && !strings.EqualFold(scheme, u.Scheme), host: host != "" && !strings.EqualFold(portless(host), portless(u.Host))}
	if f.scheme || f.host {
		s.last.Store(&f)
	}
}

// firstOf returns what the first of several proxies has said, which is the one that the
// browser has spoken to.
func firstOf(list string) string {
	first, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(first)
}

// portless returns a host without the ports that browsers leave out.
func portless(host string) string {
	return strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
}

// forwarded returns scheme and host in a header Forwarded (RFC 7239).
func forwarded(header string) (scheme, host string) {
	for pair := range strings.SplitSeq(firstOf(header), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		switch value = strings.Trim(value, `"`); strings.ToLower(name) {
		case "proto":
			scheme = value
		case "host":
			host = value
		}
	}
	return scheme, host
}

// check is the doctor's check of public_url.
func (s *Site) check() result {
	const check = "public_url"
	f := s.last.Load()
	if f == nil {
		return well(check, "", "no request to the launch page has come through a proxy that changes its address")
	}
	what := "scheme and host"
	switch {
	case !f.host:
		what = "scheme"
	case !f.scheme:
		what = "host"
	}
	return wrong(check, "", "a request to the launch page came through a proxy "+ago(f.at)+", which says that the browser has used another "+what+
		" than the gateway tells WeChat", "set public_url in wechat_platform to the scheme and host that browsers use; without a proxy in front, somebody has made this request up")
}
