package agent

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"syscall"

	"github.com/armon/go-metrics"
	"golang.org/x/sys/unix"

	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/dnsserver"
)

// mostDNSSockets bounds the UDP sockets of one address.
const mostDNSSockets = 8

// dnsConfig is what the DNS door takes from a configuration.
func (a *Agent) dnsConfig(cfg *config.Config) dnsserver.Config {
	d := &cfg.DNS
	return dnsserver.Config{
		Endpoint: a.shown(), InPlace: cfg.Server, Token: func() string { return a.tokens.get(dnsSlot, defaultSlot) },
		Domain: cfg.Domain, AltDomain: cfg.AltDomain, Datacenter: cfg.Datacenter, Node: cfg.NodeName,
		NodeTTL: d.NodeTTL, ServiceTTL: d.ServiceTTL, OnlyPassing: d.OnlyPassing, NodeMetaTXT: *d.NodeMetaTXT,
		SOA:            dnsserver.SOA{Refresh: d.SOA.Refresh, Retry: d.SOA.Retry, Expire: d.SOA.Expire, MinTTL: d.SOA.MinTTL},
		UDPAnswerLimit: d.UDPAnswerLimit, ARecordLimit: d.ARecordLimit, NoCompression: d.NoCompression,
		Strict: d.Strict, EnableTruncate: d.EnableTruncate,
		Consistent: !*d.AllowStale, MaxStale: d.MaxStale, UseCache: d.UseCache, CacheMaxAge: d.CacheMaxAge,
		Recursors: cfg.Recursors, RandomRecursors: d.RecursorStrategy == "random", RecursorTimeout: d.RecursorTimeout,
		Log: a.log,
	}
}

// dnsMeasure gives what adds the questions of DNS to the counters, each time those since
// the last.
func (a *Agent) dnsMeasure() func(*metrics.Metrics) {
	var told dnsserver.Counts
	return func(m *metrics.Metrics) {
		if a.names == nil {
			return
		}
		now := a.names.Counts()
		add := func(name string, n uint64) { m.IncrCounter([]string{"dns", name}, float32(n)) }
		add("questions", now.Questions-told.Questions)
		add("at_hand", now.AtHand-told.AtHand)
		add("recursed", now.Recursed-told.Recursed)
		add("failed", now.Failed-told.Failed)
		told = now
	}
}

// listenDNS opens the UDP sockets of an address: one a processor, among which the kernel
// spreads the clients. What was opened is given along with an error.
func listenDNS(ip string, port int) ([]net.PacketConn, error) {
	n := min(runtime.GOMAXPROCS(0), mostDNSSockets)
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
			return e
		}
		return err
	}}
	var socks []net.PacketConn
	at := net.JoinHostPort(ip, strconv.Itoa(port))
	for range n {
		c, err := lc.ListenPacket(context.Background(), "udp", at)
		if err != nil {
			return socks, explain(err, "ports.dns", "-dns-port", at)
		}
		socks = append(socks, c)
		at = c.LocalAddr().String() // all on the port that the first one got
	}
	return socks, nil
}
