package dnsserver

import (
	"github.com/miekg/dns"
)

// fit cuts a reply to what the client takes: without EDNS 512 bytes and a few answers
// over UDP, with it what the client says, 64 KB over TCP. TC tells that answers are
// missing; the last one always stays.
func (c *Config) fit(m *dns.Msg, r *dns.Msg, udp bool) {
	size, count := dns.MaxMsgSize-1, len(m.Answer)
	edns := r.IsEdns0()
	if udp {
		size = dns.MinMsgSize
		if edns != nil {
			size = max(int(edns.UDPSize()), size)
		} else {
			count = min(count, 8, c.UDPAnswerLimit)
		}
	}
	if edns != nil {
		m.SetEdns0(edns.UDPSize(), edns.Do())
		echoSubnet(m, edns)
	}
	if count < len(m.Answer) {
		m.Answer = m.Answer[:count]
		m.Truncated = true
	}
	if m.Len() <= size {
		prune(m)
		return
	}
	m.Ns = nil
	for len(m.Answer) > 1 && m.Len() > size {
		// Len grows about linearly: go most of the way at once
		keep := max(len(m.Answer)*size/m.Len(), 1)
		if keep == len(m.Answer) {
			keep--
		}
		m.Answer = m.Answer[:max(keep, 1)]
		m.Truncated = true
		prune(m)
	}
	for m.Len() > size && len(m.Extra) > 0 {
		last := len(m.Extra) - 1
		if m.Extra[last].Header().Rrtype == dns.TypeOPT {
			if last == 0 {
				return
			}
			last--
		}
		m.Extra = append(m.Extra[:last], m.Extra[last+1:]...)
	}
}

// prune leaves in Extra only what the answers still point at.
func prune(m *dns.Msg) {
	if !m.Truncated {
		return
	}
	wanted := map[string]bool{}
	for _, rr := range m.Answer {
		if s, ok := rr.(*dns.SRV); ok {
			wanted[s.Target] = true
		}
	}
	for _, rr := range m.Ns {
		if n, ok := rr.(*dns.NS); ok {
			wanted[n.Ns] = true
		}
	}
	kept := m.Extra[:0]
	for _, rr := range m.Extra {
		if rr.Header().Rrtype == dns.TypeOPT || wanted[rr.Header().Name] {
			kept = append(kept, rr)
		}
	}
	m.Extra = kept
}

// echoSubnet gives the client's subnet back with scope 0: the answer does not depend on
// it.
func echoSubnet(m *dns.Msg, edns *dns.OPT) {
	for _, o := range edns.Option {
		if s, ok := o.(*dns.EDNS0_SUBNET); ok {
			e := *s
			e.SourceScope = 0
			opt := m.IsEdns0()
			opt.Option = append(opt.Option, &e)
		}
	}
}
