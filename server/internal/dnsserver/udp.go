package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// mostQuestion is the most bytes of a UDP packet that are read; what is longer is no
// question that we answer.
const mostQuestion = 4096

// serveUDP answers on one socket until ctx ends. What is at hand is answered by the loop
// itself, the rest beside it.
func (s *Server) serveUDP(ctx, answering context.Context, pc net.PacketConn) error {
	defer pc.Close()
	stop := context.AfterFunc(ctx, func() { pc.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	sock, err := newSocket(pc)
	if err != nil {
		return fmt.Errorf("serve DNS on %s: %w", pc.LocalAddr(), err)
	}
	var working sync.WaitGroup
	defer working.Wait()
	room := make(chan struct{}, mostWork)
	packet := make([]byte, mostQuestion)
	var sc scratch
	for {
		n, from, oob, err := sock.read(packet)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("serve DNS on %s: %w", pc.LocalAddr(), err)
		case err != nil:
			continue // a fault of one packet, an ICMP error for one sent before
		}
		out, v := s.receive(answering, packet[:n], from.Addr(), true, &sc)
		if v == open {
			select {
			case room <- struct{}{}:
				question, back := slices.Clone(packet[:n]), slices.Clone(oob)
				working.Go(func() {
					defer func() { <-room }()
					s.workOut(answering, question, from.Addr(), true, func(out []byte) { sock.write(out, back, from) })
				})
				continue
			default:
				out, v = busy(packet[:n], &sc), answered
			}
		}
		if v == answered {
			sock.write(out, oob, from)
		}
	}
}

// socket reads packets and answers from the address that they were sent to: on a socket
// bound to all addresses the kernel would otherwise choose one.
type socket struct {
	net.PacketConn
	udp  *net.UDPConn // nil on a net in memory
	all  bool
	oob  []byte
	dest func(oob []byte) []byte // control message of the answer to one that came with oob
}

func newSocket(pc net.PacketConn) (*socket, error) {
	s := &socket{PacketConn: pc}
	s.udp, _ = pc.(*net.UDPConn)
	if s.udp == nil {
		return s, nil
	}
	addr, _ := s.udp.LocalAddr().(*net.UDPAddr)
	if s.all = addr.IP.IsUnspecified(); !s.all {
		return s, nil
	}
	s.oob = make([]byte, 128)
	if addr.IP.To4() != nil {
		s.dest = sourceIPv4
		return s, ipv4.NewPacketConn(s.udp).SetControlMessage(ipv4.FlagDst, true)
	}
	s.dest = sourceIPv6
	ipv4.NewPacketConn(s.udp).SetControlMessage(ipv4.FlagDst, true) // of no use where the socket is for IPv6 only
	return s, ipv6.NewPacketConn(s.udp).SetControlMessage(ipv6.FlagDst, true)
}

// read gives a packet, from where, and what write needs to answer it, which is valid
// until the next read.
func (s *socket) read(p []byte) (n int, from netip.AddrPort, oob []byte, err error) {
	switch {
	case s.udp == nil:
		var addr net.Addr
		n, addr, err = s.ReadFrom(p)
		if err == nil {
			from, err = netip.ParseAddrPort(addr.String())
		}
	case !s.all:
		n, from, err = s.udp.ReadFromUDPAddrPort(p)
	default:
		var k int
		n, k, _, from, err = s.udp.ReadMsgUDPAddrPort(p, s.oob)
		if err == nil {
			oob = s.dest(s.oob[:k])
		}
	}
	return n, from, oob, err
}

// write sends an answer. Whether it arrives is the client's to find out.
func (s *socket) write(p, oob []byte, to netip.AddrPort) {
	switch {
	case len(p) == 0:
	case s.udp == nil:
		s.WriteTo(p, net.UDPAddrFromAddrPort(to))
	case oob == nil:
		s.udp.WriteToUDPAddrPort(p, to)
	default:
		s.udp.WriteMsgUDPAddrPort(p, oob, to)
	}
}

func sourceIPv4(oob []byte) []byte {
	var m ipv4.ControlMessage
	if m.Parse(oob) != nil || m.Dst == nil {
		return nil
	}
	return (&ipv4.ControlMessage{Src: m.Dst}).Marshal()
}

func sourceIPv6(oob []byte) []byte {
	var m ipv6.ControlMessage
	if m.Parse(oob) == nil && m.Dst != nil && m.Dst.To4() == nil {
		out := ipv6.ControlMessage{Src: m.Dst}
		if m.Dst.IsLinkLocalUnicast() {
			out.IfIndex = m.IfIndex
		}
		return out.Marshal()
	}
	return sourceIPv4(oob)
}
