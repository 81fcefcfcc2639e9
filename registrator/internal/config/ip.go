package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// resolveIPs reads what -ip says: one or two (of both families) of an address, the name of
// a network interface, or a network in CIDR form of which this host has an address. Where
// there is no IPv4, v4 is the IPv6 address, too: it is the host's.
func resolveIPs(text string) (v4, v6 string, err error) {
	if text == "" {
		return "", "", nil
	}
	parts := strings.Split(text, ",")
	for _, p := range parts {
		addrs, err := hostAddrs(strings.TrimSpace(p))
		if err != nil {
			return "", "", err
		}
		for _, a := range addrs {
			if a.Unmap().Is4() && v4 == "" {
				v4 = a.Unmap().String()
			} else if a.Is6() && v6 == "" {
				v6 = a.String()
			}
		}
	}
	if len(parts) > 2 || len(parts) == 2 && (v4 == "" || v6 == "") {
		return "", "", fmt.Errorf("%q: give one, or one IPv4 and one IPv6", text)
	}
	return cmp.Or(v4, v6), v6, nil
}

// hostAddrs gives the addresses that one part of -ip means.
func hostAddrs(v string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(v); err == nil {
		return []netip.Addr{ip}, nil
	}
	if nic, err := net.InterfaceByName(v); err == nil {
		addrs, err := nic.Addrs()
		if err != nil {
			return nil, err
		}
		return usable(addrs, func(netip.Addr) bool { return true }, v)
	}
	p, err := netip.ParsePrefix(v)
	if err != nil {
		return nil, fmt.Errorf("%q is no address, no network interface of this host and no network such as 10.0.0.0/8", v)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	return usable(addrs, p.Contains, v)
}

// usable gives the addresses that others may reach.
func usable(addrs []net.Addr, fits func(netip.Addr) bool, what string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLinkLocalUnicast() && fits(p.Addr()) {
			out = append(out, p.Addr())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("this host has no address on %s", what)
	}
	return out, nil
}
