package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/msgpack"
)

// A snapshot travels on a connection of its own, in frames: the request (with the query's
// options as its head), pieces, and the end. Pings keep it alive while one side works.
const (
	saveCall    kind = 9  // head: api.QueryOptions; answered by answer, pieces and end
	restoreCall kind = 10 // head: api.QueryOptions; pieces and end follow, answered by end
	piece       kind = 11 // body: bytes
	end         kind = 12 // of the pieces, or of the work
)

// pieceSize is how many bytes go into a frame.
const pieceSize = 256 << 10

// stream is one side of such a connection.
type stream struct {
	conn net.Conn
	r    *bufio.Reader
	mu   sync.Mutex
	w    *bufio.Writer // guarded by mu
}

func newStream(c net.Conn) *stream {
	c = steady{c}
	return &stream{conn: c, r: bufio.NewReaderSize(c, 64<<10), w: bufio.NewWriterSize(c, 64<<10)}
}

func (s *stream) send(f *frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := writeFrame(s.w, f); err != nil {
		return err
	}
	return s.w.Flush()
}

// beats sends pings until stop is called.
func (s *stream) beats() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if s.send(&frame{kind: ping}) != nil {
					return
				}
			}
		}
	})
	return func() { cancel(); running.Wait() }
}

// Write sends a piece.
func (s *stream) Write(b []byte) (int, error) {
	for sent := 0; sent < len(b); {
		n := min(len(b)-sent, pieceSize)
		if err := s.send(&frame{kind: piece, body: b[sent : sent+n]}); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(b), nil
}

// next gives the next frame that is no ping; a failure is an error.
func (s *stream) next() (*frame, error) {
	for {
		f, err := readFrame(s.r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBroken, err)
		}
		switch f.kind {
		case ping:
			continue
		case failure:
			return result(f, true)
		}
		return f, nil
	}
}

