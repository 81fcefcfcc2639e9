package fastpath

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// size bounds a request on the fast path, head and body together, in bytes.
const size = 4 << 10

// conn is a connection on the fast path. Only its own goroutine uses it, but for ending.
type conn struct {
	net.Conn
	l      *Listener
	ending atomic.Bool
	buf    []byte // what was read and not yet answered
	store  [size]byte
	head   []byte // the header lines of the last request: most clients send the same again
	req    *http.Request
	known  bool // its method and target are those that waits is about
	url    url.URL
	header http.Header
	body   body
	resp   response
	until  time.Time // the read deadline; readAhead's while it reads

	waits bool         // the request taken last may wait
	ahead chan arrival // what readAhead read, nil while it does not
	busy  atomic.Bool  // a request that may wait is under way
	quiet atomic.Int64 // when the last of them was answered, in Unix nanoseconds
}

// arrival is what a read gave.
type arrival struct {
	n   int
	err error
}

func newConn(l *Listener, nc net.Conn) *conn {
	c := &conn{Conn: nc, l: l, header: http.Header{}}
	c.req = (&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: nc.RemoteAddr().String()}).WithContext(l.cfg.Context)
	c.resp.conn = nc
	c.resp.header = http.Header{}
	return c
}

// end has the connection closed when nothing is under way.
func (c *conn) end() {
	c.ending.Store(true)
	c.SetReadDeadline(time.Unix(1, 0))
}

func (c *conn) close() {
	c.Close()
	c.l.cfg.Closed(c.Conn)
}

// serve answers requests until one is not for us, or the client leaves.
func (c *conn) serve() {
	defer c.l.forget(c)
	c.until = time.Now().Add(c.l.cfg.FirstTime)
	c.SetReadDeadline(c.until)
	for !c.ending.Load() {
		if len(c.buf) == 0 {
			n, err := c.next()
			if n == 0 && err != nil {
				break // the client left, or had nothing to say
			}
			if n == 0 {
				continue
			}
			c.buf = c.store[:n]
		}
		used, ok := c.take()
		if !ok || c.waits && (used < len(c.buf) || c.req.ContentLength > 0) { // there is no room to read ahead into
			c.hand()
			return
		}
		if c.waits {
			if !c.answerLate() {
				break
			}
			c.buf = nil
			continue
		}
		if !c.answer(c.req) {
			break
		}
		c.buf = c.buf[used:]
		if now := c.resp.now; c.until.Sub(now) < c.l.cfg.IdleTime/2 { // moving it costs
			c.until = now.Add(c.l.cfg.IdleTime)
			c.SetReadDeadline(c.until)
			if c.ending.Load() { // which set another meanwhile
				break
			}
		}
	}
	c.close()
}

// next reads what the client sends next.
func (c *conn) next() (int, error) {
	if c.ahead == nil {
		return c.Read(c.store[:])
	}
	came := <-c.ahead
	c.ahead = nil
	return came.n, came.err
}

// answerLate answers a request that may wait. Its context ends when the client leaves,
// which only a read tells; so the next request is read meanwhile.
func (c *conn) answerLate() (good bool) {
	ctx, cancel := context.WithCancel(c.l.cfg.Waiting)
	defer cancel()
	c.busy.Store(true)
	ahead := make(chan arrival, 1)
	c.ahead = ahead
	go func() { ahead <- c.readAhead(cancel) }()
	good = c.answer(c.req.WithContext(ctx))
	c.quiet.Store(time.Now().UnixNano())
	c.busy.Store(false)
	return good
}

// readAhead reads while a request is under way, and until the client has been idle for too
// long after it. It calls left when the client leaves.
func (c *conn) readAhead(left func()) arrival {
	for {
		n, err := c.Read(c.store[:])
		if n > 0 {
			return arrival{n: n}
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			left()
			return arrival{err: cmp.Or(err, io.ErrNoProgress)}
		}
		since := time.Now()
		if !c.busy.Load() {
			if since = time.Unix(0, c.quiet.Load()); time.Since(since) >= c.l.cfg.IdleTime {
				return arrival{err: err}
			}
		}
		c.until = since.Add(c.l.cfg.IdleTime)
		c.SetReadDeadline(c.until)
		if c.ending.Load() { // who ends the connection set another; what waits is told by its context
			return arrival{err: err}
		}
	}
}

// hand gives the connection to net/http, with what was read of it.
func (c *conn) hand() {
	c.SetReadDeadline(time.Time{})
	c.SetWriteDeadline(time.Time{})
	p := &replayed{Conn: c.Conn, rest: append([]byte(nil), c.buf...)}
	if !c.l.pass(passed{conn: p}) {
		c.close()
	}
}

// answer has the handler answer the request, and reports whether the connection is good
// for another one.
func (c *conn) answer(r *http.Request) (good bool) {
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			good = false
		}
	}()
	c.resp.begin()
	c.l.cfg.Handler.ServeHTTP(&c.resp, r)
	return c.resp.finish()
}

// body is a request's body.
type body struct{ rest []byte }

// Whole gives the whole body of a request that is answered here, of which nothing was read
// yet. It is good until the request is answered.
func Whole(r *http.Request) (b []byte, ok bool) {
	if own, ok := r.Body.(*body); ok && int64(len(own.rest)) == r.ContentLength {
		return own.rest, true
	}
	return nil, false
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error { return nil }

// replayed is a connection of which some was read already.
type replayed struct {
	net.Conn
	rest []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.rest)
	if r.rest = r.rest[n:]; len(r.rest) == 0 {
		r.rest = nil
	}
	return n, nil
}
