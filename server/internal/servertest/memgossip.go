package servertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// inbox is how many packets wait at a socket before more are dropped, as a kernel does.
const inbox = 1024

// Packets carries datagrams between the hosts of a Net, for gossip. Partition and Heal
// of the Net count for them too: a packet to the other side vanishes. Packets that
// arrive do so at once and in order.
type Packets struct {
	net *Net

	mu      sync.Mutex
	sockets map[string]*socket // guarded by mu; by address
	loss    float64            // guarded by mu
	dice    *rand.Rand         // guarded by mu; seeded, so that a test can be repeated
}

// NewPackets makes the datagrams of n.
func NewPackets(n *Net) *Packets {
	return &Packets{net: n, sockets: map[string]*socket{}, dice: rand.New(rand.NewPCG(1, 2))}
}

// Lose drops a share of all packets, between 0 and 1.
func (p *Packets) Lose(share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loss = share
}

// Listen opens a socket at addr, "host:port".
func (p *Packets) Listen(addr string) (net.PacketConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sockets[addr] != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, ErrInUse)
	}
	s := &socket{packets: p, addr: address(addr), in: make(chan packet, inbox), closed: make(chan struct{})}
	p.sockets[addr] = s
	return s, nil
}

// send delivers b to whoever listens at to; nobody is told when it cannot.
func (p *Packets) send(from, to string, b []byte) {
	if p.net.lose(hostOf(from), hostOf(to)) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sockets[to]
	if s == nil || p.loss > 0 && p.dice.Float64() < p.loss {
		return
	}
	select {
	case s.in <- packet{data: append([]byte(nil), b...), from: address(from)}:
	default:
	}
}

// lose reports whether nothing arrives now that from sends to to.
func (n *Net) lose(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silent(from, to)
}

type packet struct {
	data []byte
	from address
}

// socket is a net.PacketConn without deadlines.
type socket struct {
	packets *Packets
	addr    address
	in      chan packet
	once    sync.Once
	closed  chan struct{}
}

var _ net.PacketConn = (*socket)(nil)

func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-s.in:
		return copy(b, p.data), p.from, nil
	case <-s.closed:
		return 0, nil, net.ErrClosed
	}
}

func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-s.closed:
		return 0, net.ErrClosed
	default:
	}
	s.packets.send(string(s.addr), to.String(), b)
	return len(b), nil
}

func (s *socket) Close() error {
	s.once.Do(func() {
		s.packets.mu.Lock()
		delete(s.packets.sockets, string(s.addr))
		s.packets.mu.Unlock()
		close(s.closed)
	})
	return nil
}

func (s *socket) LocalAddr() net.Addr { return s.addr }

func (s *socket) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (s *socket) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (s *socket) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
