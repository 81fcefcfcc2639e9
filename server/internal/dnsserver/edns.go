package dnsserver

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

// opt takes in an OPT record: its fixed part and its data.
func (r *request) opt(head, data []byte) error {
	r.edns, r.told = true, binary.BigEndian.Uint16(head[2:])
	r.version, r.do = head[5], head[6]&0x80 != 0
	if r.udp {
		r.size = min(max(int(r.told), plainUDP), mostUDP)
	}
	for len(data) >= 4 {
		code, n := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if n > len(data)-4 {
			return errFormat
		}
		if code == dns.EDNS0SUBNET {
			if r.subnet = data[4 : 4+n]; !validSubnet(r.subnet) {
				r.subnet = nil
				return errFormat
			}
		}
		data = data[4+n:]
	}
	return nil
}

// validSubnet reports whether a client-subnet option's data can be read: a family, how
// many bits of the address count, a scope, and as many bytes as the bits take.
func validSubnet(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	most := map[uint16]int{0: 0, 1: 32, 2: 128}
	bits, known := most[binary.BigEndian.Uint16(b)]
	return known && int(b[2]) <= bits && len(b)-4 <= bits/8
}

// source is the address of who asks: the client-subnet's, where a resolver passes it on.
func (r *request) source() netip.Addr {
	if s := r.subnet; s != nil {
		switch a := s[4:]; binary.BigEndian.Uint16(s) {
		case 1:
			var b [4]byte
			copy(b[:], a)
			return netip.AddrFrom4(b)
		case 2:
			var b [16]byte
			copy(b[:], a)
			return netip.AddrFrom16(b)
		}
	}
	return r.from
}

// subnetBits is how much of the client's subnet is told.
func (r *request) subnetBits() byte {
	if r.subnet == nil {
		return 0
	}
	return r.subnet[2]
}

// optSize is how many bytes the OPT record of the answer will have.
func (r *request) optSize() int {
	switch {
	case !r.edns:
		return 0
	case r.subnet == nil:
		return 11
	}
	return 11 + 4 + len(r.subnet)
}

// appendOPT appends the answer's OPT record: the size that the client said, and its
// subnet with scope saying how much of it the answer depends on.
func (r *request) appendOPT(to []byte, rcode int, scope byte) []byte {
	if !r.edns {
		return to
	}
	var do byte
	if r.do {
		do = 0x80
	}
	to = append(to, 0, 0, byte(dns.TypeOPT), byte(r.told>>8), byte(r.told), byte(rcode>>4), 0, do, 0)
	if r.subnet == nil {
		return append(to, 0, 0)
	}
	n := len(r.subnet)
	to = append(to, byte((n+4)>>8), byte(n+4), 0, dns.EDNS0SUBNET, byte(n>>8), byte(n))
	to = append(to, r.subnet...)
	to[len(to)-n+3] = scope
	return to
}
