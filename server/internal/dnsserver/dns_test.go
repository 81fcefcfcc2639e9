package dnsserver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// catalog is an endpoint with instances by service.
type catalog struct {
	services map[string][]*api.Instance

	mu    sync.Mutex
	given map[string]*endpoint.Answer // the same value to all who ask the same, as Local does; guarded by mu
}

func (c *catalog) Write(context.Context, *endpoint.Write) (*command.Result, error) {
	return nil, api.ErrNoLeader
}

func (c *catalog) Read(_ context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := fmt.Sprint(q.Kind, q.Name, q.Tags, q.Datacenter)
	if a := c.given[key]; a != nil {
		return a, nil
	}
	a, err := c.read(q)
	if err == nil {
		if c.given == nil {
			c.given = map[string]*endpoint.Answer{}
		}
		c.given[key] = a
	}
	return a, err
}

func (c *catalog) read(q *endpoint.Query) (*endpoint.Answer, error) {
	if q.Datacenter != "dc1" {
		return nil, api.ErrNoPath
	}
	nodes := map[string]*api.Node{}
	for _, list := range c.services {
		for _, i := range list {
			nodes[i.Node.Node] = i.Node
		}
	}
	switch q.Kind {
	case endpoint.QueryExecute:
		if q.Name != "ask.me" {
			return nil, api.Errorf(api.NotFound, "Query not found")
		}
		return &endpoint.Answer{Found: true, Value: &api.QueryResult{Service: "web", Nodes: c.services["web"][:1], DNS: api.QueryDNS{TTL: "9s"}}}, nil
	case endpoint.InstancesAt:
		out := []*api.ServiceNode{}
		for _, list := range c.services {
			for _, i := range list {
				if i.Service.Address == q.Name {
					out = append(out, &api.ServiceNode{ServiceName: i.Service.Service, Datacenter: "dc1"})
				}
			}
		}
		return &endpoint.Answer{Found: true, Value: out}, nil
	case endpoint.Services:
		return &endpoint.Answer{Found: true, Value: map[string][]string{"web": {"a.b"}, "db": nil}}, nil
	case endpoint.HealthService:
		if q.Name == "broken" {
			return nil, api.ErrNoLeader
		}
		out := []*api.Instance{}
		for _, i := range c.services[q.Name] {
			if len(q.Tags) == 0 || slices.Contains(i.Service.Tags, q.Tags[0]) {
				out = append(out, i)
			}
		}
		return &endpoint.Answer{Found: true, Value: out}, nil
	case endpoint.NodeServices:
		if n := nodes[q.Name]; n != nil {
			return &endpoint.Answer{Found: true, Value: &api.NodeServices{Node: n}}, nil
		}
		return &endpoint.Answer{Value: (*api.NodeServices)(nil)}, nil
	case endpoint.Nodes:
		out := []*api.Node{}
		for _, n := range nodes {
			if q.Name == "" || n.Address == q.Name {
				out = append(out, n)
			}
		}
		return &endpoint.Answer{Found: true, Value: out}, nil
	}
	return nil, fmt.Errorf("unexpected query %s", q.Kind)
}

func inst(node, nodeAddr, addr string, port int, status string, tags ...string) *api.Instance {
	return &api.Instance{
		Node:    &api.Node{Node: node, Address: nodeAddr, Datacenter: "dc1", Meta: map[string]string{"rack": "r1"}},
		Service: &api.Service{ID: fmt.Sprint(node, port), Service: "web", Address: addr, Port: port, Tags: tags, Weights: api.Weights{Passing: 5, Warning: 2}},
		Checks:  []*api.Check{{Status: status}},
	}
}

func world() *catalog {
	many := []*api.Instance{}
	for i := range 200 {
		many = append(many, inst(fmt.Sprint("m", i), fmt.Sprintf("10.1.0.%d", i), "", 80, api.Passing))
	}
	return &catalog{services: map[string][]*api.Instance{
		"web": {
			inst("n1", "10.0.0.1", "", 80, api.Passing, "a.b"), inst("n2", "10.0.0.2", "192.168.0.2", 81, api.Warning), inst("n3", "10.0.0.3", "", 82, api.Critical),
		},
		"six":    {inst("n6", "fd00::6", "", 80, api.Passing)},
		"moved":  {inst("moved", "n1.node.consul", "", 80, api.Passing)},
		"named":  {inst("n7", "10.0.0.7", "host.example", 80, api.Passing)},
		"ill":    {inst("n3", "10.0.0.3", "", 82, api.Critical)},
		"many":   many,
		"consul": {inst("s1", "10.0.0.9", "", 8300, api.Passing)},
	}}
}