// pieces reads what the other side writes, until its end.
type pieces struct {
	s    *stream
	rest []byte
	over bool
}

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.over {
			return 0, io.EOF
		}
		f, err := p.s.next()
		if err != nil {
			return 0, err
		}
		switch f.kind {
		case piece:
			p.rest = f.body
		case end:
			p.over = true
		default:
			return 0, fmt.Errorf("%w: a frame of kind %d among pieces", errFrame, f.kind)
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// streams serves one snapshot on c.
func (s *Server) streams(ctx context.Context, c net.Conn, ep endpoint.Endpoint) {
	defer c.Close()
	st := newStream(c)
	f, err := st.next()
	if err != nil {
		return
	}
	defer st.beats()()
	if err := s.snapshot(ctx, st, f, ep); err != nil && ctx.Err() == nil {
		if st.send(failureFrame(0, err)) == nil {
			s.warnings.Warn(s.log, hostOf(c), "snapshot not carried out", "from", c.RemoteAddr().String(), "err", err)
		}
		io.Copy(io.Discard, io.LimitReader(st.conn, maxFrame)) // a close with bytes unread would take the failure along
	}
}

func (s *Server) snapshot(ctx context.Context, st *stream, f *frame, ep endpoint.Endpoint) error {
	snaps, ok := ep.(endpoint.Snapshots)
	if !ok {
		return api.Errorf(api.Internal, "this server has no snapshots")
	}
	var opts api.QueryOptions
	if err := decode(f.head, &opts); err != nil {
		return err
	}
	switch f.kind {
	case saveCall:
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() { // whoever asked says nothing more: an end of it is one of the wait
			io.Copy(io.Discard, st.r)
			cancel()
		}()
		err := snaps.Save(ctx, opts, func(m api.QueryMeta) io.Writer {
			head, err := msgpack.Encode(answerHead{Meta: m, Found: true})
			if err != nil {
				return broken{err}
			}
			if err := st.send(&frame{kind: answer, head: head}); err != nil {
				return broken{err}
			}
			return st
		})
		if err != nil {
			return err
		}
	case restoreCall:
		from := &pieces{s: st}
		if err := snaps.Restore(ctx, opts, from); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: a stream begins with a frame of kind %d", errFrame, f.kind)
	}
	return st.send(&frame{kind: end})
}

// broken is a place to write to that is gone.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

var _ endpoint.Snapshots = (*caller)(nil)

// stream opens a connection for one snapshot; it closes when ctx ends.
func (c *caller) stream(ctx context.Context, k kind, opts api.QueryOptions) (*stream, func(), error) {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dialAs(dial, c.pool.dial, c.addr, streamByte)
	if err != nil {
		return nil, nil, notCarriedOut{fmt.Errorf("%w to %s: %w", errNotSent, c.addr, err)}
	}
	conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	st := newStream(conn)
	head, err := msgpack.Encode(opts)
	if err == nil {
		err = st.send(&frame{kind: k, head: head})
	}
	closeIt := func() { stop(); conn.Close() }
	if err != nil {
		closeIt()
		return nil, nil, err
	}
	return st, closeIt, nil
}

// Save copies the archive that the server writes.
func (c *caller) Save(ctx context.Context, opts api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
	st, closeIt, err := c.stream(ctx, saveCall, opts)
	if err != nil {
		return err
	}
	defer closeIt()
	defer st.beats()()
	f, err := st.next()
	if err != nil {
		return c.streamError(ctx, err)
	}
	var h answerHead
	if f.kind != answer {
		return fmt.Errorf("%w: a reply of kind %d to a snapshot", errFrame, f.kind)
	}
	if err := decode(f.head, &h); err != nil {
		return err
	}
	_, err = io.Copy(begin(h.Meta), &pieces{s: st})
	return c.streamError(ctx, err)
}

// Restore sends an archive to the server.
func (c *caller) Restore(ctx context.Context, opts api.QueryOptions, from io.Reader) error {
	st, closeIt, err := c.stream(ctx, restoreCall, opts)
	if err != nil {
		return err
	}
	defer closeIt()
	defer st.beats()()
	answered := make(chan error, 1) // also before all is sent: a refusal
	go func() {
		f, err := st.next()
		if err == nil && f.kind != end {
			err = fmt.Errorf("%w: a reply of kind %d to a restore", errFrame, f.kind)
		}
		if err != nil {
			st.conn.Close() // what is still being sent is for nobody
		}
		answered <- err
	}()
	read := &noted{Reader: from}
	_, err = io.Copy(st, read)
	if read.err != nil { // what is to be sent could not be read: the server must not take it for whole
		closeIt()
		<-answered
		return read.err
	}
	if err == nil {
		err = st.send(&frame{kind: end})
	}
	if said := <-answered; said != nil { // why the server stopped reading comes first
		err = said
	}
	return c.streamError(ctx, err)
}

func (c *caller) streamError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errBroken):
		return api.Errorf(api.Unavailable, "rpc error: connection to %s lost during a snapshot: %v", c.addr, err)
	}
	return err
}

var _ endpoint.Snapshots = (*Remote)(nil)

// Save has a server write an archive; another one is tried only while nothing was
// written.
func (r *Remote) Save(ctx context.Context, opts api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
	begun := false
	_, err := try(ctx, r, func(ep endpoint.Endpoint) (struct{}, error) {
		return struct{}{}, ep.(endpoint.Snapshots).Save(ctx, opts, func(m api.QueryMeta) io.Writer {
			begun = true
			return begin(m)
		})
	}, func(err error) bool { return !begun && errors.Is(err, api.ErrNotLeader) })
	return err
}

// Restore has a server restore an archive. What it read of the archive is gone, so only
// one is tried that can be reached.
func (r *Remote) Restore(ctx context.Context, opts api.QueryOptions, from io.Reader) error {
	read := &noted{Reader: from}
	_, err := try(ctx, r, func(ep endpoint.Endpoint) (struct{}, error) {
		return struct{}{}, ep.(endpoint.Snapshots).Restore(ctx, opts, read)
	}, func(err error) bool { return !read.begun && errors.Is(err, api.ErrNotLeader) })
	return err
}

// noted knows whether it was read from, and what went wrong.
type noted struct {
	io.Reader
	begun bool
	err   error
}

func (n *noted) Read(b []byte) (int, error) {
	n.begun = true
	got, err := n.Reader.Read(b)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return got, err
}
