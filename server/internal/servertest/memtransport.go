package servertest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport carries gossip over a Net. Its channels are never closed, as memberlist wants
// it.
type transport struct {
	ip      net.IP
	port    int
	listen  net.Listener
	socket  net.PacketConn
	dial    func(context.Context, string) (net.Conn, error)
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// NewTransport opens a transport for gossip at addr, "ip:port". Its Shutdown closes it.
func NewTransport(n *Net, p *Packets, addr string) (memberlist.NodeAwareTransport, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	l, err := n.Listen(addr)
	if err != nil {
		return nil, err
	}
	s, err := p.Listen(addr)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	t := &transport{
		ip: at.Addr().AsSlice(), port: int(at.Port()), listen: l, socket: s, dial: n.Dialer(at.Addr().String()),
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closed: make(chan struct{}),
	}
	t.running.Go(t.takePackets)
	t.running.Go(t.takeStreams)
	return t, nil
}

func (t *transport) takePackets() {
	b := make([]byte, 64<<10)
	for {
		n, from, err := t.socket.ReadFrom(b)
		if err != nil {
			return
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: append([]byte(nil), b[:n]...), From: from, Timestamp: time.Now()}:
		case <-t.closed:
			return
		}
	}
}

func (t *transport) takeStreams() {
	for {
		c, err := t.listen.Accept()
		if err != nil {
			return
		}
		select {
		case t.streams <- c:
		case <-t.closed:
			c.Close()
			return
		}
	}
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) { return t.ip, t.port, nil }
func (t *transport) PacketCh() <-chan *memberlist.Packet                 { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn                           { return t.streams }

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	_, err := t.socket.WriteTo(b, address(addr))
	return time.Now(), err
}

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.dial(ctx, addr)
}

func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

func (t *transport) Shutdown() error {
	t.once.Do(func() {
		close(t.closed)
		t.listen.Close()
		t.socket.Close()
		t.running.Wait()
	})
	return nil
}
