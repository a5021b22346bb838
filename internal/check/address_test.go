// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/netip"
	"strings"
	"testing"
)

func TestFromTakesAddressesAndRanges(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7":              "192.0.2.7/32",
		"10.0.0.0/8":             "10.0.0.0/8",
		"10.1.2.3/8":             "10.0.0.0/8", // as Caddy's trusted_proxies reads it
		"0.0.0.0/0":              "0.0.0.0/0",
		"2001:db8::1":            "2001:db8::1/128",
		"2001:DB8::/32":          "2001:db8::/32",
		"::ffff:192.0.2.7":       "192.0.2.7/32",
		"::ffff:192.0.2.0/120":   "192.0.2.0/24",
		"::ffff:0:0/96":          "0.0.0.0/0",
		"::/0":                   "::/0",
		"::ffff:c000:0207/128":   "192.0.2.7/32",
		"":                       "",
		"10.0.0.0/33":            "",
		"10.0.0.0/-1":            "",
		"10.0.0.0/":              "",
		"10.0.0.0/255.0.0.0":     "",
		"10.0.0":                 "",
		"010.0.0.1":              "",
		"10.0.0.1:80":            "",
		"10.0.0.1-10.0.0.9":      "",
		"*":                      "",
		"localhost":              "",
		"shop.internal":          "",
		"fe80::1%eth0":           "",
		"fe80::%eth0/64":         "",
		"::ffff:192.0.2.0/95":    "", // neither IPv4 nor IPv6
		"[2001:db8::1]":          "",
		"2001:db8::/129":         "",
		"private_ranges":         "",
		"10.0.0.0/8,192.0.2.0/8": "",
		" 10.0.0.1":              "",
	} {
		prefix, err := ParseFrom(text)
		if want == "" {
			if err == nil {
				t.Errorf("%q is read as %v", text, prefix)
			}
			continue
		}
		if err != nil || prefix != netip.MustParsePrefix(want) {
			t.Errorf("%q is read as %v, %v; want %s", text, prefix, err, want)
		}
	}
}

// A secret in the wrong place is not quoted.
func TestFromDoesNotQuoteASecret(t *testing.T) {
	const secret = "shop-secret-0123456789abcdef0123456789"
	if err := From(secret); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error %v", err)
	}
}
