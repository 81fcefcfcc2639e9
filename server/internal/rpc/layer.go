package rpc

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

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
