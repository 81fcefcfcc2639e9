package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// conn is one connection of a load, which sends bytes made beforehand. It does not block
// and has no goroutine: a loop sees to thousands. Next to nothing is left of a request but
// its system calls, so that the processors are the servers'.
type conn struct {
	fd     int
	number int
	udp    bool // an answer is a packet
	keep   bool // text shall hold the body

	// of the last answer
	status int
	index  uint64
	text   []byte

	sent    time.Time
	state   state
	line    []byte // what was read of an unfinished line
	left    int64  // bytes of the body, or of a chunk and the end of its line, that are to come
	chunked bool
}

// state is how far a client has read an answer.
type state int

const (
	atStatus state = iota
	inHead
	inBody
	atChunk
	inChunk
	inTrailer
)

// connect opens a client's connection.
func connect(addr string, udp bool) (*conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	kind := unix.SOCK_STREAM
	if udp {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	c := &conn{fd: fd, udp: udp}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil && !udp {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", addr, err), c.Close())
	}
	return c, nil
}

func (c *conn) Close() error { return unix.Close(c.fd) }

// send begins a request. One that does not fit into the socket is an error: it would be
// larger than all of ours.
func (c *conn) send(request []byte) error {
	c.sent = time.Now()
	n, err := unix.Write(c.fd, request)
	if err == nil && n < len(request) {
		err = errors.New("the socket is full")
	}
	return err
}

// feed takes bytes of an answer, gives those that come after it, and reports whether it is
// whole. A status of 500 and more is an error.
func (c *conn) feed(b []byte) (rest []byte, whole bool, err error) {
	for len(b) > 0 {
		switch c.state {
		case inBody, inChunk:
			n := min(int64(len(b)), c.left)
			if c.keep || c.status >= 500 && len(c.text) < 200 {
				c.text = append(c.text, b[:n]...)
			}
			b, c.left = b[n:], c.left-n
			if c.left > 0 {
				return nil, false, nil
			}
			if c.state == inBody {
				return b, true, c.end()
			}
			c.state = atChunk
		default:
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				c.line = append(c.line, b...)
				return nil, false, nil
			}
			line := b[:end]
			if len(c.line) > 0 {
				line = append(c.line, line...)
				c.line = c.line[:0]
			}
			b = b[end+1:]
			if whole, err = c.take(bytes.TrimSuffix(line, []byte("\r"))); whole || err != nil {
				return b, whole, errors.Join(err, c.end())
			}
		}
	}
	return nil, false, nil
}

// take reads a line of an answer's head, and reports whether nothing comes after it.
func (c *conn) take(line []byte) (whole bool, err error) {
	switch c.state {
	case atStatus:
		if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
			return false, fmt.Errorf("no HTTP: %q", line)
		}
		c.status, err = strconv.Atoi(string(line[9:12]))
		c.state, c.left, c.chunked, c.text = inHead, 0, false, c.text[:0]
	case inHead:
		if len(line) == 0 {
			c.state = inBody
			if c.chunked {
				c.state = atChunk
			}
			return !c.chunked && c.left == 0, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			c.left, err = strconv.ParseInt(string(value), 10, 64)
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			c.chunked = true
		case bytes.EqualFold(name, []byte("X-Consul-Index")):
			c.index, err = strconv.ParseUint(string(value), 10, 64)
		}
	case atChunk:
		c.left, err = strconv.ParseInt(string(line), 16, 64)
		if c.state = inChunk; c.left == 0 {
			c.state = inTrailer
		}
		c.left += 2
	case inTrailer:
		return len(line) == 0, nil
	}
	return false, err
}

// end makes ready for the next answer.
func (c *conn) end() error {
	c.state = atStatus
	if c.status >= 500 {
		return fmt.Errorf("status %d: %s", c.status, c.text)
	}
	return nil
}

// loop waits for the answers of its clients.
type loop struct {
	poll    int
	clients []*conn
	events  [256]unix.EpollEvent
	buf     [256 << 10]byte
}

// newLoop connects clients, numbered from first in steps.
func newLoop(addr string, udp bool, first, step, below int) (*loop, error) {
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	l := &loop{poll: poll}
	for number := first; number < below; number += step {
		c, err := connect(addr, udp)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		c.number = number
		l.clients = append(l.clients, c)
		err = unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, c.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(l.clients) - 1)})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("epoll: %w", err), l.Close())
		}
	}
	return l, nil
}

func (l *loop) Close() error {
	var errs []error
	for _, c := range l.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, unix.Close(l.poll))...)
}

// patience is how long nobody may answer.
const patience = 30 * time.Second

// answers calls do for each of so many answers; do may send the next request, and says by
// how many more there are to wait for.
func (l *loop) answers(n int, do func(c *conn) (more int, err error)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := schedule(unix.SCHED_BATCH); err != nil {
		return err
	}
	defer schedule(unix.SCHED_NORMAL)
	for n > 0 {
		ready, err := unix.EpollWait(l.poll, l.events[:], int(patience/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
		if ready == 0 {
			return fmt.Errorf("%d answers did not come within %s", n, patience)
		}
		for _, e := range l.events[:ready] {
			c := l.clients[e.Fd]
			whole, err := l.read(c)
			if err == nil && whole {
				n--
				var more int
				more, err = do(c)
				n += more
			}
			if err != nil {
				return fmt.Errorf("connection %d: %w", c.number, err)
			}
		}
	}
	return nil
}

// schedule has the system treat this thread as one that computes, or as others: an answer
// that comes for the former does not interrupt the server that is about to give the next.
func schedule(policy uint32) error {
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy}, 0); err != nil {
		return fmt.Errorf("the thread's scheduling: %w", err)
	}
	return nil
}

// read takes what came for a client, and reports whether that made its answer whole.
func (l *loop) read(c *conn) (whole bool, err error) {
	n, err := unix.Read(c.fd, l.buf[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, err
	case c.udp && n < 12:
		return false, fmt.Errorf("a packet of %d bytes", n)
	case c.udp:
		return true, nil
	case n == 0:
		return false, net.ErrClosed
	}
	rest, whole, err := c.feed(l.buf[:n])
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("more than an answer: %q", rest[:min(len(rest), 100)])
	}
	return whole, err
}
