package gossip

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestTuning(t *testing.T) {
	t.Parallel()
	cfg := Config{Name: "n", Log: slog.New(slog.DiscardHandler)}
	was := (&Pool{cfg: cfg, log: cfg.Log}).serfConfig(nil).MemberlistConfig
	if was.ProbeInterval != time.Second || was.GossipNodes != 3 || !was.GossipVerifyIncoming || !was.GossipVerifyOutgoing || len(was.CIDRsAllowed) != 0 {
		t.Errorf("by default: %+v", was)
	}
	cfg.Tuning = Tuning{
		GossipInterval: time.Minute, GossipNodes: 5, ProbeInterval: 2 * time.Second, ProbeTimeout: 3 * time.Second, SuspicionMult: 6, RetransmitMult: 7,
		Networks: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("fd00::/16")}, AcceptPlain: true,
	}
	m := (&Pool{cfg: cfg, log: cfg.Log}).serfConfig(nil).MemberlistConfig
	if m.GossipInterval != time.Minute || m.GossipNodes != 5 || m.ProbeInterval != 2*time.Second || m.ProbeTimeout != 3*time.Second ||
		m.SuspicionMult != 6 || m.RetransmitMult != 7 || m.GossipVerifyIncoming || !m.GossipVerifyOutgoing {
		t.Errorf("tuned: %+v", m)
	}
	for ip, want := range map[string]bool{"10.9.9.9": true, "11.0.0.1": false, "fd00::1": true, "fd01::1": false} {
		if err := m.IPAllowed(net.ParseIP(ip)); (err == nil) != want {
			t.Errorf("%s: %v, allowed should be %t", ip, err, want)
		}
	}
}
