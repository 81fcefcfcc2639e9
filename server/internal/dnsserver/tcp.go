package dnsserver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// idleBound ends a connection that asks nothing.
	idleBound = 30 * time.Second
	// messageBound ends one whose message, once begun, does not come: another protocol's
	// first bytes are the length of a long message, and its client shall not wait for us.
	messageBound = 2 * time.Second
	// writeBound ends a connection whose client takes no answers.
	writeBound = 10 * time.Second
	// mostConns is how many connections a listener serves at once; others wait.
	mostConns = 1024
	// mostPipelined is how many questions of one connection are in work at once; then it
	// is read no further, so that nothing is lost.
	mostPipelined = 64
)

// serveTCP answers on one listener until ctx ends.
func (s *Server) serveTCP(ctx, answering context.Context, l net.Listener) error {
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	room := make(chan struct{}, mostConns)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("serve DNS on %s: %w", l.Addr(), err)
		case err != nil: // out of file descriptors, say: the next may go better
			<-room
			timer := time.NewTimer(50 * time.Millisecond)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			continue
		}
		conns.Go(func() {
			defer func() { <-room }()
			newConn(s, c).serve(ctx, answering)
		})
	}
}

// conn is one client's connection. Its questions are answered in whatever order their
// answers come; none is lost unless the client stops to take answers.
type conn struct {
	net.Conn
	server *Server
	from   netip.Addr
	in     *bufio.Reader

	mu  sync.Mutex
	out *bufio.Writer // guarded by mu
}

func newConn(s *Server, c net.Conn) *conn {
	from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return &conn{Conn: c, server: s, from: from.Addr().Unmap(), in: bufio.NewReader(c), out: bufio.NewWriterSize(c, 16<<10)}
}

// serve answers until the client is done, or ctx ends; then it waits for what is in work.
func (c *conn) serve(ctx, answering context.Context) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var working sync.WaitGroup
	defer func() {
		working.Wait()
		c.flush()
	}()
	room := make(chan struct{}, mostPipelined)
	var packet []byte
	var sc scratch
	for {
		var err error
		if packet, err = c.read(ctx, packet); err != nil {
			return
		}
		switch out, v := c.server.receive(answering, packet, c.from, false, &sc); v {
		case ignored:
			return // nothing sensible comes behind
		case answered:
			c.write(out)
		case open:
			room <- struct{}{}
			question := slices.Clone(packet)
			working.Go(func() {
				defer func() { <-room }()
				c.server.workOut(answering, question, c.from, false, c.write)
				c.flush()
			})
		}
	}
}

// read gives the next packet, in buf if it has room.
func (c *conn) read(ctx context.Context, buf []byte) ([]byte, error) {
	var head [2]byte
	if c.in.Buffered() < len(head) {
		c.flush() // the client waits: send what there is
		if err := c.within(ctx, idleBound); err != nil {
			return buf, err
		}
	}
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return buf, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if c.in.Buffered() < n {
		if err := c.within(ctx, messageBound); err != nil {
			return buf, err
		}
	}
	_, err := io.ReadFull(c.in, buf)
	return buf, err
}

// within bounds the next reads, which ctx's end cuts short.
func (c *conn) within(ctx context.Context, bound time.Duration) error {
	c.SetReadDeadline(time.Now().Add(bound))
	return ctx.Err() // it may have ended before the new bound took the place of its own
}

// write sends an answer with the next flush, or before. A client that does not take it
// is found out by its next read.
func (c *conn) write(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.SetWriteDeadline(time.Now().Add(writeBound))
	c.out.Write([]byte{byte(len(p) >> 8), byte(len(p))})
	if _, err := c.out.Write(p); err != nil {
		c.Close()
	}
}

func (c *conn) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.Buffered() == 0 {
		return
	}
	c.SetWriteDeadline(time.Now().Add(writeBound))
	if c.out.Flush() != nil {
		c.Close()
	}
}
