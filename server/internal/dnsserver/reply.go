package dnsserver

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// ask is one question being answered.
type ask struct {
	*Config
	ctx    context.Context
	server *Server
	name   string   // lower case, with the final dot
	domain string   // the one the name is in
	labels []string // of the name, without the domain
	qtype  uint16
	m      *dns.Msg
}

// errName: there is no such name; the answer is NXDOMAIN.
var errName = errors.New("no such name")

// reply makes the answer to a packet.
func (s *Server) reply(ctx context.Context, r *dns.Msg, udp bool) *dns.Msg {
	cfg := s.cfg.Load()
	if r.Opcode != dns.OpcodeQuery {
		return failure(r, dns.RcodeNotImplemented)
	}
	if len(r.Question) != 1 {
		return failure(r, dns.RcodeFormatError)
	}
	q := r.Question[0]
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = len(cfg.Recursors) > 0
	m.Compress = !cfg.NoCompression
	a := &ask{Config: cfg, ctx: ctx, server: s, name: strings.ToLower(q.Name), qtype: q.Qtype, m: m}
	for _, d := range []string{cfg.Domain, cfg.AltDomain} {
		if d != "" && dns.IsSubDomain(d, a.name) {
			a.domain = d
			break
		}
	}
	switch {
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		return failure(r, dns.RcodeNotImplemented)
	case a.domain != "":
		m.Authoritative = true
		a.own()
	case dns.IsSubDomain("in-addr.arpa.", a.name) || dns.IsSubDomain("ip6.arpa.", a.name):
		if !a.ptr() && len(cfg.Recursors) > 0 {
			return a.recurse(r, udp)
		}
	case len(cfg.Recursors) > 0:
		return a.recurse(r, udp)
	default:
		return failure(r, dns.RcodeRefused)
	}
	cfg.fit(m, r, udp)
	return m
}

// own answers a name of our domain.
func (a *ask) own() {
	rest := strings.TrimSuffix(strings.TrimSuffix(a.name, a.domain), ".")
	if rest != "" {
		a.labels = strings.Split(rest, ".")
	}
	switch a.qtype {
	case dns.TypeSOA:
		a.m.Answer = append(a.m.Answer, a.soa())
		a.servers(&a.m.Ns)
		return
	case dns.TypeNS:
		a.servers(&a.m.Answer)
		return
	}
	err := a.lookup()
	switch {
	case errors.Is(err, errName):
		a.m.Rcode = dns.RcodeNameError
	case errors.Is(err, api.ErrNoPath):
		a.m.Rcode = dns.RcodeNameError
	case err != nil:
		a.Log.Warn("question not answered", "name", a.name, "err", err)
		a.m.Rcode = dns.RcodeServerFailure
		return
	}
	if len(a.m.Answer) == 0 {
		a.m.Ns = append(a.m.Ns, a.soa())
	}
}

// lookup finds which kind of name it is: the last label that names a kind decides, and
// behind it may stand a datacenter.
func (a *ask) lookup() error {
	dc, labels := "", a.labels
	kind := func(at int) bool {
		switch labels[at] {
		case "service", "node", "addr", "query":
			return true
		}
		return false
	}
	n := len(labels)
	if n >= 3 && labels[n-1] == "dc" && !kind(n-2) { // the explicit form: <dc>.dc
		labels = append(labels[:n-2:n-2], labels[n-2])
		n--
	}
	switch {
	case n >= 2 && kind(n-1):
		return a.kind(labels[n-1], labels[:n-1], "")
	case n >= 3 && kind(n-2):
		dc = labels[n-1]
		return a.kind(labels[n-2], labels[:n-2], dc)
	case n == 2 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_"):
		return a.kind("service", labels, "")
	case n == 3 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_"):
		return a.kind("service", labels[:2], labels[2])
	}
	return errName
}

func (a *ask) kind(kind string, labels []string, dc string) error {
	switch kind {
	case "node":
		return a.node(strings.Join(labels, "."), dc)
	case "service":
		return a.service(labels, dc)
	case "addr":
		return a.addr(labels)
	}
	return errName
}

// header of a record that answers the question as it was asked.
func (a *ask) header(t uint16, ttl time.Duration) dns.RR_Header {
	return dns.RR_Header{Name: a.m.Question[0].Name, Rrtype: t, Class: dns.ClassINET, Ttl: seconds(ttl)}
}

func seconds(d time.Duration) uint32 { return uint32(max(d, 0) / time.Second) }