func ask1(t testing.TB, s *Server, name string, qtype uint16, udp bool, edns uint16) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	if edns > 0 {
		m.SetEdns0(edns, false)
	}
	return exchange(t, s, m, udp)
}

// exchange has s answer a packet as its loops do, twice: the second time, the answer may
// be at hand, and must say the same.
func exchange(t testing.TB, s *Server, q *dns.Msg, udp bool) *dns.Msg {
	t.Helper()
	packet, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	first, second := respond(t, s, packet, udp), respond(t, s, packet, udp)
	if first.MsgHdr != second.MsgHdr || !first.Truncated && (len(first.Answer) != len(second.Answer) || len(first.Ns) != len(second.Ns)) {
		t.Errorf("%s\nat first: %v\nthen: %v", q.Question[0].String(), first, second)
	}
	return second
}

func respond(t testing.TB, s *Server, packet []byte, udp bool) *dns.Msg {
	t.Helper()
	out, size := wire(t, s, packet, udp)
	if out == nil {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("answer to %x: %v", packet, err)
	}
	if len(out) > size {
		t.Errorf("answer to %x has %d bytes, client takes %d", packet, len(out), size)
	}
	return m
}

// wire is the answer's bytes, nil for none, and how many the client takes.
func wire(t testing.TB, s *Server, packet []byte, udp bool) ([]byte, int) {
	r, err := parse(packet, udp)
	r.from = netip.MustParseAddr("127.0.0.1")
	var sc scratch
	switch {
	case err == errIgnored:
		return nil, r.size
	case err != nil:
		return r.failure(nil, dns.RcodeFormatError, false), r.size
	}
	if out, ok := s.quick(t.Context(), nil, &r, &sc); ok {
		return out, r.size
	}
	return s.work(t.Context(), nil, packet, &r, &sc), r.size
}

