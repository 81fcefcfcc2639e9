package dnsserver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// fit writes an answer of any shape, by the library, within what the client takes.
func (a *answer) fit(to []byte, r *request, c *Config) ([]byte, error) {
	m := &dns.Msg{Question: []dns.Question{{Name: r.text(), Qtype: r.qtype, Qclass: r.class}}}
	m.Id, m.Response, m.Authoritative, m.Rcode, m.Compress = r.id, true, true, a.rcode, !c.NoCompression
	m.RecursionDesired, m.CheckingDisabled = r.flags&flagRD != 0, r.flags&flagCD != 0
	m.RecursionAvailable = len(c.Recursors) > 0
	m.Ns, m.Extra = a.ns, a.extra
	total := len(a.records)
	if a.most > 0 {
		total = min(total, a.most)
	}
	if a.weights == nil {
		m.Answer = a.records
	} else {
		var o order
		if o.weighted(a.weights); c.Strict {
			o.even(len(a.weights))
		}
		for range a.weights {
			m.Answer = append(m.Answer, a.records[o.next()])
		}
	}
	m.Answer = m.Answer[:min(total, c.count(r))]
	limit := r.size - r.optSize()
	for m.Len() > limit {
		switch {
		case len(m.Extra) > 0:
			m.Extra = m.Extra[:fewer(len(m.Extra), limit, m.Len())]
		case len(m.Ns) > 0:
			m.Ns = nil
		case len(m.Answer) > 0:
			m.Answer = m.Answer[:fewer(len(m.Answer), limit, m.Len())]
		default:
			return nil, errFormat // the question alone is too long
		}
	}
	m.Extra = pointedAt(m)
	m.Truncated = (a.truncated || len(m.Answer) < total) && (!c.Strict || c.EnableTruncate)
	wire, err := m.Pack()
	if err != nil {
		return nil, err
	}
	base := len(to)
	to = r.appendOPT(append(to, wire...), a.rcode, a.scope)
	if r.edns {
		binary.BigEndian.PutUint16(to[base+10:], uint16(len(m.Extra)+1))
	}
	return to, nil
}

// fewer than n, by about as much as the size is above the limit: it grows about
// linearly.
func fewer(n, limit, size int) int { return max(min(n*limit/size, n-1), 0) }

// pointedAt gives of Additional what belongs to the question or to a name that the
// other records point at.
func pointedAt(m *dns.Msg) []dns.RR {
	wanted := map[string]bool{dns.CanonicalName(m.Question[0].Name): true}
	for _, list := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range list {
			switch t := rr.(type) {
			case *dns.SRV:
				wanted[dns.CanonicalName(t.Target)] = true
			case *dns.NS:
				wanted[dns.CanonicalName(t.Ns)] = true
			}
		}
	}
	var kept []dns.RR
	for _, rr := range m.Extra {
		name := dns.CanonicalName(rr.Header().Name)
		if c, ok := rr.(*dns.CNAME); ok && wanted[name] {
			wanted[dns.CanonicalName(c.Target)] = true // what is behind comes behind it
		}
		if wanted[name] {
			kept = append(kept, rr)
		}
	}
	return kept
}
