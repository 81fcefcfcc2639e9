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
)

// dialTimeout bounds the way to a server.
const dialTimeout = 5 * time.Second

// Errors of a call that did not come through. Both are reasons to go elsewhere with a
// read; only the first lets a write be sent again.
var (
	errNotSent = errors.New("not sent")
	errBroken  = errors.New("connection lost")
)

// Pool keeps one connection to each server that was called.
type Pool struct {
	dial Dial
	log  *slog.Logger

	mu      sync.Mutex
	callers map[string]*caller // guarded by mu; by address
	closed  bool               // guarded by mu
}

// NewPool makes a pool; dial may be nil for TCP.
func NewPool(dial Dial, log *slog.Logger) *Pool {
	return &Pool{dial: orTCP(dial), log: log.With("room", "rpc"), callers: map[string]*caller{}}
}

// At gives the endpoint of the server at addr. It connects when it is first used, and
// again after it broke.
func (p *Pool) At(addr string) endpoint.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.callers[addr]
	if c == nil {
		c = &caller{pool: p, addr: addr}
		if !p.closed {
			p.callers[addr] = c
		}
	}
	return c
}

// Close closes all connections and waits for what runs on them.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	callers := p.callers
	p.callers = nil
	p.mu.Unlock()
	for _, c := range callers {
		c.close()
	}
}

// caller is the endpoint at one address.
type caller struct {
	pool *Pool
	addr string

	mu     sync.Mutex
	line   *line // guarded by mu; the connection, nil before it is made and after it broke
	closed bool  // guarded by mu
}

// Read asks the server.
func (c *caller) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	head, err := encode(q)
	if err != nil {
		return nil, err
	}
	f, err := c.call(ctx, &frame{kind: readCall, head: head})
	if err != nil {
		return nil, unavailable(err)
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
	head, err := encode(writeHead{w.Datacenter, w.Token})
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
		return nil, api.ErrNotLeader // certainly not carried out: whoever asked may go elsewhere
	case errors.Is(err, errBroken):
		return nil, api.Errorf(api.Unavailable, "rpc error: connection to %s lost: the write may or may not have happened", c.addr)
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

// unavailable makes a lost connection an error that atLeader and Remote know.
func unavailable(err error) error {
	if errors.Is(err, errNotSent) || errors.Is(err, errBroken) {
		return api.Errorf(api.Unavailable, "rpc error: %v", err)
	}
	return err
}

// call sends a frame and waits for its reply.
func (c *caller) call(ctx context.Context, f *frame) (*frame, error) {
	l, err := c.connect(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w to %s: %w", errNotSent, c.addr, err)
	}
	return l.call(ctx, f)
}

// connect gives the connection, a new one where the old is broken.
func (c *caller) connect(ctx context.Context) (*line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	if c.line != nil && !c.line.broken() {
		return c.line, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dialAs(ctx, c.pool.dial, c.addr, callsByte)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{})
	c.line = newLine(conn)
	return c.line, nil
}

func (c *caller) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.line != nil {
		c.line.hangUp()
		c.line.running.Wait()
	}
}
