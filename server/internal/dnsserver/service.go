package dnsserver

import (
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// Most answers that one reply carries over TCP.
const (
	maxAnswers = 4096
	maxSRV     = 1024
)

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// instances gives a service's instances that are fit to be named.
func (a *ask) instances(service, dc string, tags []string) ([]*api.Instance, error) {
	q := a.query(endpoint.HealthService, service, a.orOwn(dc))
	q.Tags = tags
	ans, err := a.Endpoint.Read(a.ctx, q)
	if err != nil {
		return nil, err
	}
	all, err := endpoint.Into[[]*api.Instance](ans)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(i *api.Instance) bool {
		s := worst(i)
		return s == api.Critical || a.OnlyPassing && s != api.Passing
	}), nil
}

func worst(i *api.Instance) string {
	status := api.Passing
	for _, c := range i.Checks {
		switch c.Status {
		case api.Critical:
			return api.Critical
		case api.Warning:
			status = api.Warning
		}
	}
	return status
}

// weight is an instance's share, by its health.
func weight(i *api.Instance) uint16 {
	w := i.Service.Weights.Passing
	if worst(i) == api.Warning {
		w = i.Service.Weights.Warning
	}
	return uint16(min(max(w, 0), 65535))
}

func shuffle(list []*api.Instance) {
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

// service answers [tag.]NAME.service and _NAME._tag.service.
func (a *ask) service(labels []string, dc string) error {
	n := len(labels)
	name, tags := labels[n-1], []string(nil)
	if n == 2 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_") { // RFC 2782
		name = labels[0][1:]
		if tag := labels[1][1:]; tag != "tcp" {
			tags = []string{tag}
		}
	} else if n > 1 {
		tags = []string{strings.Join(labels[:n-1], ".")}
	}
	list, err := a.instances(name, dc, tags)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errName
	}
	shuffle(list)
	ttl := a.ttl(name)
	if a.qtype == dns.TypeSRV {
		a.srv(list, ttl)
		return nil
	}
	a.addresses(list, ttl)
	return nil
}

// ttl is a service's: its own, or that of the longest prefix.
func (c *Config) ttl(service string) time.Duration {
	if d, ok := c.ServiceTTL[service]; ok {
		return d
	}
	best, ttl := -1, time.Duration(0)
	for k, d := range c.ServiceTTL {
		if p, ok := strings.CutSuffix(k, "*"); ok && strings.HasPrefix(service, p) && len(p) > best {
			best, ttl = len(p), d
		}
	}
	return ttl
}

// addresses adds a record for each distinct address; names only where no address is of
// the type that was asked.
func (a *ask) addresses(list []*api.Instance, ttl time.Duration) {
	qtype := a.qtype
	if qtype == dns.TypeTXT { // as Consul does
		qtype = dns.TypeA
	}
	seen := map[string]bool{}
	var names []dns.RR
	for _, i := range list {
		addr := i.Service.Address
		if addr == "" {
			addr = i.Node.Address
		}
		if seen[addr] {
			continue
		}
		seen[addr] = true
		if net.ParseIP(addr) == nil {
			names = append(names, &dns.CNAME{Hdr: a.header(dns.TypeCNAME, ttl), Target: dns.Fqdn(addr)})
			continue
		}
		if rr := address(a.m.Question[0].Name, addr, ttl, qtype); rr != nil && len(a.m.Answer) < a.limit(maxAnswers) {
			a.m.Answer = append(a.m.Answer, rr)
		}
	}
	if len(a.m.Answer) == 0 && len(names) > 0 {
		a.m.Answer = names[:1] // a name may have one CNAME
	}
}

func (c *Config) limit(most int) int {
	if c.ARecordLimit > 0 {
		return min(c.ARecordLimit, most)
	}
	return most
}

// srv adds a record for each instance, with the address of its target beside it.
func (a *ask) srv(list []*api.Instance, ttl time.Duration) {
	type place struct {
		addr string
		node string
		port int
	}
	seen := map[place]bool{}
	for _, i := range list {
		p := place{i.Service.Address, i.Node.Node, i.Service.Port}
		if seen[p] || len(a.m.Answer) == maxSRV {
			continue
		}
		seen[p] = true
		target, addr := a.target(i)
		a.m.Answer = append(a.m.Answer, &dns.SRV{
			Hdr: a.header(dns.TypeSRV, ttl), Priority: 1, Weight: weight(i), Port: uint16(i.Service.Port), Target: target,
		})
		if rr := address(target, addr, ttl, dns.TypeANY); rr != nil {
			a.m.Extra = append(a.m.Extra, rr)
		}
		if i.Service.Address == "" {
			a.text(&a.m.Extra, target, i.Node.Meta)
		}
	}
}

// target names where an instance is: its own address in hex, or its node, or the host
// name that it has.
func (a *ask) target(i *api.Instance) (name, addr string) {
	if i.Service.Address == "" {
		if net.ParseIP(i.Node.Address) == nil {
			return dns.Fqdn(i.Node.Address), ""
		}
		return dns.Fqdn(i.Node.Node + ".node." + a.dc(i.Node) + "." + a.domain), i.Node.Address
	}
	ip := net.ParseIP(i.Service.Address)
	if ip == nil {
		return dns.Fqdn(i.Service.Address), ""
	}
	if four := ip.To4(); four != nil {
		ip = four
	}
	return hex.EncodeToString(ip) + ".addr." + a.dc(i.Node) + "." + a.domain, i.Service.Address
}
