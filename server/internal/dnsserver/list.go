package dnsserver

import (
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// list answers *.service with the names of all services, for people who look for a
// fault. It is a long answer to a short question, so it is given over TCP only, and to
// this host only.
func (a *ask) list(dc string) error {
	a.transient = true
	if !a.from.IsLoopback() {
		return errRefused
	}
	if a.udp {
		a.truncated = true // ask again, over TCP
		return nil
	}
	ans, err := a.read(endpoint.Query{Kind: endpoint.Services}, dc)
	if err != nil {
		return err
	}
	names, err := endpoint.Into[map[string][]string](ans)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		target := dns.Fqdn(name + ".service." + dc + "." + a.domain)
		switch {
		case a.qtype == dns.TypeTXT:
			a.records = append(a.records, text(a.qname, strings.Join(append([]string{name}, names[name]...), " "), 0))
		case a.qtype != dns.TypePTR && a.qtype != dns.TypeANY:
		case validName(target):
			a.records = append(a.records, &dns.PTR{Hdr: a.header(dns.TypePTR, 0), Ptr: target})
		}
	}
	return nil
}
