package api

import (
	"net/netip"
	"strings"
)

// CanonicalAddress gives the one form of an address that may be written in several ways:
// IPv6 in short, IPv4 inside IPv6 as IPv4, host names in lower case.
func CanonicalAddress(addr string) string {
	if strings.Contains(addr, ":") {
		if ip, err := netip.ParseAddr(addr); err == nil {
			return ip.Unmap().String()
		}
	}
	return strings.ToLower(addr)
}
