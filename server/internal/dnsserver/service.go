package dnsserver

import (
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// service answers [tag.]NAME.service and _NAME._tag[.service].
func (a *ask) service(f form) error {
	name, tag := serviceName(f.parts)
	list, err := a.instances(name, f.dc, tag)
	if err != nil {
		return err
	}
	return a.places(list, a.ttl(name))
}

// places answers with where instances are.
func (a *ask) places(list []*api.Instance, ttl time.Duration) error {
	switch {
	case len(list) == 0:
		return errName
	case a.qtype == dns.TypeSRV:
		a.srv(list, ttl)
	default:
		a.addresses(list, ttl)
	}
	return nil
}

// instances gives a service's instances that are fit to be named.
func (a *ask) instances(service, dc, tag string) ([]*api.Instance, error) {
	q := endpoint.Query{Kind: endpoint.HealthService, Name: service}
	if tag != "" {
		q.Tags = []string{tag}
	}
	ans, err := a.read(q, dc)
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

// worst is the worst state among an instance's checks and its node's. An unknown state
// counts as critical.
func worst(i *api.Instance) string {
	status := api.Passing
	for _, c := range i.Checks {
		switch c.Status {
		case api.Passing:
		case api.Warning:
			status = api.Warning
		default:
			return api.Critical
		}
	}
	return status
}

// weight is an instance's share, by its health.
func weight(i *api.Instance) int {
	w := i.Service.Weights.Passing
	if worst(i) == api.Warning {
		w = i.Service.Weights.Warning
	}
	return min(max(w, 0), 65535)
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

// addresses adds a record for each distinct address, with the shares of all who are
// there; a name only where no address is of the type that was asked.
func (a *ask) addresses(list []*api.Instance, ttl time.Duration) {
	qtype := a.qtype
	if qtype == dns.TypeTXT { // as Consul does
		qtype = dns.TypeA
	}
	seen := map[string]int{} // address to its record
	var named []*api.Instance
	for _, i := range list {
		addr := place(i)
		if net.ParseIP(addr) == nil {
			named = append(named, i)
			continue
		}
		if at, ok := seen[addr]; ok {
			a.weights[at] += weight(i)
			continue
		}
		if rr := address(a.qname, addr, ttl, qtype); rr != nil {
			seen[addr] = len(a.records)
			a.add(rr, weight(i))
		}
	}
	a.most = a.ARecordLimit
	if len(a.records) == 0 && len(named) > 0 {
		a.weights, a.most = nil, 0
		a.alias(place(a.one(named)), qtype, ttl)
	}
}

// place is where an instance is: its own address or its node's.
func place(i *api.Instance) string {
	if i.Service.Address != "" {
		return i.Service.Address
	}
	return i.Node.Address
}

// one picks one of several host names, for a name may have but one CNAME.
func (a *ask) one(named []*api.Instance) *api.Instance {
	weights := make([]int, len(named))
	for i, n := range named {
		weights[i] = weight(n)
	}
	a.transient = a.transient || len(named) > 1
	var o order
	if o.weighted(weights); a.Strict {
		o.even(len(weights))
	}
	return named[o.next()]
}

// srv adds a record for each instance, with the addresses of its target beside it.
func (a *ask) srv(list []*api.Instance, ttl time.Duration) {
	type spot struct {
		addr string
		node string
		port int
	}
	seen, told := map[spot]bool{}, map[string]bool{}
	for _, i := range list {
		at := spot{i.Service.Address, i.Node.Node, i.Service.Port}
		if seen[at] {
			continue
		}
		seen[at] = true
		target, ip := a.target(i)
		if !validName(target) {
			continue
		}
		w := weight(i)
		a.add(&dns.SRV{Hdr: a.header(dns.TypeSRV, ttl), Priority: 1, Weight: uint16(w), Port: uint16(i.Service.Port), Target: target}, w)
		first := !told[target]
		told[target] = true
		switch {
		case ip != nil:
			// HAProxy wants one for each SRV record, also where targets are the same
			a.extra = append(a.extra, address(target, ip.String(), ttl, dns.TypeANY))
			if first && i.Service.Address == "" && a.NodeMetaTXT {
				a.meta(&a.extra, target, i.Node, ttl)
			}
		case first:
			a.extra = append(a.extra, a.chase(target, dns.TypeANY, ttl)...)
		}
	}
}

// target names where an instance is: its own address in hex, or its node, or the host
// name that it has; ip is nil then.
func (a *ask) target(i *api.Instance) (name string, ip net.IP) {
	ip = net.ParseIP(place(i))
	switch {
	case ip == nil:
		return dns.Fqdn(place(i)), nil
	case i.Service.Address == "":
		if name := a.nodeName(i.Node); validName(name) {
			return name, ip
		}
	}
	return a.addrName(ip, a.dc(i.Node)), ip
}

// validName reports whether a name can be put into a message.
func validName(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok
}
