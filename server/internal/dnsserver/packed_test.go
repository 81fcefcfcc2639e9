package dnsserver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The packed form says what the library would, whole answers and cut ones.
func TestPackedLikeLibrary(t *testing.T) {
	t.Parallel()
	cfg := Config{Endpoint: world(), Datacenter: "dc1", InPlace: true, NodeMetaTXT: true}
	for _, strict := range []bool{false, true} {
		cfg.Strict = strict
		for _, compress := range []bool{true, false} {
			cfg.NoCompression = !compress
			s := New(cfg)
			for _, seed := range seeds(t) {
				for _, size := range []uint16{0, 512, 700, 4096, 65535} {
					likeLibrary(t, s, seed, size)
				}
			}
		}
	}
}

func likeLibrary(t *testing.T, s *Server, seed []byte, size uint16) {
	t.Helper()
	q := new(dns.Msg)
	if err := q.Unpack(seed); err != nil {
		t.Fatal(err)
	}
	q.Extra = nil
	if size > 0 {
		q.SetEdns0(size, false)
	}
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	r, err := parse(packet, true)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg.Load()
	name := strings.ToLower(r.text())
	a := &ask{
		Config: cfg, answer: &answer{}, ctx: t.Context(), reading: t.Context(), server: s, qname: r.text(), name: name, domain: inDomain(name, cfg.Domain), qtype: r.qtype,
		udp: true, from: netip.MustParseAddr("127.0.0.1"),
	}
	if a.domain == "" {
		return
	}
	a.own()
	p := pack(a.answer, r.name, a.domain)
	if p == nil || a.rcode == dns.RcodeServerFailure {
		return
	}
	var sc scratch
	packed, library := new(dns.Msg), new(dns.Msg)
	if err := packed.Unpack(p.write(nil, &r, cfg, &sc)); err != nil {
		t.Fatalf("%s: %v", q.Question[0].String(), err)
	}
	b, err := a.fit(nil, &r, cfg)
	if err != nil {
		t.Fatalf("%s: %v", q.Question[0].String(), err)
	}
	if err := library.Unpack(b); err != nil {
		t.Fatalf("%s: %v", q.Question[0].String(), err)
	}
	whole := !packed.Truncated && !library.Truncated && len(packed.Answer) == len(a.records)
	if whole && size > 4096 {
		if got, want := records(packed), records(library); got != want {
			t.Errorf("%s size %d:\npacked\n%s\nlibrary\n%s", q.Question[0].String(), size, got, want)
		}
	}
	if packed.Rcode != library.Rcode || packed.Authoritative != library.Authoritative || packed.RecursionDesired != library.RecursionDesired {
		t.Errorf("%s size %d: packed %v, library %v", q.Question[0].String(), size, packed.MsgHdr, library.MsgHdr)
	}
	for _, rr := range packed.Answer {
		if !slices.ContainsFunc(a.records, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
			t.Errorf("%s size %d: %s is not of the answer", q.Question[0].String(), size, rr)
		}
	}
	targets := map[string]bool{strings.ToLower(q.Question[0].Name): true}
	for _, rr := range packed.Answer {
		if srv, ok := rr.(*dns.SRV); ok {
			targets[srv.Target] = true
		}
	}
	for _, rr := range packed.Extra {
		if _, ok := rr.(*dns.OPT); !ok && !targets[rr.Header().Name] {
			t.Errorf("%s size %d: %s belongs to no answer", q.Question[0].String(), size, rr)
		}
	}
}

// records is all that a message says, sorted.
func records(m *dns.Msg) string {
	var out []string
	for i, list := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range list {
			out = append(out, string(rune('0'+i))+" "+rr.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// An entry that is kept holds until the catalog says otherwise, and no longer.
func TestKeptAnswers(t *testing.T) {
	t.Parallel()
	c := world()
	s := New(Config{Endpoint: c, Datacenter: "dc1", InPlace: true})
	if r := ask1(t, s, "six.service.consul.", dns.TypeAAAA, true, 0); len(r.Answer) != 1 {
		t.Fatal(r)
	}
	if len(s.cache.entries) != 1 {
		t.Errorf("%d answers are kept, want 1", len(s.cache.entries))
	}
	c.mu.Lock()
	c.services["six"] = append(slices.Clone(c.services["six"]), inst("n8", "fd00::8", "", 80, "passing"))
	clear(c.given)
	c.mu.Unlock()
	if r := ask1(t, s, "SIX.service.consul.", dns.TypeAAAA, true, 0); len(r.Answer) != 2 || r.Answer[0].Header().Name != "SIX.service.consul." {
		t.Errorf("after a change: %v", r)
	}
	for _, transient := range []string{"consul. SOA", "named.service.consul. A", "ask.me.query.consul. A", "broken.service.consul. A", "0a000001.addr.consul. A"} {
		name, kind, _ := strings.Cut(transient, " ")
		ask1(t, s, name, dns.StringToType[kind], true, 0)
	}
	if len(s.cache.entries) != 1 {
		t.Errorf("%d answers are kept, want 1", len(s.cache.entries))
	}
	s.Reload(Config{Datacenter: "dc1", InPlace: true, NodeTTL: 1, ServiceTTL: map[string]time.Duration{"S*": 4 * time.Second}})
	if r := ask1(t, s, "six.service.consul.", dns.TypeAAAA, true, 0); r.Answer[0].Header().Ttl != 4 {
		t.Errorf("after a reload: %v", r.Answer)
	}
}
