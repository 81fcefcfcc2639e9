package dnsserver

import (
	"encoding/hex"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// node answers NAME.node.
func (a *ask) node(name, dc string) error {
	ans, err := a.read(endpoint.Query{Kind: endpoint.NodeServices, Name: name}, dc)
	if err != nil {
		return err
	}
	ns, err := endpoint.Into[*api.NodeServices](ans)
	if err != nil {
		return err
	}
	if ns == nil || ns.Node == nil {
		return errName
	}
	if addr := ns.Node.Address; net.ParseIP(addr) == nil && addr != "" {
		a.alias(addr, a.qtype, a.NodeTTL)
	} else if rr := address(a.qname, addr, a.NodeTTL, a.qtype); rr != nil {
		a.records = append(a.records, rr)
	}
	switch a.qtype {
	case dns.TypeTXT, dns.TypeANY:
		a.meta(&a.records, a.qname, ns.Node, a.NodeTTL)
	case dns.TypeA, dns.TypeAAAA:
		if a.NodeMetaTXT {
			a.meta(&a.extra, a.qname, ns.Node, a.NodeTTL)
		}
	}
	return nil
}

// nodeName is a node's name in the domain that was asked.
func (a *ask) nodeName(n *api.Node) string {
	return dns.Fqdn(n.Node + ".node." + a.dc(n) + "." + a.domain)
}

// meta adds a node's meta as TXT records: key=value, or the value alone where the key
// begins with rfc1035-.
func (a *ask) meta(to *[]dns.RR, name string, n *api.Node, ttl time.Duration) {
	for _, k := range slices.Sorted(maps.Keys(n.Meta)) {
		t := k + "=" + n.Meta[k]
		if strings.HasPrefix(strings.ToLower(k), "rfc1035-") {
			t = n.Meta[k]
		}
		*to = append(*to, text(name, t, ttl))
	}
}

// text makes a TXT record, of several strings where one cannot hold it.
func text(name, t string, ttl time.Duration) *dns.TXT {
	var parts []string
	for len(t) > 255 {
		parts, t = append(parts, escape(t[:255])), t[255:]
	}
	return &dns.TXT{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: seconds(ttl)}, Txt: append(parts, escape(t)),
	}
}

// escape writes bytes as the library's strings have them.
func escape(t string) string { return strings.ReplaceAll(t, `\`, `\\`) }

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

// addr answers HEX.addr with the address that the hex digits are.
func (a *ask) addr(parts []string) error {
	b, err := hex.DecodeString(parts[0])
	if err != nil || len(parts) != 1 || len(b) != net.IPv4len && len(b) != net.IPv6len {
		return errName
	}
	var rr dns.RR = &dns.A{Hdr: a.header(dns.TypeA, a.NodeTTL), A: b}
	if len(b) == net.IPv6len { // also where it holds an IPv4 address
		rr = &dns.AAAA{Hdr: a.header(dns.TypeAAAA, a.NodeTTL), AAAA: b}
	}
	if a.qtype == rr.Header().Rrtype || a.qtype == dns.TypeANY {
		a.records = append(a.records, rr)
	} else {
		a.extra = append(a.extra, rr)
	}
	return nil
}

// addrName is the name that addr answers with ip.
func (a *ask) addrName(ip net.IP, dc string) string {
	if four := ip.To4(); four != nil {
		ip = four
	}
	return hex.EncodeToString(ip) + ".addr." + dc + "." + a.domain
}