// said is the answers without their header's name and time, sorted.
func said(rrs []dns.RR) string {
	var out []string
	for _, rr := range rrs {
		if rr.Header().Rrtype == dns.TypeSOA {
			out = append(out, "SOA "+rr.Header().Name)
			continue
		}
		f := strings.Fields(rr.String())
		out = append(out, strings.Join(f[3:], " "))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestNames(t *testing.T) {
	t.Parallel()
	s := New(Config{Endpoint: world(), Domain: "consul", AltDomain: "alt.example", Datacenter: "dc1", InPlace: true, NodeMetaTXT: true})
	const soa = "SOA consul."
	for q, c := range map[string]struct {
		rcode         int
		answer, extra string
		ns            string
	}{
		"web.service.consul. A":                              {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"WEB.Service.consul. A":                              {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"web.service.dc1.consul. A":                          {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"web.service.dc1.dc.consul. A":                       {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"web.service.alt.example. A":                         {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"a.b.web.service.consul. A":                          {0, "A 10.0.0.1", "", ""},
		"web.service.consul. AAAA":                           {0, "", "", soa},
		"web.service.consul. ANY":                            {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"six.service.consul. AAAA":                           {0, "AAAA fd00::6", "", ""},
		"named.service.consul. A":                            {0, "CNAME host.example.", "", ""},
		"ill.service.consul. A":                              {dns.RcodeNameError, "", "", soa},
		"none.service.consul. A":                             {dns.RcodeNameError, "", "", soa},
		"x.web.service.consul. A":                            {dns.RcodeNameError, "", "", soa},
		"web.service.mars.consul. A":                         {dns.RcodeNameError, "", "", soa},
		"consul. A":                                          {dns.RcodeNameError, "", "", soa},
		"what.consul. A":                                     {dns.RcodeNameError, "", "", soa},
		"ask.me.query.consul. A":                             {0, "A 10.0.0.1", "", ""},
		"_ask.me._tcp.query.consul. A":                       {dns.RcodeNameError, "", "", soa},
		"q.query.consul. A":                                  {dns.RcodeNameError, "", "", soa},
		"broken.service.consul. A":                           {dns.RcodeServerFailure, "", "", ""},
		"n1.node.consul. A":                                  {0, "A 10.0.0.1", `TXT "rack=r1"`, ""},
		"n1.node.consul. TXT":                                {0, `TXT "rack=r1"`, "", ""},
		"moved.node.consul. A":                               {0, "A 10.0.0.1; CNAME n1.node.consul.", `TXT "rack=r1"`, ""},
		"moved.node.consul. TXT":                             {0, `CNAME n1.node.consul.; TXT "rack=r1"`, "", ""},
		"moved.service.consul. TXT":                          {0, "A 10.0.0.1; CNAME n1.node.consul.", "", ""},
		"none.node.consul. A":                                {dns.RcodeNameError, "", "", soa},
		"0a000001.addr.consul. A":                            {0, "A 10.0.0.1", "", ""},
		"0a000001.addr.consul. AAAA":                         {0, "", "A 10.0.0.1", soa},
		"00000000000000000000ffff0a000001.addr.consul. AAAA": {0, "AAAA ::ffff:10.0.0.1", "", ""},
		"00000000000000000000ffff0a000001.addr.consul. A":    {0, "", "AAAA ::ffff:10.0.0.1", soa},
		"xx.addr.consul. A":                                  {dns.RcodeNameError, "", "", soa},
		"consul. SOA":                                        {0, soa, "A 10.0.0.9", "NS s1.node.dc1.consul."},
		"consul. NS":                                         {0, "NS s1.node.dc1.consul.", "A 10.0.0.9", ""},
		"1.0.0.10.in-addr.arpa. PTR":                         {0, "PTR n1.node.dc1.consul.", "", ""},
		"99.0.0.10.in-addr.arpa. PTR":                        {dns.RcodeNameError, "", "", soa},
		"www.example. A":                                     {dns.RcodeRefused, "", "", ""},
		"_web._tcp.service.consul. SRV":                      {0, "SRV 1 2 81 c0a80002.addr.dc1.consul.; SRV 1 5 80 n1.node.dc1.consul.", `A 10.0.0.1; A 192.168.0.2; TXT "rack=r1"`, ""},
		"_web._a.b.service.consul. SRV":                      {dns.RcodeNameError, "", "", soa},
		"_web._tcp.consul. SRV":                              {0, "SRV 1 2 81 c0a80002.addr.dc1.consul.; SRV 1 5 80 n1.node.dc1.consul.", `A 10.0.0.1; A 192.168.0.2; TXT "rack=r1"`, ""},
	} {
		name, kind, _ := strings.Cut(q, " ")
		r := ask1(t, s, name, dns.StringToType[kind], false, 0)
		if r.Rcode != c.rcode || said(r.Answer) != c.answer || said(r.Extra) != c.extra || said(r.Ns) != c.ns {
			t.Errorf("%s: %s\n answer %q\n extra %q\n ns %q\nwant %s\n answer %q\n extra %q\n ns %q", q,
				dns.RcodeToString[r.Rcode], said(r.Answer), said(r.Extra), said(r.Ns), dns.RcodeToString[c.rcode], c.answer, c.extra, c.ns)
		}
		if r.Question[0].Name != name || len(r.Answer) > 0 && kind != "SOA" && kind != "NS" && r.Answer[0].Header().Name != name {
			t.Errorf("%s: the question's case is not echoed: %v", q, r)
		}
	}
}

func TestInDomain(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"web.service.consul.": "consul.", "consul.": "consul.", "xconsul.": "", "web.service.dc.example.": "dc.example.", "web.example.": "example.", ".": "",
	} {
		if got := inDomain(name, "consul.", "example.", "dc.example.", ""); got != want {
			t.Errorf("inDomain(%q) = %q, want %q", name, got, want)
		}
	}
}

// As many answers as there is room for, and TC where that is not all.
func TestSizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg         Config
		qtype       uint16
		udp         bool
		edns        uint16
		least, most int
		truncated   bool
	}{
		{Config{}, dns.TypeA, true, 0, 28, 29, true},
		{Config{}, dns.TypeA, true, 100, 28, 29, true},
		{Config{}, dns.TypeA, true, 1024, 60, 62, true},
		{Config{}, dns.TypeA, true, 4096, 200, 200, false},
		{Config{}, dns.TypeA, false, 0, 200, 200, false},
		{Config{}, dns.TypeSRV, true, 0, 10, 13, true},
		{Config{}, dns.TypeSRV, true, 1400, 30, 36, true},
		{Config{}, dns.TypeSRV, false, 0, 200, 200, false},
		{Config{UDPAnswerLimit: 2}, dns.TypeA, true, 0, 2, 2, true},
		{Config{UDPAnswerLimit: 2}, dns.TypeA, true, 4096, 200, 200, false},
		{Config{ARecordLimit: 4}, dns.TypeA, false, 0, 4, 4, false},
		{Config{ARecordLimit: 4}, dns.TypeSRV, false, 0, 200, 200, false},
		{Config{Strict: true}, dns.TypeA, true, 0, 3, 3, false},
		{Config{Strict: true, EnableTruncate: true}, dns.TypeA, true, 0, 3, 3, true},
		{Config{Strict: true, UDPAnswerLimit: 20}, dns.TypeA, true, 0, 8, 8, false},
		{Config{NoCompression: true}, dns.TypeA, true, 0, 10, 14, true},
	} {
		cfg := c.cfg
		cfg.Endpoint, cfg.Datacenter, cfg.InPlace = world(), "dc1", true
		r := ask1(t, New(cfg), "many.service.consul.", c.qtype, c.udp, c.edns)
		if n := len(r.Answer); n < c.least || n > c.most || r.Truncated != c.truncated {
			t.Errorf("%s udp %t edns %d %+v: %d answers, TC %t; want %d to %d, TC %t",
				dns.TypeToString[c.qtype], c.udp, c.edns, c.cfg, n, r.Truncated, c.least, c.most, c.truncated)
		}
	}
}

func TestTTLs(t *testing.T) {
	t.Parallel()
	s := New(Config{Endpoint: world(), Datacenter: "dc1", NodeTTL: 7 * time.Second,
		ServiceTTL: map[string]time.Duration{"web": 3 * time.Second, "s*": time.Second, "si*": 2 * time.Second}})
	for name, want := range map[string]uint32{"web.service.consul.": 3, "six.service.consul.": 2, "many.service.consul.": 0, "n1.node.consul.": 7} {
		r := ask1(t, s, name, dns.TypeANY, false, 0)
		if got := r.Answer[0].Header().Ttl; got != want {
			t.Errorf("%s: TTL %d, want %d", name, got, want)
		}
	}
	s.Reload(Config{Datacenter: "dc1", NodeTTL: 7 * time.Second, NodeMetaTXT: true, ServiceTTL: map[string]time.Duration{"web": 3 * time.Second}})
	for _, rr := range ask1(t, s, "web.service.consul.", dns.TypeSRV, false, 0).Extra {
		if rr.Header().Ttl != 3 { // what stands beside the answer lives as long
			t.Errorf("beside SRV: TTL %d, want 3: %s", rr.Header().Ttl, rr)
		}
	}
	passing := New(Config{Endpoint: world(), Datacenter: "dc1", OnlyPassing: true})
	if r := ask1(t, passing, "web.service.consul.", dns.TypeA, false, 0); said(r.Answer) != "A 10.0.0.1" {
		t.Errorf("only passing: %s", said(r.Answer))
	}
}

// No packet makes it panic, or answer more than the client takes; and what the library
// can read as a question, we read as the same one.
func FuzzReply(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	s := New(Config{Endpoint: world(), Datacenter: "dc1", InPlace: true, NodeMetaTXT: true})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, udp := range []bool{true, false} {
			out, size := wire(t, s, b, udp)
			if len(out) > size {
				t.Errorf("%d bytes for who takes %d", len(out), size)
			}
			if out != nil {
				if err := new(dns.Msg).Unpack(out); err != nil {
					t.Errorf("answer %x: %v", out, err)
				}
			}
		}
		m := new(dns.Msg)
		if m.Unpack(b) != nil || m.Response || len(m.Question) != 1 {
			return
		}
		r, err := parse(b, true)
		if err != nil {
			return // we may be the stricter: names that are pointers, a second OPT
		}
		if q := m.Question[0]; r.text() != q.Name || r.qtype != q.Qtype || r.class != q.Qclass || r.id != m.Id {
			t.Errorf("read %s %d %d, the library %s", r.text(), r.qtype, r.class, q.String())
		}
		if o := m.IsEdns0(); r.edns != (o != nil) || o != nil && (r.told != o.UDPSize() || r.do != o.Do() || r.version != o.Version()) {
			t.Errorf("read EDNS %t %d %t %d, the library %v", r.edns, r.told, r.do, r.version, o)
		}
	})
}
