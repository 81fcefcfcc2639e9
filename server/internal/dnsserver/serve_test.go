package dnsserver

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// start serves cfg on loopback, or another address, until the test ends, and gives the
// address.
func start(t testing.TB, cfg Config, ip string) string {
	t.Helper()
	c, l := listen(t, ip)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := New(cfg).Serve(ctx, []net.PacketConn{c}, []net.Listener{l}); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return c.LocalAddr().String()
}

// listen opens both kinds of socket on one free port.
func listen(t testing.TB, ip string) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		if c, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
			return c, l
		}
		l.Close() // another has that port
	}
	t.Fatal("no free port")
	return nil, nil
}

func askOver(t testing.TB, network, addr, name string, qtype uint16) *dns.Msg {
	t.Helper()
	r, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).Exchange(new(dns.Msg).SetQuestion(name, qtype), addr)
	if err != nil {
		t.Fatalf("%s %s over %s: %v", name, dns.TypeToString[qtype], network, err)
	}
	return r
}

// Over real sockets: what is at hand and what is not, and what the recursors know, the
// first of whom is dead.
func TestServe(t *testing.T) {
	behind := start(t, Config{Endpoint: world(), Domain: "example", Datacenter: "dc1"}, "127.0.0.1")
	addr := start(t, Config{Endpoint: world(), Datacenter: "dc1", InPlace: true, Recursors: []string{"127.0.0.1:1", behind}, RecursorTimeout: time.Second}, "127.0.0.1")
	for _, network := range []string{"udp", "tcp"} {
		for range 2 {
			if r := askOver(t, network, addr, "web.service.consul.", dns.TypeA); len(r.Answer) != 2 || !r.Authoritative || !r.RecursionAvailable {
				t.Errorf("%s: %v", network, r)
			}
		}
		if r := askOver(t, network, addr, "web.service.example.", dns.TypeA); len(r.Answer) != 2 || !r.RecursionAvailable {
			t.Errorf("%s: by the second recursor: %v", network, r)
		}
		if r := askOver(t, network, addr, "none.service.example.", dns.TypeA); r.Rcode != dns.RcodeNameError {
			t.Errorf("%s: what a recursor knows not to be there: %v", network, r)
		}
		if r := askOver(t, network, addr, "broken.service.example.", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: what no recursor can tell: %v", network, r)
		}
	}
}

// What was asked is counted.
func TestCounts(t *testing.T) {
	t.Parallel()
	s := New(Config{Endpoint: world(), Datacenter: "dc1", InPlace: true, Recursors: []string{"127.0.0.1:1"}})
	var sc scratch
	for _, name := range []string{"web.service.consul.", "web.service.consul.", "broken.service.consul.", "www.example."} {
		packet, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		from := netip.MustParseAddr("127.0.0.1")
		if _, v := s.receive(t.Context(), packet, from, true, &sc); v == open {
			s.workOut(t.Context(), packet, from, true, func([]byte) {})
		}
	}
	if got, want := s.Counts(), (Counts{Questions: 4, AtHand: 1, Recursed: 1, Failed: 2}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

// A host name is followed through the recursors; the addresses live no longer than the
// name.
func TestChase(t *testing.T) {
	abroad := world()
	abroad.services["away"] = abroad.services["web"]
	behind := start(t, Config{Endpoint: abroad, Domain: "example", Datacenter: "dc1", ServiceTTL: map[string]time.Duration{"*": time.Minute}}, "127.0.0.1")
	home := world()
	home.services["named"][0].Service.Address = "away.service.example"
	home.services["inside"] = append(home.services["inside"], inst("n7", "10.0.0.7", "web.service.consul", 80, "passing"))
	home.services["loop"] = append(home.services["loop"], inst("n7", "10.0.0.7", "loop.service.consul", 80, "passing"))
	s := New(Config{Endpoint: home, Datacenter: "dc1", InPlace: true, Recursors: []string{behind}, ServiceTTL: map[string]time.Duration{"named": 5 * time.Second}})
	for q, want := range map[string]string{
		"named.service.consul. A":     "A 10.0.0.1; A 192.168.0.2; CNAME away.service.example.",
		"named.service.consul. AAAA":  "CNAME away.service.example.",
		"inside.service.consul. A":    "A 10.0.0.1; A 192.168.0.2; CNAME web.service.consul.",
		"inside.service.consul. AAAA": "CNAME web.service.consul.",
		"loop.service.consul. A":      strings.TrimSuffix(strings.Repeat("CNAME loop.service.consul.; ", maxDepth+1), "; "),
	} {
		name, kind, _ := strings.Cut(q, " ")
		r := ask1(t, s, name, dns.StringToType[kind], true, 0)
		if said(r.Answer) != want {
			t.Errorf("%s: %q, want %q", q, said(r.Answer), want)
		}
		for _, rr := range r.Answer {
			if strings.HasPrefix(q, "named") && rr.Header().Ttl != 5 {
				t.Errorf("%s: TTL of %s, want 5", q, rr)
			}
		}
	}
	r := ask1(t, s, "named.service.consul.", dns.TypeSRV, true, 0)
	if said(r.Answer) != "SRV 1 5 80 away.service.example." || said(r.Extra) != "A 10.0.0.1; A 192.168.0.2" {
		t.Errorf("SRV of a host name: %v", r)
	}
}

// slow answers nothing before it is let.
type slow struct {
	*catalog
	gate chan struct{}
}

func (s *slow) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	if q.Name == "slow" {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return s.catalog.Read(ctx, q)
}

// Ten thousand questions down one connection, the first of which takes its time, all of
// them before the first answer is read: none is lost.
func TestPipeline(t *testing.T) {
	world := &slow{world(), make(chan struct{})}
	world.services["slow"] = world.services["web"]
	addr := start(t, Config{Endpoint: world, Datacenter: "dc1", InPlace: true}, "127.0.0.1")
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	const n = 10_000
	var out []byte
	for i := range n {
		name := "web.service.consul."
		switch {
		case i == 0:
			name = "slow.service.consul."
		case i%10 == 5:
			name = fmt.Sprintf("none%d.service.consul.", i) // not at hand
		}
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.Id = uint16(i)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(b))), b...)
	}
	go func() {
		c.Write(out)
		c.(*net.TCPConn).CloseWrite() // the client is done asking, not reading
	}()
	seen := make([]bool, n)
	for i := range n {
		if i == n-1 {
			close(world.gate) // all others are there
		}
		var head [2]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatalf("after %d answers: %v", i, err)
		}
		b := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		id := binary.BigEndian.Uint16(b)
		if int(id) >= n || seen[id] {
			t.Fatalf("answer %d to nobody, or for the second time", id)
		}
		seen[id] = true
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the last answer: %d bytes, %v; want the end", n, err)
	}
}

