package dnsserver

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/miekg/dns"
)

// Sizes of messages, in bytes.
const (
	headerSize = 12
	plainUDP   = 512   // over UDP, to who did not say more
	mostUDP    = 65507 // what one IPv4 datagram carries
	mostTCP    = 65535
)

// Bits of the header's second word.
const (
	flagQR     = 1 << 15
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagCD     = 1 << 4
	opcodeMask = 0xf << 11
)

// request is what a packet asks, and how much its sender can take.
type request struct {
	id, flags uint16
	name      []byte // in wire form, as it was written; part of the packet
	qtype     uint16
	class     uint16
	udp       bool
	from      netip.Addr

	edns    bool
	version uint8 // of EDNS
	size    int   // the most bytes of an answer
	told    uint16
	do      bool
	subnet  []byte // data of the client-subnet option; nil without; part of the packet
}

var (
	// errIgnored: not even an error may be answered, for that could make two servers
	// talk to each other for ever.
	errIgnored = errors.New("not a question")
	// errFormat: the packet cannot be read; FORMERR.
	errFormat = errors.New("malformed packet")
)

// parse reads a packet. With errFormat, what has been read stands in the request.
func parse(p []byte, udp bool) (request, error) {
	r := request{udp: udp, size: mostTCP}
	if udp {
		r.size = plainUDP
	}
	if len(p) < headerSize {
		return r, errIgnored
	}
	r.id, r.flags = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	if r.flags&flagQR != 0 {
		return r, errIgnored
	}
	if binary.BigEndian.Uint16(p[4:]) != 1 {
		return r, errFormat
	}
	end := skipName(p, headerSize, false)
	if end < 0 || end+4 > len(p) {
		return r, errFormat
	}
	r.name = p[headerSize:end]
	r.qtype, r.class = binary.BigEndian.Uint16(p[end:]), binary.BigEndian.Uint16(p[end+2:])
	before := int(binary.BigEndian.Uint16(p[6:])) + int(binary.BigEndian.Uint16(p[8:]))
	return r, r.records(p, end+4, before, int(binary.BigEndian.Uint16(p[10:])))
}

// records steps over the records behind the question and takes in the OPT among the
// additional ones.
func (r *request) records(p []byte, at, before, additional int) error {
	for i := range before + additional {
		end := skipName(p, at, true)
		if end < 0 || end+10 > len(p) {
			return errFormat
		}
		data := end + 10
		next := data + int(binary.BigEndian.Uint16(p[end+8:]))
		if next > len(p) {
			return errFormat
		}
		if i >= before && binary.BigEndian.Uint16(p[end:]) == dns.TypeOPT {
			if r.edns || end != at+1 {
				return errFormat // two of them, or not at the root
			}
			if err := r.opt(p[end:data], p[data:next]); err != nil {
				return err
			}
		}
		at = next
	}
	return nil
}

// skipName gives the offset behind the name at off, -1 where there is no name. A
// pointer to elsewhere ends a name, where pointers are allowed.
func skipName(p []byte, off int, pointers bool) int {
	for length := 0; off < len(p); {
		n := int(p[off])
		switch {
		case n == 0:
			return off + 1
		case n&0xc0 == 0xc0 && pointers:
			if off+2 > len(p) {
				return -1
			}
			return off + 2
		case n&0xc0 != 0:
			return -1
		}
		off += n + 1
		if length += n + 1; length > 254 {
			return -1
		}
	}
	return -1
}

// key appends what an answer is kept by: the name in lower case, the type.
func (r *request) key(to []byte) []byte {
	for _, c := range r.name {
		if 'A' <= c && c <= 'Z' { // no length of a label is that high
			c += 'a' - 'A'
		}
		to = append(to, c)
	}
	return append(to, byte(r.qtype>>8), byte(r.qtype))
}

// text is the name as people write it, in the client's case.
func (r *request) text() string {
	name, _, err := dns.UnpackDomainName(r.name, 0)
	if err != nil {
		return "."
	}
	return name
}

// failure is an answer of a code and nothing else.
func (r *request) failure(to []byte, rcode int, recursion bool) []byte {
	flags := flagQR | r.flags&(opcodeMask|flagRD|flagCD) | uint16(rcode&0xf)
	if recursion {
		flags |= flagRA
	}
	count := byte(0)
	if r.name != nil {
		count = 1
	}
	extra := byte(0)
	if r.edns {
		extra = 1
	}
	to = append(to, byte(r.id>>8), byte(r.id), byte(flags>>8), byte(flags), 0, count, 0, 0, 0, 0, 0, extra)
	if r.name != nil {
		to = append(to, r.name...)
		to = append(to, byte(r.qtype>>8), byte(r.qtype), byte(r.class>>8), byte(r.class))
	}
	return r.appendOPT(to, rcode, 0)
}
