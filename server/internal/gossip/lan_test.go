package gossip

import (
	"net"
	"strconv"

	"github.com/rollcall/rollcall/server/internal/servertest"
)

// lan is a datacenter in memory.
type lan struct {
	net     *servertest.Net
	packets *servertest.Packets
}

func newLAN() *lan {
	n := servertest.NewNet()
	return &lan{net: n, packets: servertest.NewPackets(n)}
}

// gossipPort is the port of everyone on a lan.
const gossipPort = 8301

func at(ip string) string { return net.JoinHostPort(ip, strconv.Itoa(gossipPort)) }
