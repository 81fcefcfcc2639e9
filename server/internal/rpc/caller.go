package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/msgpack"
)

const (
	dialTimeout = 3 * time.Second // on the way to a server
	idle        = 5 * time.Minute // without a call, then a connection is closed
)

// Errors of a call that did not come through. All are reasons to go elsewhere with a
// read; a write that was sent is told errBroken only.
var (
	errNotSent = errors.New("not sent")
	errBroken  = errors.New("connection lost")
	errSilent  = errors.New("no sign of life")
)

// Pool keeps one connection to each server that was called.
type Pool struct {
	dial  Dial
	log   *slog.Logger
	open  context.Context // ends with Close
	close context.CancelFunc

	mu      sync.Mutex
	callers map[string]*caller // guarded by mu; by address
	closed  bool               // guarded by mu
}

// NewPool makes a pool; dial may be nil for TCP.
func NewPool(dial Dial, log *slog.Logger) *Pool {
	p := &Pool{dial: orTCP(dial), log: log.With("room", "rpc"), callers: map[string]*caller{}}
	p.open, p.close = context.WithCancel(context.Background())
	return p
}

// At gives the endpoint of the server at addr. It connects when it is first used, and
// again after it broke or was idle for long.
func (p *Pool) At(addr string) endpoint.Endpoint { return p.at(addr) }

func (p *Pool) at(addr string) *caller {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.callers[addr]
	if c == nil {
		c = &caller{pool: p, addr: addr, closed: p.closed}
		if !p.closed {
			p.callers[addr] = c
		}
	}
	return c
}

// ahead asks all that are connected for a sign of life, and dials the others, so that who tries
// one after the other does not wait for each. It gives the dials, nil for who is connected.
func (p *Pool) ahead(addrs []string) []*attempt {
	dials := make([]*attempt, len(addrs))
	for i, addr := range addrs {
		l, a, _ := p.at(addr).begin() // a pool that is closed says so when called
		if dials[i] = a; l != nil {
			l.ask()
		}
	}
	return dials
}

// Close closes all connections and waits for what runs on them.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	callers := p.callers
	p.callers = nil
	p.mu.Unlock()
	p.close()
	for _, c := range callers {
		c.close()
	}
}

// caller is the endpoint at one address.
type caller struct {
	pool *Pool
	addr string

	dials sync.WaitGroup

	mu     sync.Mutex
	line   *line    // guarded by mu; the latest connection, nil before the first
	dial   *attempt // guarded by mu; nil while none is under way
	closed bool     // guarded by mu
}

// attempt is a dial that all who want the connection wait for.
type attempt struct {
	done chan struct{} // closed when line and err are set
	line *line
	err  error
}

// Read asks the server.
func (c *caller) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	head, err := msgpack.Encode(q)
	if err != nil {
		return nil, err
	}
	f, err := c.call(ctx, &frame{kind: readCall, head: head})
	if err != nil {
		return nil, c.unavailable(err)
	}
	var h answerHead
	if f.kind != answer {
		return nil, fmt.Errorf("%w: a reply of kind %d to a read", errFrame, f.kind)
	}
	if err := decode(f.head, &h); err != nil {
		return nil, err
	}
	return endpoint.Encoded(h.Meta, h.Found, f.body), nil
}

