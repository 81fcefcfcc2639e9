// Package rpc is port 8300: what agents say to servers, and servers to each other. The
// first byte of a connection chooses what it carries: Raft, calls, or a snapshot. Calls are frames,
// many under way at once on one connection, answered in any order; they carry the
// endpoint's interface, so that whoever calls does not see the wire.
//
// It promises that a call ends when its connection does, that a call given up ends at
// the other side too, and that a write is not sent twice unless the first one certainly
// was not carried out. Input from the wire is not trusted.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/server/internal/certificate"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/logging"
)

// The first byte of a connection.
const (
	raftByte   = 1
	callsByte  = 2
	tlsByte    = 3 // TLS, then one of the others inside
	streamByte = 5
)

// Bounds.
const (
	handshake = 5 * time.Second  // for the first byte
	beat      = 3 * time.Second  // between pings
	silence   = 10 * time.Second // without a byte, then the other side counts as gone
	doubtful  = 2 * time.Second  // without a byte while reads are made, then they go elsewhere
	underWay  = 8192             // calls at once on one connection
	conns     = 8192             // connections at once
	outgoing  = 256              // frames that wait to be written before callers wait
)

// Dial opens a connection to an address.
type Dial func(ctx context.Context, addr string) (net.Conn, error)

// Config is what New needs.
type Config struct {
	Listener net.Listener
	Dial     Dial // TCP if nil
	// Peers is what connections with TLS are answered with; nil answers none.
	Peers      *certificate.Peers
	Datacenter string
	Handshake  time.Duration // for the first byte, and TLS; default 5s
	// MaxConnsPerHost gives how many connections one host may have open; 0, or no function,
	// bounds nothing.
	MaxConnsPerHost func() int
	Log             *slog.Logger
}

// Server accepts connections on one listener.
type Server struct {
	cfg  Config
	log  *slog.Logger
	raft *layer

	warnings logging.Sparing // of what anybody can cause
	took     atomic.Uint64   // calls
}

// Took is how many calls this server has taken from other agents.
func (s *Server) Took() uint64 { return s.took.Load() }

// New makes a server; Run serves.
func New(cfg Config) *Server {
	cfg.Dial = orTCP(cfg.Dial)
	if cfg.Handshake == 0 {
		cfg.Handshake = handshake
	}
	if cfg.MaxConnsPerHost == nil {
		cfg.MaxConnsPerHost = func() int { return 0 }
	}
	if cfg.Peers == nil {
		cfg.Peers, _ = certificate.OpenPeers(certificate.PeerConfig{}) // it reads no files
	}
	s := &Server{cfg: cfg, log: cfg.Log.With("room", "rpc")}
	ctx, end := context.WithCancel(context.Background())
	s.raft = &layer{dial: cfg.Dial, addr: cfg.Listener.Addr(), conns: make(chan net.Conn), open: ctx, end: end}
	return s
}

func orTCP(d Dial) Dial {
	if d != nil {
		return d
	}
	var dialer net.Dialer
	return func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }
}

// Raft is the part that carries the consensus. Its Close ends dials under way.
func (s *Server) Raft() raft.StreamLayer { return s.raft }

// Run accepts and serves until ctx ends, then closes all connections and waits for the
// calls under way.
func (s *Server) Run(ctx context.Context, ep endpoint.Endpoint) error {
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	serving.Go(func() {
		<-ctx.Done()
		s.cfg.Listener.Close()
	})
	slots := make(chan struct{}, conns)
	var hosts tally
	for {
		c, err := s.cfg.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept: %w", err)
			}
			s.log.Warn("accept", "err", err) // out of files, say: others may close some
			pause := time.NewTimer(100 * time.Millisecond)
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			s.log.Warn("connection refused: too many", "from", c.RemoteAddr().String(), "limit", conns)
			c.Close()
			continue
		}
		done, ok := hosts.take(c, s.cfg.MaxConnsPerHost())
		if !ok {
			<-slots
			s.warnings.Warn(s.log, hostOf(c), "connection refused: this host has as many as it may (limits.rpc_max_conns_per_client)", "from", c.RemoteAddr().String())
			c.Close()
			continue
		}
		serving.Go(func() {
			defer func() { <-slots }()
			defer done()
			s.serve(ctx, c, ep)
		})
	}
}

// serve reads the first byte and hands the connection on.
func (s *Server) serve(ctx context.Context, c net.Conn, ep endpoint.Endpoint) {
	var first [1]byte
	c.SetDeadline(time.Now().Add(s.cfg.Handshake))
	closed := make(chan struct{})
	raw := c
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		raw.Close()
	})
	ours := sync.OnceValue(func() bool { // whether c was left open
		if stop() {
			return true
		}
		<-closed
		return false
	})
	defer ours()
	if _, err := io.ReadFull(c, first[:]); err != nil {
		s.log.Debug("connection without a first byte", "from", c.RemoteAddr().String(), "err", err)
		c.Close()
		return
	}
	kind := first[0]
	if kind == tlsByte {
		secure, inner, err := s.secure(ctx, c)
		if err != nil {
			if ctx.Err() == nil {
				s.warnings.Warn(s.log, fmt.Sprintf("%s %T", hostOf(c), err), "connection refused: TLS fails", "from", c.RemoteAddr().String(), "err", err)
			}
			c.Close()
			return
		}
		c, kind = secure, inner
	} else if _, must := s.cfg.Peers.Incoming(); must {
		s.refusePlain(c, kind)
		c.Close()
		return
	}
	c.SetDeadline(time.Time{})
	switch kind {
	case raftByte:
		if ours() {
			s.raft.hand(ctx, c)
		}
	case callsByte:
		s.calls(ctx, c, ep)
	case streamByte:
		s.streams(ctx, c, ep)
	default:
		s.warnings.Warn(s.log, hostOf(c), "connection refused: it is of no kind that agents make", "from", c.RemoteAddr().String(), "kind", int(kind))
		c.Close()
	}
}

// dialAs opens a connection and says what it carries. A deadline of ctx stays set.
func dialAs(ctx context.Context, dial Dial, addr string, first byte) (net.Conn, error) {
	c, err := dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if at, ok := ctx.Deadline(); ok {
		c.SetDeadline(at)
	}
	if _, err := c.Write([]byte{first}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// steady is a connection that breaks once nothing moves on it for silence, however long
// what is under way takes.
type steady struct{ net.Conn }

func (s steady) Read(b []byte) (int, error) {
	s.SetReadDeadline(time.Now().Add(silence))
	return s.Conn.Read(b)
}

// Write writes b a piece at a time: each piece that gets away is a sign of life.
func (s steady) Write(b []byte) (int, error) {
	const piece = 64 << 10
	sent := 0
	for sent < len(b) {
		s.SetWriteDeadline(time.Now().Add(silence))
		n, err := s.Conn.Write(b[sent:min(len(b), sent+piece)])
		sent += n
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}
