package dnsserver

import (
	"context"
	"fmt"
	"net"
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
type catalog struct{ services map[string][]*api.Instance }

func (c *catalog) Write(context.Context, *endpoint.Write) (*command.Result, error) {
	return nil, api.ErrNoLeader
}

func (c *catalog) Read(_ context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
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
			out = append(out, n)
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
	return &catalog{map[string][]*api.Instance{
		"web": {
			inst("n1", "10.0.0.1", "", 80, api.Passing, "a.b"), inst("n2", "10.0.0.2", "192.168.0.2", 81, api.Warning), inst("n3", "10.0.0.3", "", 82, api.Critical),
		},
		"six":    {inst("n6", "fd00::6", "", 80, api.Passing)},
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
	r := s.reply(t.Context(), m, udp)
	if _, err := r.Pack(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// text is the answers without their header's name and time, sorted.
func text(rrs []dns.RR) string {
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
	s := New(Config{Endpoint: world(), Domain: "consul", AltDomain: "alt.example", Datacenter: "dc1"})
	const soa = "SOA consul."
	for q, c := range map[string]struct {
		rcode         int
		answer, extra string
		ns            string
	}{
		"web.service.consul. A":         {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"WEB.Service.consul. A":         {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"web.service.dc1.consul. A":     {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"web.service.dc1.dc.consul. A":  {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"web.service.alt.example. A":    {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"a.b.web.service.consul. A":     {0, "A 10.0.0.1", "", ""},
		"web.service.consul. AAAA":      {0, "", "", soa},
		"web.service.consul. ANY":       {0, "A 10.0.0.1; A 192.168.0.2", "", ""},
		"six.service.consul. AAAA":      {0, "AAAA fd00::6", "", ""},
		"named.service.consul. A":       {0, "CNAME host.example.", "", ""},
		"ill.service.consul. A":         {dns.RcodeNameError, "", "", soa},
		"none.service.consul. A":        {dns.RcodeNameError, "", "", soa},
		"x.web.service.consul. A":       {dns.RcodeNameError, "", "", soa},
		"web.service.mars.consul. A":    {dns.RcodeNameError, "", "", soa},
		"consul. A":                     {dns.RcodeNameError, "", "", soa},
		"what.consul. A":                {dns.RcodeNameError, "", "", soa},
		"q.query.consul. A":             {dns.RcodeNameError, "", "", soa},
		"broken.service.consul. A":      {dns.RcodeServerFailure, "", "", ""},
		"n1.node.consul. A":             {0, "A 10.0.0.1", `TXT "rack=r1"`, ""},
		"n1.node.consul. TXT":           {0, `TXT "rack=r1"`, "", ""},
		"none.node.consul. A":           {dns.RcodeNameError, "", "", soa},
		"0a000001.addr.consul. A":       {0, "A 10.0.0.1", "", ""},
		"0a000001.addr.consul. AAAA":    {0, "", "A 10.0.0.1", soa},
		"xx.addr.consul. A":             {dns.RcodeNameError, "", "", soa},
		"consul. SOA":                   {0, soa, "A 10.0.0.9", "NS s1.node.dc1.consul."},
		"consul. NS":                    {0, "NS s1.node.dc1.consul.", "A 10.0.0.9", ""},
		"1.0.0.10.in-addr.arpa. PTR":    {0, "PTR n1.node.dc1.consul.", "", ""},
		"99.0.0.10.in-addr.arpa. PTR":   {dns.RcodeNameError, "", "", soa},
		"www.example. A":                {dns.RcodeRefused, "", "", ""},
		"_web._tcp.service.consul. SRV": {0, "SRV 1 2 81 c0a80002.addr.dc1.consul.; SRV 1 5 80 n1.node.dc1.consul.", `A 10.0.0.1; A 192.168.0.2; TXT "rack=r1"`, ""},
		"_web._a.b.service.consul. SRV": {dns.RcodeNameError, "", "", soa},
		"_web._tcp.consul. SRV":         {0, "SRV 1 2 81 c0a80002.addr.dc1.consul.; SRV 1 5 80 n1.node.dc1.consul.", `A 10.0.0.1; A 192.168.0.2; TXT "rack=r1"`, ""},
	} {
		name, kind, _ := strings.Cut(q, " ")
		r := ask1(t, s, name, dns.StringToType[kind], false, 0)
		if r.Rcode != c.rcode || text(r.Answer) != c.answer || text(r.Extra) != c.extra || text(r.Ns) != c.ns {
			t.Errorf("%s: %s\n answer %q\n extra %q\n ns %q\nwant %s\n answer %q\n extra %q\n ns %q", q,
				dns.RcodeToString[r.Rcode], text(r.Answer), text(r.Extra), text(r.Ns), dns.RcodeToString[c.rcode], c.answer, c.extra, c.ns)
		}
		if r.Question[0].Name != name || len(r.Answer) > 0 && kind != "SOA" && kind != "NS" && r.Answer[0].Header().Name != name {
			t.Errorf("%s: the question's case is not echoed: %v", q, r)
		}
	}
}

// TC is set whenever answers were left out.
func TestSizes(t *testing.T) {
	t.Parallel()
	s := New(Config{Endpoint: world(), Datacenter: "dc1"})
	for _, c := range []struct {
		qtype     uint16
		udp       bool
		edns      uint16
		most      int
		truncated bool
	}{
		{dns.TypeA, true, 0, 3, true}, {dns.TypeA, true, 4096, 200, false}, {dns.TypeA, false, 0, 200, false},
		{dns.TypeA, true, 1024, 100, true}, {dns.TypeSRV, true, 0, 3, true}, {dns.TypeSRV, true, 1400, 60, true}, {dns.TypeSRV, false, 0, 200, false},
	} {
		r := ask1(t, s, "many.service.consul.", c.qtype, c.udp, c.edns)
		size := 65535
		if c.udp {
			size = max(512, int(c.edns))
		}
		if n := len(r.Answer); n < 1 || n > c.most || !c.truncated && n != c.most || r.Truncated != c.truncated || r.Len() > size {
			t.Errorf("%s udp %t edns %d: %d answers, %d bytes, TC %t; want at most %d and %d, TC %t",
				dns.TypeToString[c.qtype], c.udp, c.edns, n, r.Len(), r.Truncated, c.most, size, c.truncated)
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
	passing := New(Config{Endpoint: world(), Datacenter: "dc1", OnlyPassing: true})
	if r := ask1(t, passing, "web.service.consul.", dns.TypeA, false, 0); text(r.Answer) != "A 10.0.0.1" {
		t.Errorf("only passing: %s", text(r.Answer))
	}
}

// Over real sockets, and with a recursor; everything ends with the context.
func TestServe(t *testing.T) {
	t.Parallel()
	serve := func(cfg Config) (udp, tcp string, stop func()) {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			if err := New(cfg).Serve(ctx, []net.PacketConn{c}, []net.Listener{l}); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		return c.LocalAddr().String(), l.Addr().String(), func() { cancel(); running.Wait() }
	}
	behind, _, stopBehind := serve(Config{Endpoint: world(), Domain: "example", Datacenter: "dc1"})
	defer stopBehind()
	udp, tcp, stop := serve(Config{Endpoint: world(), Datacenter: "dc1", Recursors: []string{"127.0.0.1:1", behind}, RecursorTimeout: time.Second})
	defer stop()
	for network, addr := range map[string]string{"udp": udp, "tcp": tcp} {
		m := new(dns.Msg)
		m.SetQuestion("web.service.consul.", dns.TypeA)
		r, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(m, addr)
		if err != nil || len(r.Answer) != 2 || !r.Authoritative {
			t.Errorf("%s: %v, %v", network, r, err)
		}
	}
	m := new(dns.Msg)
	m.SetQuestion("web.service.example.", dns.TypeA)
	r, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(m, udp)
	if err != nil || len(r.Answer) != 2 || !r.RecursionAvailable && r.Rcode != dns.RcodeSuccess {
		t.Errorf("by the second recursor: %v, %v", r, err)
	}
}

func FuzzReply(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("_web._tcp.service.consul.", dns.TypeSRV)
	m.SetEdns0(512, true)
	b, _ := m.Pack()
	f.Add(b)
	s := New(Config{Endpoint: world(), Datacenter: "dc1"})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) == nil {
			s.reply(t.Context(), m, true) // must not panic
		}
	})
}
