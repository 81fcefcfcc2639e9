// Package fastpath answers plain requests of HTTP/1.1 connections at a fraction of what
// they cost in net/http, and hands every other connection over to it. It parses nothing
// that could be read in two ways: a request that is not whole in what the client sent at
// once, has a header that changes how it is read, or a character out of the ordinary,
// takes its connection to net/http for good, which then sees every byte of it.
//
// It knows no route; who listens says which requests may be answered here: those that do
// not stream. While one may wait the connection is read ahead, so that its context ends
// when the client leaves.
package fastpath

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config is what Listen needs.
type Config struct {
	Handler http.Handler
	// Takes reports whether a request may be answered here, by its method (GET or PUT)
	// and its target as it stands in the request, and whether its answer may wait for
	// long.
	Takes func(method, target string) (taken, waits bool)
	// Context is that of every request but those that may wait, whose contexts end with
	// Waiting; net/http has one of its own.
	Context, Waiting context.Context
	// FirstTime bounds the wait for a connection's first request, IdleTime that between
	// requests.
	FirstTime, IdleTime time.Duration
	// Closed is told of each connection that ended here.
	Closed func(net.Conn)
}

// Listener gives the connections that are not, or not any more, for the fast path.
type Listener struct {
	net.Listener
	cfg    Config
	passed chan passed
	done   chan struct{} // closed by Close
	once   sync.Once
	mu     sync.Mutex
	open   map[*conn]bool // guarded by mu; nil after Shutdown
	group  sync.WaitGroup
}

// passed is what Accept gives.
type passed struct {
	conn net.Conn
	err  error
}

// Listen begins to accept on l. Its connections that are handed over come out of the
// listener's Accept, errors of l too. Shutdown ends those that stay.
func Listen(l net.Listener, cfg Config) *Listener {
	f := &Listener{Listener: l, cfg: cfg, passed: make(chan passed), done: make(chan struct{}), open: map[*conn]bool{}}
	go f.accept()
	return f
}

func (l *Listener) accept() {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			// one that will pass is asked about again when net/http has waited as it does
			if !l.pass(passed{err: err}) {
				return
			}
			continue
		}
		c := newConn(l, nc)
		l.mu.Lock()
		ended := l.open == nil
		if !ended {
			l.open[c] = true
			l.group.Add(1)
		}
		l.mu.Unlock()
		if ended {
			c.close()
			continue
		}
		go c.serve()
	}
}

// pass hands something to Accept, unless the listener is closed.
func (l *Listener) pass(p passed) bool {
	select {
	case l.passed <- p:
		return true
	case <-l.done:
		return false
	}
}

// Accept gives the next connection that is for net/http.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case p := <-l.passed:
		return p.conn, p.err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends accepting. Connections on the fast path stay until Shutdown.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// Shutdown ends idle connections at once and the others after the request under way; what
// takes until ctx ends is cut off, and its error given.
func (l *Listener) Shutdown(ctx context.Context) error {
	l.mu.Lock()
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for c := range open {
		c.end()
	}
	gone := make(chan struct{})
	go func() {
		l.group.Wait()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	for c := range open {
		c.Close()
	}
	return ctx.Err()
}

// forget takes a connection off the list.
func (l *Listener) forget(c *conn) {
	l.mu.Lock()
	delete(l.open, c) // of nil: after Shutdown
	l.mu.Unlock()
	l.group.Done()
}