// Write has the server carry out w.
func (c *caller) Write(ctx context.Context, w *endpoint.Write) (*command.Result, error) {
	head, err := msgpack.Encode(writeHead{w.Datacenter, w.Token})
	if err != nil {
		return nil, err
	}
	body, err := command.Append(nil, w.Command)
	if err != nil {
		return nil, err
	}
	f, err := c.call(ctx, &frame{kind: writeCall, head: head, body: body})
	switch {
	case errors.Is(err, errNotSent):
		return nil, notCarriedOut{err}
	case errors.Is(err, errSilent):
		return nil, notCarriedOut{fmt.Errorf("%w to %s, which gives no sign of life", errNotSent, c.addr)}
	case errors.Is(err, errBroken):
		return nil, fateOpen{c.addr}
	case err != nil:
		return nil, err
	}
	var r command.Result
	if f.kind != written {
		return nil, fmt.Errorf("%w: a reply of kind %d to a write", errFrame, f.kind)
	}
	if err := decode(f.head, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// notCarriedOut is of a write that certainly was not: whoever asked may go elsewhere, as
// with api.ErrNotLeader. Its text tells what stood in the way.
type notCarriedOut struct{ err error }

func (e notCarriedOut) Error() string { return "rpc error: " + e.err.Error() }

// Unwrap gives what clients read, then what callers branch on.
func (e notCarriedOut) Unwrap() []error {
	return []error{&api.Error{Kind: api.Unavailable, Text: e.Error()}, api.ErrNotLeader}
}

// fateOpen is of a write that was sent to a server which went away: nobody sends it again, but
// the next goes elsewhere.
type fateOpen struct{ addr string }

func (e fateOpen) Error() string {
	return "rpc error: connection to " + e.addr + " lost: the write may or may not have happened"
}

// Unwrap gives what clients read, then what happened.
func (e fateOpen) Unwrap() []error {
	return []error{&api.Error{Kind: api.Unavailable, Text: e.Error()}, errBroken}
}

// unavailable makes of a read that did not come through an error that whoever asked may
// go elsewhere with.
func (c *caller) unavailable(err error) error {
	switch {
	case errors.Is(err, errNotSent):
		return api.Errorf(api.Unavailable, "rpc error: %v", err)
	case errors.Is(err, errBroken):
		return api.Errorf(api.Unavailable, "rpc error: connection to %s lost", c.addr)
	case errors.Is(err, errSilent):
		return api.Errorf(api.Unavailable, "rpc error: %s gives no sign of life", c.addr)
	}
	return err
}

// call sends a frame and waits for its reply. A connection found broken or idle before
// anything went out on it is replaced once.
func (c *caller) call(ctx context.Context, f *frame) (*frame, error) {
	err := errNotSent
	for range 2 {
		l, failed := c.connect(ctx)
		if failed != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, c.unsent(failed)
		}
		var reply *frame
		if reply, err = l.call(ctx, f); !errors.Is(err, errNotSent) {
			return reply, err
		}
	}
	if err == errNotSent {
		err = fmt.Errorf("%w: connections break at once", err)
	}
	return nil, fmt.Errorf("%s: %w", c.addr, err)
}

// unsent is of what could not be sent for want of a connection.
func (c *caller) unsent(err error) error { return fmt.Errorf("%w to %s: %w", errNotSent, c.addr, err) }

// connect gives the connection, a new one where the old is broken. Nobody waits longer
// than his ctx, and however many wait, it is for one dial.
func (c *caller) connect(ctx context.Context) (*line, error) {
	l, a, err := c.begin()
	if a == nil {
		return l, err
	}
	return a.wait(ctx)
}

func (a *attempt) wait(ctx context.Context) (*line, error) {
	select {
	case <-a.done:
		return a.line, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// begin gives the connection or, where there is none, the dial for one, begun if need be.
func (c *caller) begin() (*line, *attempt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, net.ErrClosed
	}
	if c.line != nil && !c.line.broken() {
		return c.line, nil, nil
	}
	a := c.dial
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		c.dial = a
		c.dials.Go(func() { c.try(a) })
	}
	return nil, a, nil
}

// try carries an attempt out.
func (c *caller) try(a *attempt) {
	ctx, cancel := context.WithTimeout(c.pool.open, dialTimeout)
	defer cancel()
	conn, err := dialAs(ctx, c.pool.dial, c.addr, callsByte)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dial = nil
	defer close(a.done)
	if err == nil && c.closed {
		conn.Close()
		err = net.ErrClosed
	}
	if err != nil {
		a.err = err
		return
	}
	conn.SetDeadline(time.Time{})
	a.line = newLine(conn)
	c.line = a.line
}

// close is called once the pool's ctx has ended.
func (c *caller) close() {
	c.mu.Lock()
	c.closed = true
	l := c.line
	c.mu.Unlock()
	c.dials.Wait()
	if l != nil {
		l.hangUp()
		l.running.Wait()
	}
}
