package dnsserver

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// answer is all there is to say to a question, before it is cut to what the client
// takes.
type answer struct {
	rcode              int
	records, ns, extra []dns.RR
	weights            []int  // of records; nil where their order means something
	most               int    // how many of records a reply may have; 0 = all
	truncated          bool   // there is more, over TCP
	scope              byte   // how many bits of the client's subnet this depends on
	reads              []read // what it rests on
	transient          bool   // it rests on more than that, and cannot be kept
}

// read is something that was asked of the catalog, and what it said.
type read struct {
	query *endpoint.Query
	value any
}

// ask is one question being answered.
type ask struct {
	*Config
	*answer
	ctx     context.Context
	reading context.Context // the same, for reads of the catalog
	server  *Server
	qname   string // as it was asked
	name    string // in lower case
	domain  string // the one the name is in
	qtype   uint16
	udp     bool
	from    netip.Addr // who sent the packet
	source  netip.Addr // for whom: the client's subnet, where one is told
	subnet  byte       // its bits
	depth   int        // of names behind names
}

// errName: there is no such name; the answer is NXDOMAIN.
var errName = errors.New("no such name")

// errRefused: whoever asks may not.
var errRefused = errors.New("refused")

// own answers a name of our domain.
func (a *ask) own() {
	switch a.qtype {
	case dns.TypeSOA:
		a.records = append(a.records, a.soa())
		a.nameservers(&a.ns)
		return
	case dns.TypeNS:
		a.nameservers(&a.records)
		return
	}
	a.conclude(a.lookup())
}

// lookup answers by the form of the name.
func (a *ask) lookup() error {
	labels := dns.SplitDomainName(strings.TrimSuffix(a.name, a.domain))
	f, ok := parseName(labels, a.qtype == dns.TypeSRV)
	if !ok {
		return errName
	}
	if f.dc == "" {
		f.dc = a.Datacenter
	}
	switch f.kind {
	case "node":
		return a.node(strings.Join(f.parts, "."), f.dc)
	case "query":
		return a.query(f)
	case "addr":
		return a.addr(f.parts)
	}
	if len(f.parts) == 1 && f.parts[0] == "*" {
		return a.list(f.dc)
	}
	return a.service(f)
}

// read asks the catalog for q in a datacenter.
func (a *ask) read(q endpoint.Query, dc string) (*endpoint.Answer, error) {
	q.QueryOptions = a.options(dc)
	ans, err := a.server.read(a.reading, a.Config, &q)
	if err != nil {
		a.transient = true
		return nil, err
	}
	if a.transient = a.transient || ans.Value == nil; !a.transient {
		a.reads = append(a.reads, read{&q, ans.Value})
	}
	return ans, nil
}

// header of a record that answers the question as it was asked.
func (a *ask) header(t uint16, ttl time.Duration) dns.RR_Header {
	return dns.RR_Header{Name: a.qname, Rrtype: t, Class: dns.ClassINET, Ttl: seconds(ttl)}
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(d, 0)/time.Second, 1<<31-1)) // RFC 2181: the top bit is no time
}

func (a *ask) add(rr dns.RR, weight int) {
	a.records = append(a.records, rr)
	a.weights = append(a.weights, weight)
}

// dc is the datacenter that names of a node carry.
func (a *ask) dc(n *api.Node) string {
	if n.Datacenter != "" {
		return n.Datacenter
	}
	return a.Datacenter
}

func (a *ask) soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: a.domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: a.SOA.MinTTL},
		Ns:  "ns." + a.domain, Mbox: "hostmaster." + a.domain, Serial: uint32(time.Now().Unix()),
		Refresh: a.SOA.Refresh, Retry: a.SOA.Retry, Expire: a.SOA.Expire, Minttl: a.SOA.MinTTL,
	}
}

// nameservers adds NS records for up to three servers, with their addresses.
func (a *ask) nameservers(to *[]dns.RR) {
	a.transient = true // others the next time
	list, err := a.instances(api.ServerService, a.Datacenter, "")
	if err != nil {
		return // the name is right even where its servers are not known now
	}
	shuffle(list)
	for _, i := range list[:min(len(list), 3)] {
		target := strings.ToLower(a.nodeName(i.Node))
		if !validName(target) {
			continue
		}
		*to = append(*to, &dns.NS{Hdr: dns.RR_Header{Name: a.domain, Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: seconds(a.NodeTTL)}, Ns: target})
		if rr := address(target, i.Node.Address, a.NodeTTL, dns.TypeANY); rr != nil {
			a.extra = append(a.extra, rr)
		}
	}
}
