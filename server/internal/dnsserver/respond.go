package dnsserver

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
)

// verdict is what became of a packet.
type verdict int

const (
	ignored  verdict = iota // it wants no answer
	answered                // the answer is at hand
	open                    // it has to be worked out
)

// receive looks at a packet. If it is answered, the answer is valid until sc is used
// again. It does not wait.
func (s *Server) receive(ctx context.Context, packet []byte, from netip.Addr, udp bool, sc *scratch) ([]byte, verdict) {
	r, err := parse(packet, udp)
	r.from = from.Unmap()
	switch {
	case errors.Is(err, errIgnored):
		return nil, ignored
	case err != nil:
		sc.out = r.failure(sc.out[:0], dns.RcodeFormatError, false)
		return sc.out, answered
	}
	s.counts.questions.Add(1)
	var ok bool
	if sc.out, ok = s.quick(ctx, sc.out[:0], &r, sc); ok {
		s.counts.atHand.Add(1)
		return sc.out, answered
	}
	return nil, open
}

// scratches are for packets in work.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// workOut sends the answer to a packet that receive left open.
func (s *Server) workOut(ctx context.Context, packet []byte, from netip.Addr, udp bool, send func([]byte)) {
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	r, err := parse(packet, udp)
	if err != nil {
		return // receive has seen to that
	}
	r.from = from.Unmap()
	sc.out = s.work(ctx, sc.out[:0], packet, &r, sc)
	if sc.out[3]&0xf == dns.RcodeServerFailure {
		s.counts.failed.Add(1)
	}
	send(sc.out)
}

// busy is the answer to a packet that there is no room to work out.
func busy(packet []byte, sc *scratch) []byte {
	r, _ := parse(packet, true)
	sc.out = r.failure(sc.out[:0], dns.RcodeServerFailure, false)
	return sc.out
}

// quick appends the answer to a request, if there is one at hand that still holds.
func (s *Server) quick(ctx context.Context, to []byte, r *request, sc *scratch) ([]byte, bool) {
	cfg := s.cfg.Load()
	if r.flags&opcodeMask != 0 || r.class != dns.ClassINET || r.version != 0 {
		return to, false
	}
	sc.key = r.key(sc.key[:0])
	e := s.cache.get(sc.key)
	if e == nil || !s.holds(ctx, e, cfg) {
		return to, false
	}
	return e.write(to, r, cfg, sc), true
}

// work appends the answer to a packet whose request was read. It takes readBound at most
// for the catalog, and RecursorTimeout for each recursor.
func (s *Server) work(ctx context.Context, to, packet []byte, r *request, sc *scratch) []byte {
	cfg := s.cfg.Load()
	recursion := len(cfg.Recursors) > 0
	name := strings.ToLower(r.text())
	domain := inDomain(name, cfg.Domain, cfg.AltDomain)
	switch {
	case r.flags&opcodeMask != 0, r.qtype == dns.TypeAXFR, r.qtype == dns.TypeIXFR:
		return r.failure(to, dns.RcodeNotImplemented, recursion)
	case r.version != 0:
		return r.failure(to, dns.RcodeBadVers, recursion)
	case domain == "" && !isReverse(name):
		if recursion {
			return s.recurse(ctx, cfg, to, packet, r)
		}
		return r.failure(to, dns.RcodeRefused, false)
	case r.class != dns.ClassINET && r.class != dns.ClassANY:
		return r.failure(to, dns.RcodeRefused, recursion)
	}
	reading, cancel := context.WithTimeout(ctx, readBound)
	defer cancel()
	a := &ask{
		Config: cfg, answer: &answer{}, reading: reading, ctx: ctx, server: s, qname: r.text(), name: name, domain: domain, qtype: r.qtype,
		udp: r.udp, from: r.from, source: r.source(), subnet: r.subnetBits(),
	}
	if domain != "" {
		a.own()
	} else {
		a.domain = cfg.Domain
		if err := a.ptr(); errors.Is(err, errName) && recursion {
			return s.recurse(ctx, cfg, to, packet, r)
		} else {
			a.conclude(err)
		}
	}
	if a.rcode == dns.RcodeServerFailure || a.rcode == dns.RcodeRefused {
		return r.failure(to, a.rcode, recursion)
	}
	return s.say(cfg, to, r, a.answer, domain, sc)
}

// say writes an answer, and remembers it if it can be.
func (s *Server) say(cfg *Config, to []byte, r *request, a *answer, domain string, sc *scratch) []byte {
	if p := pack(a, r.name, domain); p != nil {
		if e := newEntry(a, p, cfg); e != nil {
			s.cache.put(r.key(nil), e)
		}
		return p.write(to, r, cfg, sc)
	}
	out, err := a.fit(to, r, cfg)
	if err != nil {
		s.warn(cfg, "answer does not pack", "name", r.text(), "type", dns.TypeToString[r.qtype], "err", err)
		return r.failure(to, dns.RcodeServerFailure, len(cfg.Recursors) > 0)
	}
	return out
}

// conclude turns what a lookup ended with into a code, and adds the SOA where there is
// nothing to say.
func (a *ask) conclude(err error) {
	switch {
	case err == nil:
	case errors.Is(err, errName), errors.Is(err, api.ErrNoPath), api.KindOf(err) == api.NotFound:
		a.rcode = dns.RcodeNameError
	case errors.Is(err, errRefused), api.KindOf(err) == api.Forbidden:
		a.rcode, a.transient = dns.RcodeRefused, true
		return
	default:
		a.server.warn(a.Config, "question not answered", "name", a.name, "err", err)
		a.rcode, a.transient = dns.RcodeServerFailure, true
		return
	}
	if len(a.records) == 0 && !a.truncated {
		a.ns = append(a.ns, a.soa())
	}
}
