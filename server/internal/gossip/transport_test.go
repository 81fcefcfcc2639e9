package gossip

import (
	"bytes"
	"log/slog"
	"net"
	"testing"
	"time"
)

// openSockets opens sockets at an address of loopback, at a port that is free.
func openSockets(t *testing.T, ip string) *sockets {
	t.Helper()
	s, err := listen(ip, 0, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown() })
	return s
}

// A datagram that was handed on keeps its bytes when the next one comes, and has no more
// memory than it needs; an address without a number in it is resolved.
func TestDatagramsKeepTheirBytes(t *testing.T) {
	t.Parallel()
	a, b := openSockets(t, "127.0.0.1"), openSockets(t, "127.0.0.1")
	_, port, err := net.SplitHostPort(b.tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	receive := func() []byte {
		t.Helper()
		select {
		case p := <-b.PacketCh():
			if p.From.String() != a.udp.LocalAddr().String() {
				t.Errorf("from %s, want %s", p.From, a.udp.LocalAddr())
			}
			return p.Buf
		case <-time.After(10 * time.Second):
			t.Fatal("nothing comes")
			return nil
		}
	}
	send := func(text, host string) {
		t.Helper()
		if _, err := a.WriteTo([]byte(text), net.JoinHostPort(host, port)); err != nil {
			t.Fatal(err)
		}
	}
	send("", "127.0.0.1") // is nothing
	send("one", "127.0.0.1")
	one := receive()
	if cap(one) > 64 {
		t.Errorf("%d bytes have %d of memory", len(one), cap(one))
	}
	send("two", "localhost")
	if two := receive(); !bytes.Equal(one, []byte("one")) || !bytes.Equal(two, []byte("two")) {
		t.Errorf("received %q and %q", one, two)
	}
	send("three", "::ffff:127.0.0.1")
	if got := receive(); string(got) != "three" {
		t.Errorf("received %q", got)
	}
}

// What is told to others is an address that leads here; where none is given and none can be
// known, that is an error. Sockets end at once, also while nobody takes what they have.
func TestSocketsAddress(t *testing.T) {
	t.Parallel()
	s := openSockets(t, "127.0.0.1")
	for _, c := range []struct {
		ip       string
		port     int
		want     string
		wantPort int
	}{{"", 0, "127.0.0.1", s.port()}, {"10.0.0.1", 0, "10.0.0.1", s.port()}, {"10.0.0.1", 7, "10.0.0.1", 7}, {"fe::1", 7, "fe::1", 7}} {
		ip, port, err := s.FinalAdvertiseAddr(c.ip, c.port)
		if err != nil || ip.String() != c.want || port != c.wantPort {
			t.Errorf("FinalAdvertiseAddr(%q, %d) = %s, %d, %v; want %s, %d", c.ip, c.port, ip, port, err, c.want, c.wantPort)
		}
	}
	if _, _, err := s.FinalAdvertiseAddr("here", 7); err == nil {
		t.Error("a name is advertised")
	}
	all := openSockets(t, "")
	if ip, _, err := all.FinalAdvertiseAddr("", 0); err == nil {
		t.Errorf("%s is advertised", ip)
	}
	if _, err := listen("127.0.0.1", s.port(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a port is opened twice")
	}
	c, err := s.DialTimeout(s.tcp.Addr().String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := s.WriteTo([]byte("x"), s.udp.LocalAddr().String()); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
}
