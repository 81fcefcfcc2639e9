package dnsserver

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// packed is an answer that is ready to be sent but for what differs from client to
// client: the header, the name's case, which records and in which order. It is
// immutable. Only answers of a common shape can be packed: records of the question's
// name, in Additional what their targets are, in Authority a SOA. All others take the
// library (fit.go).
type packed struct {
	rcode     int
	truncated bool
	records   []record
	weights   []int // nil where the order means something
	even      bool  // all weights are the same
	most      int   // 0 = all
	targets   []target
	soa       []byte   // the whole record, compressed against the question; nil without
	free      [][]byte // bodies of Additional records of the question's name
}

// record is all of a record but its name: type, class, TTL, length, data.
type record struct {
	body   []byte
	target int // in targets; -1 for none
}

// target is a name that records point at, with the bodies of its own records. Addresses
// are told with each record that points here, texts with the first.
type target struct {
	name             []byte
	addresses, texts [][]byte
}

const (
	pointerSize = 2
	srvTargetAt = 2 + 2 + 4 + 2 + 6 // of the target in the body of an SRV record
	mostPointed = 0x3fff            // a pointer reaches no further
)

// pack makes the packed form, nil where the answer has not that shape. name is the
// question's in wire form; those of records may differ in case.
func pack(a *answer, name []byte, domain string) *packed {
	p := &packed{rcode: a.rcode, truncated: a.truncated, weights: a.weights, even: alike(a.weights), most: a.most}
	qname, _, err := dns.UnpackDomainName(name, 0)
	if err != nil || a.scope != 0 || a.weights != nil && len(a.weights) != len(a.records) {
		return nil
	}
	byName := map[string]int{}
	for _, rr := range a.records {
		_, body := split(rr)
		if body == nil || !strings.EqualFold(rr.Header().Name, qname) {
			return nil
		}
		rec := record{body: body, target: -1}
		switch t := rr.(type) {
		case *dns.A, *dns.AAAA, *dns.TXT:
		case *dns.SRV:
			at, ok := byName[t.Target]
			if !ok {
				at = len(p.targets)
				byName[t.Target] = at
				p.targets = append(p.targets, target{name: body[srvTargetAt:]})
			}
			rec.target = at
		default:
			return nil
		}
		p.records = append(p.records, rec)
	}
	for _, rr := range a.extra {
		_, body := split(rr)
		if body == nil {
			return nil
		}
		at, pointed := byName[rr.Header().Name]
		switch rr.(type) {
		case *dns.A, *dns.AAAA:
			if pointed {
				p.targets[at].addresses = appendNew(p.targets[at].addresses, body)
			}
		case *dns.TXT:
			if pointed {
				p.targets[at].texts = appendNew(p.targets[at].texts, body)
			}
		default:
			return nil
		}
		if pointed {
			continue
		}
		if !strings.EqualFold(rr.Header().Name, qname) {
			return nil
		}
		p.free = append(p.free, body)
	}
	if len(a.ns) == 0 {
		return p
	}
	soa, ok := a.ns[0].(*dns.SOA)
	if !ok || len(a.ns) > 1 {
		return nil
	}
	p.soa = packSOA(soa, name, domain)
	if p.soa == nil {
		return nil
	}
	return p
}

func appendNew(list [][]byte, b []byte) [][]byte {
	if slices.ContainsFunc(list, func(have []byte) bool { return bytes.Equal(have, b) }) {
		return list
	}
	return append(list, b)
}

// split packs a record, without compression, and cuts it behind its name; nil where it
// cannot be packed.
func split(rr dns.RR) (name, body []byte) {
	b := make([]byte, dns.Len(rr)+1)
	n, err := dns.PackRR(rr, b, 0, nil, false)
	if err != nil {
		return nil, nil
	}
	end := skipName(b[:n], 0, false)
	if end < 0 {
		return nil, nil
	}
	return b[:end:end], b[end:n:n]
}

// packSOA packs the zone's SOA with its names compressed: all three end in the domain,
// and so does the question's name.
func packSOA(soa *dns.SOA, name []byte, domain string) []byte {
	zone := make([]byte, 256)
	n, err := dns.PackDomainName(domain, zone, 0, nil, false)
	if err != nil || n > len(name) || soa.Hdr.Name != domain {
		return nil
	}
	at := headerSize + len(name) - n
	ptr := []byte{0xc0 | byte(at>>8), byte(at)}
	label := func(to []byte, full string) []byte {
		first, rest, _ := strings.Cut(full, ".")
		if rest != domain {
			return nil
		}
		to = append(to, byte(len(first)))
		to = append(to, first...)
		return append(to, ptr...)
	}
	var data []byte
	if data = label(data, soa.Ns); data == nil {
		return nil
	}
	if data = label(data, soa.Mbox); data == nil {
		return nil
	}
	for _, v := range []uint32{soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minttl} {
		data = binary.BigEndian.AppendUint32(data, v)
	}
	out := bytes.Clone(ptr)
	out = append(out, 0, byte(dns.TypeSOA), 0, dns.ClassINET)
	out = binary.BigEndian.AppendUint32(out, soa.Hdr.Ttl)
	out = binary.BigEndian.AppendUint16(out, uint16(len(data)))
	return append(out, data...)
}
