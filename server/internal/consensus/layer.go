package consensus

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// layer remembers the connections of a stream layer and closes them with it: Raft's
// transport would leave a goroutine reading from each of them.
type layer struct {
	raft.StreamLayer

	mu     sync.Mutex
	closed bool                  // guarded by mu
	open   map[*tracked]struct{} // guarded by mu
}

func newLayer(inner raft.StreamLayer) *layer {
	return &layer{StreamLayer: inner, open: make(map[*tracked]struct{})}
}

func (l *layer) Accept() (net.Conn, error) { return l.track(l.StreamLayer.Accept()) }

func (l *layer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.track(l.StreamLayer.Dial(addr, timeout))
}

func (l *layer) track(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	t := &tracked{Conn: c, layer: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	l.open[t] = struct{}{}
	return t, nil
}

func (l *layer) Close() error {
	l.mu.Lock()
	open := l.open
	l.closed, l.open = true, nil
	l.mu.Unlock()
	err := l.StreamLayer.Close()
	for t := range open {
		t.Conn.Close() // whoever uses it learns; nobody else is to know
	}
	return err
}

type tracked struct {
	net.Conn
	layer *layer
}

func (t *tracked) Close() error {
	t.layer.mu.Lock()
	delete(t.layer.open, t)
	t.layer.mu.Unlock()
	return t.Conn.Close()
}
