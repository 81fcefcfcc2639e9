package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/certificate"
	"github.com/rollcall/rollcall/server/internal/logging"
)

// A connection with TLS begins with tlsByte; inside stands what follows otherwise. Before
// that the server says that it has taken the other's certificate, by tlsByte as well: with
// TLS 1.3 a client that is refused would learn so after its first call only.

// Secured gives a Dial that speaks TLS where peers want it. dcOf gives the datacenter of
// the server at an address, which its certificate has to name. The log says why a server
// is not called, once while that lasts.
func Secured(dial Dial, peers *certificate.Peers, dcOf func(addr string) string, log *slog.Logger) Dial {
	dial = orTCP(dial)
	log = log.With("room", "rpc")
	var refused logging.Sparing
	refused.Pause = time.Minute
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		cfg := peers.Outgoing(dcOf(addr))
		if cfg == nil {
			return c, nil
		}
		secure, err := begin(ctx, c, cfg)
		if err != nil {
			c.Close()
			if ctx.Err() == nil {
				refused.Warn(log, addr, "server not called: TLS fails", "addr", addr, "err", err)
			}
			return nil, err
		}
		return secure, nil
	}
}

// begin makes the handshake of a client.
func begin(ctx context.Context, c net.Conn, cfg *tls.Config) (net.Conn, error) {
	defer closeWith(ctx, c)()
	secure := tls.Client(c, cfg)
	_, err := c.Write([]byte{tlsByte})
	if err == nil {
		err = secure.HandshakeContext(ctx)
	}
	var taken [1]byte
	if err == nil {
		_, err = io.ReadFull(secure, taken[:])
	}
	switch {
	case err == nil:
		return secure, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("tls: the server closed the connection: its log says why; it may have no certificate (tls.internal_rpc.cert_file)")
	}
	return nil, fmt.Errorf("tls with %s: %w", cfg.ServerName, err)
}

// closeWith closes c if ctx ends before the returned function is called.
func closeWith(ctx context.Context, c net.Conn) (stop func()) {
	end := context.AfterFunc(ctx, func() { c.Close() })
	return func() { end() }
}

// errPlain is what callers are told that do not speak TLS where they must.
var errPlain = api.Errorf(api.Unavailable, "this server takes calls with TLS only: set tls.internal_rpc.verify_outgoing, with ca_file, cert_file and key_file, on the agent that calls")

// secure makes the handshake of the server, and gives the first byte inside.
func (s *Server) secure(ctx context.Context, c net.Conn) (net.Conn, byte, error) {
	answer, _ := s.cfg.Peers.Incoming()
	if answer == nil {
		return nil, 0, errors.New("it calls with TLS, and this server has no certificate: give tls.internal_rpc.cert_file and key_file")
	}
	secure := tls.Server(c, answer)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, 0, err
	}
	var first [1]byte
	if _, err := secure.Write([]byte{tlsByte}); err != nil {
		return nil, 0, err
	}
	if _, err := io.ReadFull(secure, first[:]); err != nil {
		return nil, 0, err
	}
	if first[0] == raftByte {
		if err := s.cfg.Peers.MayVote(secure.ConnectionState(), s.cfg.Datacenter); err != nil {
			return nil, 0, err
		}
	}
	return secure, first[0], nil
}

// refusePlain turns away who does not speak TLS, and tells who makes calls.
func (s *Server) refusePlain(c net.Conn, kind byte) {
	s.warnings.Warn(s.log, hostOf(c), "connection refused: it does not speak TLS, and verify_incoming wants that", "from", c.RemoteAddr().String(), "kind", int(kind))
	if kind != callsByte && kind != streamByte {
		return
	}
	st := newStream(c)
	if st.send(failureFrame(0, errPlain)) != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		c.SetReadDeadline(time.Now().Add(handshake))
		io.Copy(io.Discard, io.LimitReader(c, maxFrame)) // a close with bytes unread would take the failure along
	}
}

func hostOf(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return host
}
