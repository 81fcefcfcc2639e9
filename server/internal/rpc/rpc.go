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
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/server/internal/command"
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
	beat      = 10 * time.Second // between pings
	silence   = 30 * time.Second // then the other side counts as gone
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
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err := io.ReadFull(c, first[:]); err != nil {
		s.log.Debug("connection without a first byte", "from", c.RemoteAddr().String(), "err", err)
		c.Close()
		return
	}
	c.SetReadDeadline(time.Time{})
	switch first[0] {
	case raftByte:
		if stop() {
			s.raft.hand(ctx, c)
		}
	case callsByte:
		s.calls(ctx, c, ep)
	default:
		s.log.Debug("connection of an unknown kind", "from", c.RemoteAddr().String(), "kind", int(first[0]))
		c.Close()
	}
}

// calls serves frames on c until it breaks or ctx ends.
func (s *Server) calls(ctx context.Context, c net.Conn, ep endpoint.Endpoint) {
	ctx, hangUp := context.WithCancel(ctx)
	out := make(chan *frame, outgoing)
	var working sync.WaitGroup
	working.Go(func() {
		if err := send(ctx, c, out); err != nil {
			hangUp()
		}
	})
	defer working.Wait()
	defer hangUp()
	defer c.Close()
	var mu sync.Mutex
	open := map[uint64]context.CancelFunc{} // guarded by mu
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		c.SetReadDeadline(time.Now().Add(silence))
		f, err := readFrame(r)
		if err != nil {
			if errors.Is(err, errFrame) {
				s.log.Warn("connection closed", "from", c.RemoteAddr().String(), "err", err)
			}
			return
		}
		switch f.kind {
		case ping:
			post(ctx, out, &frame{kind: pong})
		case cancel:
			mu.Lock()
			if end := open[f.id]; end != nil {
				end()
			}
			mu.Unlock()
		case readCall, writeCall:
			call, end := context.WithCancel(ctx)
			mu.Lock()
			full := len(open) >= underWay || open[f.id] != nil
			if !full {
				open[f.id] = end
			}
			mu.Unlock()
			if full {
				end()
				post(ctx, out, failureFrame(f.id, errors.New("rpc: too many calls at once on one connection")))
				continue
			}
			working.Go(func() {
				reply := carryOut(call, ep, f)
				mu.Lock()
				delete(open, f.id)
				mu.Unlock()
				end()
				post(ctx, out, reply)
			})
		}
	}
}

// carryOut makes the call that a frame asks for.
func carryOut(ctx context.Context, ep endpoint.Endpoint, f *frame) *frame {
	reply, err := perform(ctx, ep, f)
	if err == nil && tooLarge(reply) {
		err = fmt.Errorf("the answer of %d bytes is larger than a call can carry", len(reply.body))
	}
	if err != nil {
		return failureFrame(f.id, err)
	}
	reply.id = f.id
	return reply
}

func perform(ctx context.Context, ep endpoint.Endpoint, f *frame) (*frame, error) {
	if f.kind == writeCall {
		var h writeHead
		if err := decode(f.head, &h); err != nil {
			return nil, err
		}
		cmd, err := command.DecodeOne(f.body)
		if err != nil {
			return nil, err
		}
		res, err := ep.Write(ctx, &endpoint.Write{Datacenter: h.Datacenter, Token: h.Token, Command: cmd})
		if err != nil {
			return nil, err
		}
		head, err := encode(res)
		return &frame{kind: written, head: head}, err
	}
	var q endpoint.Query
	if err := decode(f.head, &q); err != nil {
		return nil, err
	}
	a, err := ep.Read(ctx, &q)
	if err != nil {
		return nil, err
	}
	body, err := a.JSON()
	if err != nil {
		return nil, err
	}
	head, err := encode(answerHead{a.Meta, a.Found})
	return &frame{kind: answer, head: head, body: body}, err
}

// post hands a frame to the sender, unless the connection is over.
func post(ctx context.Context, out chan<- *frame, f *frame) {
	select {
	case out <- f:
	case <-ctx.Done():
	}
}

// send writes what comes through out until ctx ends, many frames at a time where many
// wait, and a ping where nothing does.
func send(ctx context.Context, c net.Conn, out <-chan *frame) error {
	w := bufio.NewWriterSize(c, 64<<10)
	quiet := time.NewTimer(beat)
	defer quiet.Stop()
	for {
		var f *frame
		select {
		case <-ctx.Done():
			return nil
		case f = <-out:
		case <-quiet.C:
			f = &frame{kind: ping}
		}
		c.SetWriteDeadline(time.Now().Add(silence))
		for f != nil {
			if err := writeFrame(w, f); err != nil {
				c.Close() // whoever reads learns
				return err
			}
			select {
			case f = <-out:
			default:
				f = nil
			}
		}
		if err := w.Flush(); err != nil {
			c.Close()
			return err
		}
		quiet.Reset(beat)
	}
}

// layer is the stream layer of the consensus.
type layer struct {
	dial  Dial
	addr  net.Addr
	conns chan net.Conn
	open  context.Context // ends with Close
	end   context.CancelFunc
}

// hand gives an accepted connection to the consensus.
func (l *layer) hand(ctx context.Context, c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.open.Done():
		c.Close()
	case <-ctx.Done():
		c.Close()
	}
}

func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.open.Done():
		return nil, net.ErrClosed
	}
}

func (l *layer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.open, timeout)
	defer cancel()
	c, err := dialAs(ctx, l.dial, string(addr), raftByte)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

func (l *layer) Close() error   { l.end(); return nil }
func (l *layer) Addr() net.Addr { return l.addr }

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