// A socket on all addresses answers from the one that was asked, else a client that
// looks does not take it.
func TestWildcard(t *testing.T) {
	for ip, at := range map[string]string{"0.0.0.0": "127.0.0.3", "::": "127.0.0.3"} {
		addr := start(t, Config{Endpoint: world(), Datacenter: "dc1", InPlace: true}, ip)
		_, port, _ := net.SplitHostPort(addr)
		for range 2 { // a connected socket takes nothing from elsewhere
			if r := askOver(t, "udp", net.JoinHostPort(at, port), "web.service.consul.", dns.TypeA); len(r.Answer) != 2 {
				t.Errorf("bound to %s, asked at %s: %v", ip, at, r)
			}
		}
	}
}

// The list of services is for this host, over TCP.
func TestList(t *testing.T) {
	t.Parallel()
	addr := start(t, Config{Endpoint: world(), Datacenter: "dc1", InPlace: true}, "127.0.0.1")
	if r := askOver(t, "udp", addr, "*.service.consul.", dns.TypePTR); !r.Truncated || len(r.Answer) != 0 {
		t.Errorf("over UDP: %v", r)
	}
	if r := askOver(t, "tcp", addr, "*.service.consul.", dns.TypePTR); said(r.Answer) != "PTR db.service.dc1.consul.; PTR web.service.dc1.consul." {
		t.Errorf("over TCP: %v", r)
	}
	if r := askOver(t, "tcp", addr, "*.service.consul.", dns.TypeTXT); said(r.Answer) != `TXT "db"; TXT "web a.b"` {
		t.Errorf("TXT: %v", r)
	}
	s := New(Config{Endpoint: world(), Datacenter: "dc1", InPlace: true})
	packet, _ := new(dns.Msg).SetQuestion("*.service.consul.", dns.TypePTR).Pack()
	r, _ := parse(packet, false) // from nowhere
	var sc scratch
	m := new(dns.Msg)
	if err := m.Unpack(s.work(t.Context(), nil, packet, &r, &sc)); err != nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("from elsewhere: %v, %v", m, err)
	}
}

// Serve ends with its context, in the middle of questions, and leaves nothing behind.
func TestServeEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	world := &slow{world(), make(chan struct{})}
	world.services["slow"] = world.services["web"]
	c, l := listen(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() {
		end <- New(Config{Endpoint: world, Datacenter: "dc1", InPlace: true}).Serve(ctx, []net.PacketConn{c}, []net.Listener{l})
	}()
	answers := make(chan error, 2)
	for network, addr := range map[string]net.Addr{"udp": c.LocalAddr(), "tcp": l.Addr()} {
		conn, err := dns.Dial(network, addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		for _, name := range []string{"slow.service.consul.", "web.service.consul."} {
			if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.ReadMsg(); err != nil { // the second: so the first is in work
			t.Fatal(err)
		}
		go func() {
			m, err := conn.ReadMsg()
			if err == nil && len(m.Answer) != 2 {
				err = fmt.Errorf("answer %v", m)
			}
			answers <- err
		}()
	}
	cancel()
	close(world.gate)
	for range 2 {
		if err := <-answers; err != nil {
			t.Errorf("a question under way at the end: %v", err)
		}
	}
	if err := <-end; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// A client of another protocol, whose first bytes look like the length of a long message,
// hears soon that this is not what it wants; one that is silent between two questions is
// left alone.
func TestForeignProtocol(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, client := net.Pipe()
		served := time.Now()
		done := make(chan time.Duration, 1)
		go func() {
			newConn(New(Config{Endpoint: world(), Datacenter: "dc1"}), ours).serve(t.Context(), t.Context())
			done <- time.Since(served)
		}()
		over := &dns.Conn{Conn: client}
		for range 2 {
			if err := over.WriteMsg(new(dns.Msg).SetQuestion("web.service.consul.", dns.TypeA)); err != nil {
				t.Fatal(err)
			}
			if _, err := over.ReadMsg(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(idleBound - time.Second) // of the bubble
		}
		served = time.Now()
		if _, err := client.Write([]byte("GET /v1/agent/members HTTP/1.1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("it reads %d bytes, %v", n, err)
		}
		if took := <-done; took != messageBound {
			t.Errorf("closed after %s, want %s", took, messageBound)
		}
	})
}
