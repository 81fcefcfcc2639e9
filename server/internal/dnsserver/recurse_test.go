package dnsserver

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// recursor answers every question as told, over UDP, and counts them. It ends with the
// test.
func recursor(t *testing.T, rcode int, answer bool) (addr string, asked *atomic.Int32) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int32)
	srv := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		asked.Add(1)
		if !answer {
			return
		}
		m := new(dns.Msg).SetRcode(r, rcode)
		if rcode == dns.RcodeSuccess {
			for i := range 100 { // more than a plain client takes
				rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN A 10.9.9.%d", r.Question[0].Name, i))
				if err != nil {
					t.Error(err)
					return
				}
				m.Answer = append(m.Answer, rr)
			}
		}
		m.Compress = true
		w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	t.Cleanup(func() {
		srv.Shutdown()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return pc.LocalAddr().String(), asked
}

// The first recursor that knows answers; those that are silent, broken or refuse are
// passed over. What is too long is cut, and TC says so.
func TestRecursors(t *testing.T) {
	silent, _ := recursor(t, 0, false)
	broken, _ := recursor(t, dns.RcodeServerFailure, true)
	refuses, _ := recursor(t, dns.RcodeRefused, true)
	knows, asked := recursor(t, dns.RcodeSuccess, true)
	denies, _ := recursor(t, dns.RcodeNameError, true)
	for name, c := range map[string]struct {
		list  []string
		rcode int
	}{
		"in order":          {[]string{knows, denies}, dns.RcodeSuccess},
		"denial counts":     {[]string{denies, knows}, dns.RcodeNameError},
		"others are passed": {[]string{silent, broken, refuses, "127.0.0.1:1", knows}, dns.RcodeSuccess},
		"nobody knows":      {[]string{silent, broken, refuses}, dns.RcodeServerFailure},
	} {
		s := New(Config{Endpoint: world(), Datacenter: "dc1", Recursors: c.list, RecursorTimeout: 100 * time.Millisecond})
		packet, err := new(dns.Msg).SetQuestion("www.example.", dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		r := respond(t, s, packet, true)
		if r.Rcode != c.rcode || !r.RecursionAvailable {
			t.Errorf("%s: %v", name, r)
		}
		if c.rcode == dns.RcodeSuccess && (!r.Truncated || len(r.Answer) < 10 || len(r.Answer) > 40) {
			t.Errorf("%s: %d answers, TC %t; want what 512 bytes hold, and TC", name, len(r.Answer), r.Truncated)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("who knows was asked %d times, want 2", asked.Load())
	}
}

// At random, each recursor is the first at times.
func TestRandomRecursors(t *testing.T) {
	one, first := recursor(t, dns.RcodeNameError, true)
	two, second := recursor(t, dns.RcodeNameError, true)
	s := New(Config{Endpoint: world(), Datacenter: "dc1", Recursors: []string{one, two}, RandomRecursors: true})
	packet, err := new(dns.Msg).SetQuestion("www.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range 60 { // that one of two never comes first has a chance of 2⁻⁵⁹
		respond(t, s, packet, true)
	}
	if first.Load() == 0 || second.Load() == 0 || first.Load()+second.Load() != 60 {
		t.Errorf("asked %d and %d times", first.Load(), second.Load())
	}
}

// bothDoors listens on one port for packets and for connections.
func bothDoors(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if pc, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
			return pc, l
		}
		l.Close() // somebody else has that port for packets
	}
}

// A recursor's answer that was cut is asked for again over TCP; where that fails, the part
// is passed on as one.
func TestHostNameOverTCP(t *testing.T) {
	for _, c := range []struct {
		tcp  bool
		want int
	}{{true, 60}, {false, 1}} {
		pc, l := bothDoors(t)
		answers := func(n int) dns.HandlerFunc {
			return func(w dns.ResponseWriter, r *dns.Msg) {
				m := new(dns.Msg).SetReply(r)
				for i := range n {
					rr, err := dns.NewRR(fmt.Sprintf("%s 60 IN A 10.9.9.%d", r.Question[0].Name, i))
					if err != nil {
						t.Error(err)
					}
					m.Answer = append(m.Answer, rr)
				}
				m.Truncated = n == 1
				w.WriteMsg(m)
			}
		}
		servers := []*dns.Server{{PacketConn: pc, Handler: answers(1)}}
		if c.tcp {
			servers = append(servers, &dns.Server{Listener: l, Handler: answers(60)})
		} else {
			l.Close()
		}
		for _, srv := range servers {
			done := make(chan error, 1)
			go func() { done <- srv.ActivateAndServe() }()
			t.Cleanup(func() {
				srv.Shutdown()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		}
		s := New(Config{Endpoint: world(), Datacenter: "dc1", Recursors: []string{pc.LocalAddr().String()}, RecursorTimeout: 10 * time.Second})
		r := ask1(t, s, "named.service.consul.", dns.TypeA, false, 0)
		if len(r.Answer) != 1+c.want || r.Truncated == c.tcp {
			t.Errorf("recursor with TCP %t: %d records and TC %t, want the CNAME and %d, TC only where there is more", c.tcp, len(r.Answer), r.Truncated, c.want)
		}
	}
}
