package dnsserver

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

var packets = flag.Int("packets", 50_000, "random and mutated packets of TestPackets; make soak sends a million")

// seeds are questions of every form, with and without EDNS.
func seeds(t testing.TB) [][]byte {
	var out [][]byte
	for _, name := range []string{
		"web.service.consul.", "a.b.web.service.consul.", "_web._tcp.service.consul.", "_web._tcp.consul.", "many.service.consul.", "none.service.consul.",
		"named.service.consul.", "n1.node.consul.", "0a000001.addr.consul.", "1.0.0.10.in-addr.arpa.", "consul.", "ask.me.query.consul.", "*.service.consul.", "www.example.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY, dns.TypeSOA, dns.TypePTR} {
			m := new(dns.Msg).SetQuestion(name, qtype)
			switch len(out) % 3 {
			case 1:
				m.SetEdns0(600, true)
			case 2:
				m.SetEdns0(4096, false)
				m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{
					Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{10, 1, 2, 0}})
			}
			b, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, b)
		}
	}
	return out
}

// mutate makes a packet that is a little wrong, or altogether.
func mutate(r *rand.Rand, seeds [][]byte) []byte {
	if r.IntN(8) == 0 {
		b := make([]byte, r.IntN(600))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	b := slices.Clone(seeds[r.IntN(len(seeds))])
	for range r.IntN(4) {
		switch at := r.IntN(len(b)); r.IntN(6) {
		case 0:
			b[at] = byte(r.Uint32())
		case 1:
			b[at] ^= 1 << r.IntN(8)
		case 2:
			b = b[:at+1]
		case 3:
			b = slices.Insert(b, at, byte(r.Uint32()))
		case 4: // a length or a count
			if at+2 <= len(b) {
				binary.BigEndian.PutUint16(b[at:], uint16(r.Uint32()))
			}
		case 5:
			other := seeds[r.IntN(len(seeds))]
			b = append(b[:at:at], other[min(at, len(other)):]...)
		}
	}
	return b
}

// Packets, random and mutated: no panic, no answer longer than the client
// takes, none to what is itself an answer, every answer readable; good questions in
// between are answered as ever, and nothing is left behind.
func TestPackets(t *testing.T) {
	t.Parallel()
	n := *packets
	s := New(Config{Endpoint: world(), Datacenter: "dc1", InPlace: true, NodeMetaTXT: true})
	seeds := seeds(t)
	r := rand.New(rand.NewPCG(1, 2))
	good := new(dns.Msg).SetQuestion("web.service.consul.", dns.TypeA)
	for i := range n {
		p := mutate(r, seeds)
		udp := r.IntN(2) == 0
		out, size := wire(t, s, p, udp)
		switch {
		case len(out) > size:
			t.Fatalf("packet %d, %x: %d bytes for who takes %d", i, p, len(out), size)
		case out == nil && len(p) >= headerSize && p[2]&0x80 == 0:
			t.Fatalf("packet %d, %x: no answer", i, p)
		case out == nil:
			continue
		case out[0] != p[0] || out[1] != p[1] || out[2]&0x80 == 0:
			t.Fatalf("packet %d, %x: %x is no answer to it", i, p, out)
		}
		if i%16 == 0 { // reading costs more than answering
			if err := new(dns.Msg).Unpack(out); err != nil {
				t.Fatalf("packet %d, %x: answer %x: %v", i, p, out, err)
			}
		}
		if i%1000 == 0 {
			if m := exchange(t, s, good, true); len(m.Answer) != 2 {
				t.Fatalf("after packet %d: %v", i, m)
			}
		}
	}
	runtime.GC()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	if entries := len(s.cache.entries); entries > kept {
		t.Errorf("%d answers are kept, want %d at most", entries, kept)
	}
	if mem.HeapAlloc > 256<<20 {
		t.Errorf("%d MB are in use", mem.HeapAlloc>>20)
	}
}

// The same over sockets: who sends rubbish is not in the way of who asks, and everything
// is over with the server.
func TestFlood(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c, l := listen(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() {
		s := New(Config{Endpoint: world(), Datacenter: "dc1", InPlace: true})
		end <- s.Serve(ctx, []net.PacketConn{c}, []net.Listener{l})
	}()
	seeds := seeds(t)
	var senders sync.WaitGroup
	for i := range 4 {
		senders.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 3))
			for range 100 {
				network, addr := "udp", c.LocalAddr()
				if i%2 == 1 {
					network, addr = "tcp", l.Addr()
				}
				conn, err := net.Dial(network, addr.String())
				if err != nil {
					t.Error(err)
					return
				}
				for range 50 {
					p := mutate(r, seeds)
					if network == "tcp" && r.IntN(4) > 0 { // else not even framed
						p = append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
					}
					if _, err := conn.Write(p); err != nil {
						break // it closes on what is no question
					}
				}
				conn.Close()
			}
		})
	}
	for range 200 {
		for network, addr := range map[string]string{"udp": c.LocalAddr().String(), "tcp": l.Addr().String()} {
			client := &dns.Client{Net: network, Timeout: 500 * time.Millisecond}
			var r *dns.Msg
			var err error
			for range 20 { // the kernel may drop a packet of a flood
				if r, _, err = client.Exchange(new(dns.Msg).SetQuestion("web.service.consul.", dns.TypeA), addr); err == nil {
					break
				}
			}
			if err != nil || len(r.Answer) != 2 {
				t.Fatalf("%s: %v, %v", network, r, err)
			}
		}
	}
	senders.Wait()
	cancel()
	if err := <-end; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
