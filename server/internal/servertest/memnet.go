package servertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Errors of the in-memory net, as a kernel would give them.
var (
	ErrRefused = errors.New("connection refused")
	ErrReset   = errors.New("connection reset by peer")
	ErrInUse   = errors.New("address already in use")
)

const (
	backlog   = 128      // connections that wait to be accepted
	sendSpace = 64 << 10 // bytes under way in one direction before a writer blocks
)

// Net is a network of byte streams in memory, by name of host. It behaves as TCP does
// where it matters: a partition stalls connections without a word, and what was sent
// arrives when it heals; only Cut, or closing an end, breaks them. It works inside
// synctest bubbles. The zero value is not ready: call NewNet.
type Net struct {
	mu        sync.Mutex
	listeners map[string]*listener // guarded by mu; by address
	group     map[string]int       // guarded by mu; hosts of different groups are apart
	groups    int                  // guarded by mu
	lost      map[[2]string]bool   // guarded by mu; from, to: nothing arrives
	links     map[*link]struct{}   // guarded by mu
	healed    chan struct{}        // guarded by mu; closed when reachability next changes
}

// NewNet makes an empty net.
func NewNet() *Net {
	return &Net{
		listeners: make(map[string]*listener),
		group:     make(map[string]int),
		links:     make(map[*link]struct{}),
		lost:      make(map[[2]string]bool),
		healed:    make(chan struct{}),
	}
}

// Listen opens addr, "host:port" with a port that is not empty.
func (n *Net) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, ErrInUse)
	}
	l := &listener{net: n, addr: address(addr), conns: make(chan net.Conn, backlog), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// Dialer gives what dials from host.
func (n *Net) Dialer(host string) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		for {
			conn, changed, err := n.dial(host, addr)
			if conn != nil || err != nil {
				return conn, err
			}
			select { // apart: packets vanish
			case <-changed:
			case <-ctx.Done():
				return nil, fmt.Errorf("dial %s: %w", addr, context.Cause(ctx))
			}
		}
	}
}

func (n *Net) dial(host, addr string) (net.Conn, <-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	to := hostOf(addr)
	if n.silent(host, to) || n.silent(to, host) {
		return nil, n.healed, nil
	}
	l := n.listeners[addr]
	if l == nil {
		return nil, nil, fmt.Errorf("dial %s: %w", addr, ErrRefused)
	}
	k := &link{net: n, hosts: [2]string{host, to}, pipes: [2]*pipe{newPipe(), newPipe()}}
	client := &conn{link: k, in: k.pipes[0], out: k.pipes[1], local: address(host + ":0"), remote: address(addr)}
	server := &conn{link: k, in: k.pipes[1], out: k.pipes[0], local: address(addr), remote: address(host + ":0")}
	select {
	case l.conns <- server:
	default:
		return nil, nil, fmt.Errorf("dial %s: %w", addr, ErrRefused)
	}
	n.links[k] = struct{}{}
	return client, nil, nil
}

// Partition puts hosts into a group of their own, apart from all others.
func (n *Net) Partition(hosts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups++
	for _, h := range hosts {
		n.group[h] = n.groups
	}
	n.reach()
}

// OneWay loses what host from sends to host to; the other way is open.
func (n *Net) OneWay(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost[[2]string{from, to}] = true
	n.reach()
}

// Heal puts everyone together again.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.group)
	clear(n.lost)
	n.reach()
}

// silent reports whether nothing arrives that from sends to to. Called with mu held.
func (n *Net) silent(from, to string) bool {
	return n.group[from] != n.group[to] || n.lost[[2]string{from, to}]
}

// reach tells connections and dialers whom they reach now. Called with mu held.
func (n *Net) reach() {
	for k := range n.links {
		k.pipes[0].stall(n.silent(k.hosts[1], k.hosts[0]))
		k.pipes[1].stall(n.silent(k.hosts[0], k.hosts[1]))
	}
	close(n.healed)
	n.healed = make(chan struct{})
}

