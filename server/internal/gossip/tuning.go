package gossip

import (
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// Tuning changes what the pool does by default; zero values leave it.
type Tuning struct {
	GossipInterval              time.Duration // between two rounds of gossip
	GossipNodes                 int           // members that each round goes to
	ProbeInterval, ProbeTimeout time.Duration // between two probes of members; for one
	SuspicionMult               int           // how long one that does not answer is suspected only
	RetransmitMult              int           // how often news is passed on
	// Networks are those whose members may gossip; none is all.
	Networks []netip.Prefix
	// AcceptPlain and SendPlain let gossip in and out that is not encrypted, while a key is
	// being rolled out.
	AcceptPlain, SendPlain bool
}

func (t Tuning) apply(m *memberlist.Config) {
	set(&m.GossipInterval, t.GossipInterval)
	set(&m.GossipNodes, t.GossipNodes)
	set(&m.ProbeInterval, t.ProbeInterval)
	set(&m.ProbeTimeout, t.ProbeTimeout)
	set(&m.SuspicionMult, t.SuspicionMult)
	set(&m.RetransmitMult, t.RetransmitMult)
	for _, n := range t.Networks {
		n = n.Masked()
		m.CIDRsAllowed = append(m.CIDRsAllowed, net.IPNet{IP: n.Addr().AsSlice(), Mask: net.CIDRMask(n.Bits(), n.Addr().BitLen())})
	}
	m.GossipVerifyIncoming, m.GossipVerifyOutgoing = !t.AcceptPlain, !t.SendPlain
}

func set[T comparable](p *T, v T) {
	var zero T
	if v != zero {
		*p = v
	}
}
