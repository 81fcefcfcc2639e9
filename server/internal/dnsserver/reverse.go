package dnsserver

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// ptr answers an address's name: the nodes that have it. It reports whether there is one.
func (a *ask) ptr() bool {
	a.m.Authoritative = true
	ip := reversed(a.name)
	ans, err := a.Endpoint.Read(a.ctx, a.query(endpoint.Nodes, "", a.Datacenter))
	if err != nil {
		a.m.Rcode = dns.RcodeServerFailure
		return false
	}
	nodes, err := endpoint.Into[[]*api.Node](ans)
	if err != nil {
		a.m.Rcode = dns.RcodeServerFailure
		return false
	}
	for _, n := range nodes {
		if ip != nil && ip.Equal(net.ParseIP(n.Address)) {
			a.m.Answer = append(a.m.Answer, &dns.PTR{Hdr: a.header(dns.TypePTR, 0), Ptr: dns.Fqdn(n.Node + ".node." + a.dc(n) + "." + a.Domain)})
		}
	}
	if len(a.m.Answer) == 0 {
		a.domain = a.Domain
		a.m.Rcode = dns.RcodeNameError
		a.m.Ns = append(a.m.Ns, a.soa())
	}
	return len(a.m.Answer) > 0
}

// reversed reads the address of a reverse name, nil where it is none.
func reversed(name string) net.IP {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		l := strings.Split(rest, ".")
		if len(l) != 4 {
			return nil
		}
		return net.ParseIP(l[3] + "." + l[2] + "." + l[1] + "." + l[0])
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	l := strings.Split(rest, ".")
	if !ok || len(l) != 32 {
		return nil
	}
	ip := make(net.IP, 16)
	for i := range ip {
		b, err := strconv.ParseUint(l[31-2*i]+l[30-2*i], 16, 8)
		if err != nil {
			return nil
		}
		ip[i] = byte(b)
	}
	return ip
}

// withPort gives every recursor a port.
func withPort(list []string) []string {
	var out []string
	for _, r := range list {
		if _, _, err := net.SplitHostPort(r); err != nil {
			r = net.JoinHostPort(strings.Trim(r, "[]"), "53")
		}
		out = append(out, r)
	}
	return out
}

// recurse asks the recursors in their order; the first that knows, or knows that there
// is nothing, answers.
func (a *ask) recurse(r *dns.Msg, udp bool) *dns.Msg {
	c := &dns.Client{Net: "udp", Timeout: a.RecursorTimeout, UDPSize: dns.DefaultMsgSize}
	if !udp {
		c.Net = "tcp"
	}
	var errs []error
	for _, addr := range a.Recursors {
		began := time.Now()
		m, _, err := c.ExchangeContext(a.ctx, r, addr)
		if err == nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
			m.Compress = true
			return m
		}
		if err != nil {
			errs = append(errs, err)
		}
		a.Log.Debug("recursor did not answer", "addr", addr, "took", time.Since(began).String(), "err", err)
	}
	a.Log.Warn("no recursor answered", "name", a.name, "err", errors.Join(errs...))
	m := failure(r, dns.RcodeServerFailure)
	m.RecursionAvailable = true
	return m
}
