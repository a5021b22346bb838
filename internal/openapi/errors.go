// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
)

// Outage means that there was no answer one can believe: WeChat unreachable,
// a time-out, another status than 200 (redirects included), an answer that is
// empty, too large, not JSON, or without the token that was asked for. Whether
// WeChat has carried the call out is unknown, unless the host could not be
// dialled.
type Outage struct {
	Endpoint string // such as api_component_token
	Status   int    // of the HTTP answer, 0 when there was none
	Err      error  // never shows a URL or anything that was sent
}

// Error implements error.
func (o *Outage) Error() string {
	if o.Status == 0 {
		return fmt.Sprintf("%s: %v", o.Endpoint, o.Err)
	}
	return fmt.Sprintf("%s: HTTP status %d: %v", o.Endpoint, o.Status, o.Err)
}

// Unwrap gives the cause, so that errors.Is finds context.DeadlineExceeded.
func (o *Outage) Unwrap() error { return o.Err }

func malformed(endpoint string) error {
	return &Outage{Endpoint: endpoint, Status: http.StatusOK, Err: errMalformed}
}

// Refusal is WeChat saying no.
type Refusal struct {
	Endpoint string     // such as api_component_token
	Code     int        // errcode, never 0
	IP       netip.Addr // our address as WeChat saw it, where Code is 61004 or 40164 and errmsg names it
	RID      string     // WeChat's id of the call, to quote to its support; "" if none

	// Message is the errmsg, for the client on whose behalf the call was made.
	// It is not part of the error's text and for no log, because it may echo
	// input; what is useful in it stands in IP and RID.
	Message string
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.RID == "" {
		return fmt.Sprintf("%s: errcode %d", r.Endpoint, r.Code)
	}
	return fmt.Sprintf("%s: errcode %d (rid %s)", r.Endpoint, r.Code, r.RID)
}

// newRefusal reads the parts of errmsg that are worth keeping.
func newRefusal(endpoint string, v verdict) *Refusal {
	r := &Refusal{Endpoint: endpoint, Code: v.code, Message: v.message, RID: RID(v.message)}
	if r.Code == 61004 || r.Code == 40164 {
		r.IP = Addr(v.message)
	}
	return r
}

// RID returns WeChat's id of a call from an errmsg, or from the beginning of an answer
// that has one; "" if there is none.
func RID(text string) string {
	if match := rid.FindStringSubmatch(text); match != nil {
		return match[1]
	}
	return ""
}

// rid is narrow, so that nothing else that errmsg echoes can pass for one.
var rid = regexp.MustCompile(`rid: ([0-9a-f]{1,8}-[0-9a-f]{1,8}-[0-9a-f]{1,8})\b`)

// Addr returns the first IP address in an errmsg, or in the beginning of an answer that
// has one; the zero Addr if there is none: "access clientip is not
// registered requestIP: 192.0.2.1" or "invalid ip 192.0.2.1 ipv6
// ::ffff:192.0.2.1, not in whitelist".
func Addr(text string) netip.Addr {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("0123456789abcdefABCDEF.:", r)
	})
	for _, word := range words {
		if !strings.HasPrefix(word, "::") {
			word = strings.TrimPrefix(word, ":")
		}
		if addr, err := netip.ParseAddr(strings.TrimRight(word, ".")); err == nil {
			return addr.Unmap()
		}
	}
	return netip.Addr{}
}
