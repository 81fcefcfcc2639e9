package dnsserver

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/store"
)

// leads is a log that nobody writes to.
type leads struct{}

func (leads) Apply(context.Context, consensus.Item) (any, error) { return nil, consensus.ErrClosed }
func (leads) IsLeader() bool                                     { return true }
func (leads) Leader() (string, string)                           { return "id", "10.0.0.1:8300" }
func (leads) Watch() <-chan struct{}                             { return nil }
func (leads) VerifyLeader(context.Context) error                 { return nil }
func (leads) LastContact() time.Duration                         { return 0 }
func (leads) Others() []string                                   { return nil }
func (leads) Servers() ([]*api.RaftServer, uint64, error)        { return nil, 0, nil }

// catalogOf is a server's endpoint with services s10 and s1000 of so many instances.
func catalogOf(b *testing.B, sizes ...int) *endpoint.Local {
	st := store.New()
	tx := st.Begin(1)
	for _, n := range sizes {
		for i := range n {
			name := fmt.Sprint("s", n)
			err := tx.Register(&api.Registration{
				Node: fmt.Sprintf("node-%d", i), Address: fmt.Sprintf("10.1.%d.%d", i/250, i%250), Datacenter: "dc1",
				Service: &api.Service{ID: name, Service: name, Port: 80, Weights: api.Weights{Passing: 1, Warning: 1}},
				Checks:  []*api.Check{{Node: fmt.Sprintf("node-%d", i), CheckID: "c" + name, ServiceID: name, Status: api.Passing}},
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	tx.Commit()
	return endpoint.NewLocal(endpoint.Config{Datacenter: "dc1", Store: st, Raft: leads{}})
}

// One question, from packet to packet, as the loops answer it.
func BenchmarkAnswer(b *testing.B) {
	s := New(Config{Endpoint: catalogOf(b, 10, 1000), Datacenter: "dc1", InPlace: true, NodeMetaTXT: true})
	for _, c := range []struct {
		qtype uint16
		name  string
		edns  uint16
	}{
		{dns.TypeA, "s10", 0}, {dns.TypeSRV, "s10", 1232}, {dns.TypeA, "s1000", 0}, {dns.TypeSRV, "s1000", 1232}, {dns.TypeA, "s1000", 65000},
		{dns.TypeAAAA, "s10", 0},
	} {
		b.Run(fmt.Sprintf("%s/%s/edns=%d", c.name, dns.TypeToString[c.qtype], c.edns), func(b *testing.B) {
			m := new(dns.Msg).SetQuestion(c.name+".service.consul.", c.qtype)
			if c.edns > 0 {
				m.SetEdns0(c.edns, false)
			}
			packet, err := m.Pack()
			if err != nil {
				b.Fatal(err)
			}
			wire(b, s, packet, true) // now it is at hand
			var sc scratch
			b.ReportAllocs()
			for b.Loop() {
				r, err := parse(packet, true)
				if err != nil {
					b.Fatal(err)
				}
				var ok bool
				if sc.out, ok = s.quick(b.Context(), sc.out[:0], &r, &sc); !ok {
					s.work(b.Context(), nil, packet, &r, &sc)
				}
			}
		})
	}
}

// Questions over real sockets, from as many clients as there are processors.
func BenchmarkUDP(b *testing.B) {
	ep := catalogOf(b, 10, 1000)
	for _, name := range []string{"s10", "s1000"} {
		b.Run(name, func(b *testing.B) {
			addr := start(b, Config{Endpoint: ep, Datacenter: "dc1", InPlace: true}, "127.0.0.1")
			packet, err := new(dns.Msg).SetQuestion(name+".service.consul.", dns.TypeA).Pack()
			if err != nil {
				b.Fatal(err)
			}
			b.RunParallel(func(pb *testing.PB) {
				c, err := net.Dial("udp", addr)
				if err != nil {
					b.Error(err)
					return
				}
				defer c.Close()
				buf := make([]byte, 1024)
				for pb.Next() {
					c.SetDeadline(time.Now().Add(5 * time.Second))
					if _, err := c.Write(packet); err != nil {
						b.Error(err)
						return
					}
					if _, err := c.Read(buf); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