func (a *ask) soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: a.domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET},
		Ns:  "ns." + a.domain, Mbox: "hostmaster." + a.domain, Serial: uint32(time.Now().Unix()),
		Refresh: 3600, Retry: 600, Expire: 86400,
	}
}

// servers adds NS records for up to three servers, with their addresses.
func (a *ask) servers(to *[]dns.RR) {
	list, err := a.instances("consul", "", nil)
	if err != nil {
		return // the name is right even where its servers are not known now
	}
	shuffle(list)
	for _, i := range list[:min(len(list), 3)] {
		target := i.Node.Node + ".node." + a.dc(i.Node) + "." + a.domain
		*to = append(*to, &dns.NS{Hdr: dns.RR_Header{Name: a.domain, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: seconds(a.NodeTTL)}, Ns: dns.Fqdn(target)})
		if rr := address(dns.Fqdn(target), i.Node.Address, a.NodeTTL, dns.TypeANY); rr != nil {
			a.m.Extra = append(a.m.Extra, rr)
		}
	}
}

func (a *ask) dc(n *api.Node) string {
	if n.Datacenter != "" {
		return n.Datacenter
	}
	return a.Datacenter
}

// address makes an A or AAAA record of an IP, nil where it is none or of another type.
func address(name, addr string, ttl time.Duration, qtype uint16) dns.RR {
	ip := net.ParseIP(addr)
	h := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: seconds(ttl)}
	switch four := ip.To4(); {
	case ip == nil:
		return nil
	case four != nil && (qtype == dns.TypeA || qtype == dns.TypeANY):
		h.Rrtype = dns.TypeA
		return &dns.A{Hdr: h, A: four}
	case four == nil && (qtype == dns.TypeAAAA || qtype == dns.TypeANY):
		h.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: h, AAAA: ip}
	}
	return nil
}

// node answers NAME.node.
func (a *ask) node(name, dc string) error {
	ans, err := a.Endpoint.Read(a.ctx, a.query(endpoint.NodeServices, name, a.orOwn(dc)))
	if err != nil {
		return err
	}
	ns, err := endpoint.Into[*api.NodeServices](ans)
	if err != nil {
		return err
	}
	if ns == nil {
		return errName
	}
	qname := a.m.Question[0].Name
	if rr := address(qname, ns.Node.Address, a.NodeTTL, a.qtype); rr != nil {
		a.m.Answer = append(a.m.Answer, rr)
	} else if net.ParseIP(ns.Node.Address) == nil && ns.Node.Address != "" {
		a.m.Answer = append(a.m.Answer, &dns.CNAME{Hdr: a.header(dns.TypeCNAME, a.NodeTTL), Target: dns.Fqdn(ns.Node.Address)})
	}
	to := &a.m.Extra
	if a.qtype == dns.TypeTXT || a.qtype == dns.TypeANY {
		to = &a.m.Answer
	}
	a.text(to, qname, ns.Node.Meta)
	return nil
}

// text adds a node's meta as TXT records.
func (a *ask) text(to *[]dns.RR, name string, meta map[string]string) {
	for _, k := range sorted(meta) {
		t := k + "=" + meta[k]
		if strings.HasPrefix(strings.ToLower(k), "rfc1035-") {
			t = meta[k]
		}
		var parts []string
		for len(t) > 255 {
			parts, t = append(parts, t[:255]), t[255:]
		}
		*to = append(*to, &dns.TXT{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: seconds(a.NodeTTL)}, Txt: append(parts, t),
		})
	}
}

func (a *ask) orOwn(dc string) string {
	if dc == "" {
		return a.Datacenter
	}
	return dc
}

// addr answers HEX.addr with the address that the hex digits are.
func (a *ask) addr(labels []string) error {
	if len(labels) != 1 {
		return errName
	}
	ip := make(net.IP, len(labels[0])/2)
	if n := len(labels[0]); n != 8 && n != 32 {
		return errName
	}
	for i := range ip {
		b, err := strconv.ParseUint(labels[0][2*i:2*i+2], 16, 8)
		if err != nil {
			return errName
		}
		ip[i] = byte(b)
	}
	name := a.m.Question[0].Name
	if rr := address(name, ip.String(), a.NodeTTL, a.qtype); rr != nil {
		a.m.Answer = append(a.m.Answer, rr)
	} else if rr := address(name, ip.String(), a.NodeTTL, dns.TypeANY); rr != nil {
		a.m.Extra = append(a.m.Extra, rr)
	}
	return nil
}
