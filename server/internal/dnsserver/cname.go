package dnsserver

import (
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxDepth is how many names behind names are followed within our own domain.
const maxDepth = 3

// alias answers with a host name, and with the addresses behind it, if those are asked
// for and can be found out.
func (a *ask) alias(host string, qtype uint16, ttl time.Duration) {
	target := dns.Fqdn(host)
	if !validName(target) || net.ParseIP(host) != nil {
		return
	}
	a.records = append(a.records, &dns.CNAME{Hdr: a.header(dns.TypeCNAME, ttl), Target: target})
	if qtype == dns.TypeA || qtype == dns.TypeAAAA || qtype == dns.TypeANY {
		a.records = append(a.records, a.chase(target, qtype, ttl)...)
	}
}

// chase gives the addresses of a host name: our own, if it is in our domain, else what
// the recursors say; none without recursors. No record's TTL is above ttl.
func (a *ask) chase(target string, qtype uint16, ttl time.Duration) []dns.RR {
	name := dns.CanonicalName(target)
	var found []dns.RR
	switch domain := inDomain(name, a.Domain, a.AltDomain); {
	case domain != "" && a.depth < maxDepth:
		inner := *a
		inner.answer = &answer{}
		inner.qname, inner.name, inner.domain, inner.qtype, inner.depth = target, name, domain, qtype, a.depth+1
		inner.own()
		a.reads = append(a.reads, inner.reads...)
		a.transient = a.transient || inner.transient
		found = inner.records
	case domain == "" && len(a.Recursors) > 0:
		a.transient = true
		found = a.abroad(target, qtype)
	}
	var out []dns.RR
	for _, rr := range found {
		switch rr.Header().Rrtype {
		case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME:
			rr.Header().Ttl = min(rr.Header().Ttl, seconds(ttl))
			out = append(out, rr)
		}
	}
	return out
}

// abroad asks the recursors for the addresses of a name.
func (a *ask) abroad(name string, qtype uint16) []dns.RR {
	types := []uint16{qtype}
	if qtype == dns.TypeANY { // few resolvers still answer that
		types = []uint16{dns.TypeA, dns.TypeAAAA}
	}
	var out []dns.RR
	for _, t := range types {
		q := new(dns.Msg).SetQuestion(name, t)
		q.SetEdns0(1232, false)
		m, err := a.forward(a.ctx, q, true)
		if err != nil {
			a.server.warn(a.Config, "host name not resolved", "name", strings.TrimSuffix(name, "."), "err", err)
			continue
		}
		if m.Truncated {
			if whole, err := a.forward(a.ctx, q, false); err == nil {
				m = whole
			}
			a.truncated = a.truncated || m.Truncated
		}
		for _, rr := range m.Answer {
			if len(out) == 0 || !contains(out, rr) {
				out = append(out, rr)
			}
		}
	}
	return out
}

func contains(list []dns.RR, rr dns.RR) bool {
	for _, have := range list {
		if dns.IsDuplicate(have, rr) {
			return true
		}
	}
	return false
}