// Cut breaks every connection of host, at both ends at once.
func (n *Net) Cut(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k := range n.links {
		if k.hosts[0] == host || k.hosts[1] == host {
			for _, p := range k.pipes {
				p.fail(ErrReset)
			}
			delete(n.links, k)
		}
	}
}

func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

type address string

func (a address) Network() string { return "mem" }
func (a address) String() string  { return string(a) }

type listener struct {
	net    *Net
	addr   address
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, string(l.addr))
		l.net.mu.Unlock()
		close(l.closed)
		for { // nobody will take these
			select {
			case c := <-l.conns:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

// link is a connection as the net sees it.
type link struct {
	net   *Net
	hosts [2]string
	pipes [2]*pipe
}

// conn is one end of a link.
type conn struct {
	link          *link
	in, out       *pipe
	local, remote address
}

func (c *conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *conn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *conn) LocalAddr() net.Addr         { return c.local }
func (c *conn) RemoteAddr() net.Addr        { return c.remote }

// Close lets the other end read what is under way, then the end of the stream.
func (c *conn) Close() error {
	c.out.finish()
	c.in.fail(net.ErrClosed)
	n := c.link.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.out.over() && c.in.over() {
		delete(n.links, c.link)
	}
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	c.in.readBy.set(c.in, t)
	c.out.writeBy.set(c.out, t)
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.readBy.set(c.in, t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.writeBy.set(c.out, t)
	return nil
}

// pipe carries bytes one way.
type pipe struct {
	mu      sync.Mutex
	cond    *sync.Cond
	buf     []byte
	stalled bool
	ended   bool  // the writer closed
	err     error // the pipe is broken
	readBy  deadline
	writeBy deadline
}

func newPipe() *pipe {
	p := &pipe{}
	p.cond = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.err != nil:
			return 0, p.err
		case p.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case !p.stalled && len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.cond.Broadcast()
			return n, nil
		case !p.stalled && p.ended:
			return 0, io.EOF
		}
		p.cond.Wait()
	}
}

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := 0
	for {
		switch {
		case p.err != nil:
			if errors.Is(p.err, net.ErrClosed) && !p.ended {
				return sent, ErrReset // it was the reader that closed
			}
			return sent, p.err
		case p.ended:
			return sent, net.ErrClosed
		case p.writeBy.passed:
			return sent, os.ErrDeadlineExceeded
		case sent == len(b):
			return sent, nil
		}
		if room := sendSpace - len(p.buf); room > 0 {
			n := min(room, len(b)-sent)
			p.buf = append(p.buf, b[sent:sent+n]...)
			sent += n
			p.cond.Broadcast()
			continue
		}
		p.cond.Wait()
	}
}

func (p *pipe) stall(yes bool) { p.change(func() { p.stalled = yes }) }
func (p *pipe) finish()        { p.change(func() { p.ended = true }) }

func (p *pipe) fail(err error) {
	p.change(func() {
		if p.err == nil {
			p.err, p.buf = err, nil
		}
	})
}

func (p *pipe) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended || p.err != nil
}

func (p *pipe) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.cond.Broadcast()
}

// deadline is one end's patience. Its fields are guarded by the pipe's mu.
type deadline struct {
	timer  *time.Timer
	turn   int // counts calls, so that an old timer's firing is told from a new one's
	passed bool
}

func (d *deadline) set(p *pipe, t time.Time) {
	p.change(func() {
		if d.timer != nil {
			d.timer.Stop()
			d.timer = nil
		}
		d.turn++
		d.passed = !t.IsZero() && !t.After(time.Now())
		if t.IsZero() || d.passed {
			return
		}
		turn := d.turn
		d.timer = time.AfterFunc(time.Until(t), func() {
			p.change(func() { d.passed = d.passed || d.turn == turn })
		})
	})
}
