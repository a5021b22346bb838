// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseFrom parses an address or a range of addresses in CIDR form, as a
// netip.Prefix that contains no address with a zone and none of IPv4 in IPv6: a
// client's address must be compared without either.
func ParseFrom(text string) (netip.Prefix, error) {
	wrong := fmt.Errorf("%s is neither an address nor a range in CIDR form, such as 192.0.2.7 or 10.0.0.0/8", Quote(text))
	if !strings.Contains(text, "/") {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return netip.Prefix{}, wrong
		}
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, wrong
	}
	if address := prefix.Addr(); address.Is4In6() {
		// The first 96 bits say that the rest is IPv4.
		if prefix = netip.PrefixFrom(address.Unmap(), prefix.Bits()-96); !prefix.IsValid() {
			return netip.Prefix{}, wrong
		}
	}
	return prefix.Masked(), nil
}

// From checks an address or a range of addresses, see ParseFrom.
func From(text string) error {
	_, err := ParseFrom(text)
	return err
}
