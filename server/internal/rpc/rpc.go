// Package rpc is port 8300: what agents say to servers, and servers to each other. The
// first byte of a connection chooses what it carries: Raft, or calls. Calls are frames,
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
	"time"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// The first byte of a connection.
const (
	raftByte  = 1
	callsByte = 2
	tlsByte   = 3 // reserved
	yamuxByte = 4 // reserved
)

// Bounds.
const (
	handshake = 5 * time.Second  // for the first byte
	beat      = 3 * time.Second  // between pings
	silence   = 10 * time.Second // without a byte, then the other side counts as gone
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
	Log      *slog.Logger
}

// Server accepts connections on one listener.
type Server struct {
	cfg  Config
	log  *slog.Logger
	raft *layer
}

// New makes a server; Run serves.
func New(cfg Config) *Server {
	cfg.Dial = orTCP(cfg.Dial)
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
		serving.Go(func() {
			defer func() { <-slots }()
			s.serve(ctx, c, ep)
		})
	}
}

// serve reads the first byte and hands the connection on.
func (s *Server) serve(ctx context.Context, c net.Conn, ep endpoint.Endpoint) {
	var first [1]byte
	c.SetReadDeadline(time.Now().Add(handshake))
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		c.Close()
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
	c.SetReadDeadline(time.Time{})
	kind := first[0]
	switch kind {
	case raftByte:
		if ours() {
			s.raft.hand(ctx, c)
		}
	case callsByte:
		s.calls(ctx, c, ep)
	case tlsByte, yamuxByte:
		s.log.Warn("connection refused: this port speaks neither TLS nor streams yet; let the other agent call without",
			"from", c.RemoteAddr().String(), "kind", int(kind))
		c.Close()
	default:
		s.log.Debug("connection of an unknown kind", "from", c.RemoteAddr().String(), "kind", int(kind))
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
