package e2e

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkDNS asks ours and the real Consul the same over UDP, one after the other, each
// from 16 clients that ask again as soon as they are answered, and reports answers a
// second and their ratio. The clients run on the same processors.
func BenchmarkDNS(b *testing.B) {
	pair := map[string]*agent{
		"ours":   startAgent(b, "probe", options{}, "-server", "-bootstrap-expect=1"),
		"consul": startAgent(b, "probe", options{bin: realConsul(b)}, "-server", "-bootstrap-expect=1"),
	}
	sizes := []int{1, 10, 100, 1000}
	for _, a := range pair {
		a.awaitLeader()
		for i := range sizes[len(sizes)-1] {
			for _, n := range sizes {
				if i >= n {
					continue
				}
				if err := a.put("/v1/catalog/register", fmt.Sprintf(
					`{"Node": "n%d", "Address": "10.0.%d.%d", "Service": {"Service": "s%d", "Port": 80}}`, i, i/250, i%250, n)); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	for _, n := range sizes {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
			b.Run(fmt.Sprintf("instances=%d/%s", n, dns.TypeToString[qtype]), func(b *testing.B) {
				rate := map[string]float64{}
				for b.Loop() {
					for name, a := range pair {
						rate[name] = flood(b, a.dns, fmt.Sprintf("s%d.service.consul.", n), qtype, 2*time.Second)
					}
				}
				b.ReportMetric(rate["ours"], "ours/s")
				b.ReportMetric(rate["consul"], "consul/s")
				b.ReportMetric(rate["ours"]/rate["consul"], "ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// flood asks for a while, and gives the answers a second.
func flood(b *testing.B, addr, name string, qtype uint16, during time.Duration) float64 {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(1232, false)
	packet, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	var answers atomic.Int64
	var clients sync.WaitGroup
	began := time.Now()
	for range 16 {
		clients.Go(func() {
			c, err := net.Dial("udp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			buf := make([]byte, 65535)
			for time.Since(began) < during {
				c.SetDeadline(time.Now().Add(2 * time.Second))
				if _, err := c.Write(packet); err != nil {
					b.Error(err)
					return
				}
				n, err := c.Read(buf)
				if err != nil || n < 12 || buf[3]&0xf != 0 {
					b.Errorf("%s: %d bytes, code %d: %v", name, n, buf[3]&0xf, err)
					return
				}
				answers.Add(1)
			}
		})
	}
	clients.Wait()
	return float64(answers.Load()) / time.Since(began).Seconds()
}
