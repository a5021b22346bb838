// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net"
	"net/netip"
	"testing"
)

// FuzzFrom holds a range of addresses against package net: where one is accepted,
// both find the same clients in it.
func FuzzFrom(f *testing.F) {
	for _, row := range [][2]string{
		{"192.0.2.7", "192.0.2.7"}, {"10.0.0.0/8", "10.255.0.1"}, {"10.1.2.3/8", "10.255.0.1"}, {"2001:db8::/32", "2001:db8:1::1"},
		{"::ffff:10.0.0.0/104", "10.0.0.1"}, {"::ffff:0:0/95", "10.0.0.1"}, {"::ffff:192.0.2.7", "192.0.2.7"}, {"::/0", "10.0.0.1"}, {"0.0.0.0/0", "::1"},
		{"fe80::1%eth0", "fe80::1"}, {"fe80::/10", "fe80::1"}, {"10.0.0.0/08", "10.0.0.1"}, {"010.0.0.1", "10.0.0.1"}, {"10.0.0.0/33", "10.0.0.1"}, {"", ""},
	} {
		f.Add(row[0], row[1])
	}
	f.Fuzz(func(t *testing.T, text, client string) {
		prefix, err := ParseFrom(text)
		if err != nil {
			return
		}
		_, known, err := net.ParseCIDR(text)
		if address := net.ParseIP(text); address != nil {
			known, err = &net.IPNet{IP: address, Mask: net.CIDRMask(128, 128)}, nil
		}
		if err != nil {
			t.Fatalf("%q is read as %v: %v", text, prefix, err)
		}
		address, err := netip.ParseAddr(client)
		if err != nil {
			return
		}
		// As the gateway compares it: without a zone, IPv4 in IPv6 as IPv4.
		address = address.Unmap().WithZone("")
		if got, want := prefix.Contains(address), known.Contains(address.AsSlice()); got != want {
			t.Errorf("%q contains %v: %t, package net says %t", text, address, got, want)
		}
	})
}
