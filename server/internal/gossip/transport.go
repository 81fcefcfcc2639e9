package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/armon/go-metrics"
	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/memberlist"
)

const (
	largest       = 64 << 10 // bytes of a datagram
	receiveBuffer = 2 << 20  // bytes that the kernel may keep of datagrams, if it lets us
)

// sockets carries the gossip over UDP and TCP. The library's own makes 64 KB anew for each
// datagram, nearly all of which are of some hundred bytes.
type sockets struct {
	tcp     *net.TCPListener
	udp     *net.UDPConn
	log     *slog.Logger
	packets chan *memberlist.Packet // never closed, as memberlist wants it; so is streams
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*sockets)(nil)

// listen opens both at ip, "" for all addresses; with port 0 at one that is free. Shutdown
// closes them.
func listen(ip string, port int, log *slog.Logger) (*sockets, error) {
	at := net.ParseIP(ip)
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: at, Port: port})
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: at, Port: tcp.Addr().(*net.TCPAddr).Port})
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	for size := receiveBuffer; size > 0 && udp.SetReadBuffer(size) != nil; size /= 2 {
	}
	s := &sockets{
		tcp: tcp, udp: udp, log: log, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), closed: make(chan struct{}),
	}
	s.running.Go(s.takePackets)
	s.running.Go(s.takeStreams)
	return s, nil
}

func (s *sockets) port() int { return s.tcp.Addr().(*net.TCPAddr).Port }

// takePackets hands datagrams on, each in as much memory as it needs.
func (s *sockets) takePackets() {
	b := make([]byte, largest)
	for {
		n, from, err := s.udp.ReadFrom(b)
		switch {
		case err != nil:
			if s.isClosed() {
				return
			}
			s.log.Debug("datagram not read", "err", err)
			continue
		case n == 0:
			continue
		}
		metrics.IncrCounter([]string{"memberlist", "udp", "received"}, float32(n))
		select {
		case s.packets <- &memberlist.Packet{Buf: append([]byte(nil), b[:n]...), From: from, Timestamp: time.Now()}:
		case <-s.closed:
			return
		}
	}
}

// takeStreams hands connections on; where none can be had, for want of file descriptors, it
// tries again and again.
func (s *sockets) takeStreams() {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 5*time.Millisecond, time.Second
	for {
		c, err := s.tcp.Accept()
		if err != nil {
			if s.isClosed() {
				return
			}
			s.log.Error("connection not accepted", "err", err)
			timer := time.NewTimer(pause.NextBackOff())
			select {
			case <-s.closed:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		pause.Reset()
		select {
		case s.streams <- c:
		case <-s.closed:
			c.Close()
			return
		}
	}
}

func (s *sockets) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// FinalAdvertiseAddr gives where others reach us.
func (s *sockets) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		at := s.tcp.Addr().(*net.TCPAddr).IP
		if at.IsUnspecified() {
			return nil, 0, errors.New("nobody can be told to come to all addresses: give one to advertise")
		}
		return at, s.port(), nil
	}
	at := net.ParseIP(ip)
	if at == nil {
		return nil, 0, fmt.Errorf("address to advertise %q: it is no IP", ip)
	}
	if v4 := at.To4(); v4 != nil {
		at = v4
	}
	if port == 0 {
		port = s.port()
	}
	return at, port, nil
}

// PacketCh gives the datagrams that come in.
func (s *sockets) PacketCh() <-chan *memberlist.Packet { return s.packets }

// StreamCh gives the connections that come in.
func (s *sockets) StreamCh() <-chan net.Conn { return s.streams }

// WriteTo sends a datagram and tells when.
func (s *sockets) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		named, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return time.Time{}, err
		}
		to = named.AddrPort()
	}
	_, err = s.udp.WriteToUDPAddrPort(b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	return time.Now(), err
}

// WriteToAddress is WriteTo; names do not matter.
func (s *sockets) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return s.WriteTo(b, a.Addr)
}

// DialTimeout connects.
func (s *sockets) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", addr, timeout)
}

// DialAddressTimeout is DialTimeout; names do not matter.
func (s *sockets) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return s.DialTimeout(a.Addr, timeout)
}

// Shutdown closes everything; calling it again does nothing.
func (s *sockets) Shutdown() error {
	s.once.Do(func() {
		close(s.closed)
		s.tcp.Close()
		s.udp.Close()
		s.running.Wait()
	})
	return nil
}
