package dnsserver

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// isReverse reports whether a name, in lower case, asks for the name of an address.
func isReverse(name string) bool {
	return dns.IsSubDomain("in-addr.arpa.", name) || dns.IsSubDomain("ip6.arpa.", name)
}

// ptr answers with the names of an address: the nodes that have it, else the services
// that do. Nobody with it is errName.
func (a *ask) ptr() error {
	ip, ok := reversed(a.name)
	if !ok {
		return errName
	}
	a.transient = true // seldom asked twice
	ans, err := a.read(endpoint.Query{Kind: endpoint.Nodes, Name: ip.String()}, a.Datacenter)
	if err != nil {
		return err
	}
	nodes, err := endpoint.Into[[]*api.Node](ans)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		a.pointer(a.nodeName(n))
	}
	if len(a.records) > 0 {
		return nil
	}
	ans, err = a.read(endpoint.Query{Kind: endpoint.InstancesAt, Name: ip.String()}, a.Datacenter)
	if err != nil {
		return err
	}
	list, err := endpoint.Into[[]*api.ServiceNode](ans)
	if err != nil {
		return err
	}
	for _, s := range list {
		a.pointer(dns.Fqdn(s.ServiceName + ".service." + a.dc(&api.Node{Datacenter: s.Datacenter}) + "." + a.domain))
	}
	if len(a.records) == 0 {
		return errName
	}
	return nil
}

// pointer adds a name, once.
func (a *ask) pointer(name string) {
	rr := &dns.PTR{Hdr: a.header(dns.TypePTR, 0), Ptr: name}
	if validName(name) && !contains(a.records, rr) {
		a.records = append(a.records, rr)
	}
}

// reversed reads the address of a reverse name in lower case.
func reversed(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		l := strings.Split(rest, ".")
		if len(l) != 4 {
			return netip.Addr{}, false
		}
		ip, err := netip.ParseAddr(l[3] + "." + l[2] + "." + l[1] + "." + l[0])
		return ip, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if l := strings.Split(rest, "."); ok && len(l) == 32 {
		var ip [16]byte
		for i := range ip {
			b, err := strconv.ParseUint(l[31-2*i]+l[30-2*i], 16, 8)
			if err != nil || len(l[31-2*i]) != 1 {
				return netip.Addr{}, false
			}
			ip[i] = byte(b)
		}
		return netip.AddrFrom16(ip).Unmap(), true
	}
	return netip.Addr{}, false
}
