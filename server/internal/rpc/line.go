package rpc

import (
	"bufio"
	"context"
	"net"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// line is one connection with calls under way.
type line struct {
	conn    net.Conn
	out     chan *frame
	ctx     context.Context // ends when the connection breaks
	hangUp  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	next    uint64                 // guarded by mu
	waiting map[uint64]chan *frame // guarded by mu; nil once broken
}

func newLine(conn net.Conn) *line {
	l := &line{conn: conn, out: make(chan *frame, outgoing), waiting: map[uint64]chan *frame{}}
	l.ctx, l.hangUp = context.WithCancel(context.Background())
	l.running.Go(func() {
		if send(l.ctx, conn, l.out) != nil {
			l.hangUp()
		}
	})
	l.running.Go(l.receive)
	l.running.Go(func() {
		<-l.ctx.Done()
		conn.Close()
	})
	return l
}

func (l *line) broken() bool { return l.ctx.Err() != nil }

// receive hands replies to who waits, until the connection breaks; then nobody waits in
// vain.
func (l *line) receive() {
	defer func() {
		l.hangUp()
		l.mu.Lock()
		waiting := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		for _, w := range waiting {
			close(w)
		}
	}()
	r := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		l.conn.SetReadDeadline(time.Now().Add(silence))
		f, err := readFrame(r)
		if err != nil {
			return
		}
		switch f.kind {
		case ping:
			post(l.ctx, l.out, &frame{kind: pong})
		case answer, written, failure:
			l.mu.Lock()
			w := l.waiting[f.id]
			delete(l.waiting, f.id)
			l.mu.Unlock()
			if w != nil {
				w <- f
			}
		}
	}
}

func (l *line) call(ctx context.Context, f *frame) (*frame, error) {
	if tooLarge(f) {
		return nil, api.Errorf(api.TooLarge, "the request of %d bytes is larger than a call can carry", len(f.body))
	}
	reply := make(chan *frame, 1) // receive must not wait for a caller that left
	l.mu.Lock()
	if l.waiting == nil {
		l.mu.Unlock()
		return nil, errNotSent
	}
	l.next++
	f.id = l.next
	l.waiting[f.id] = reply
	l.mu.Unlock()
	select {
	case l.out <- f:
	case <-l.ctx.Done():
		l.forget(f.id)
		return nil, errNotSent
	case <-ctx.Done():
		l.forget(f.id)
		return nil, context.Cause(ctx)
	}
	select {
	case r, ok := <-reply:
		return result(r, ok)
	case <-ctx.Done():
	}
	l.forget(f.id)
	select { // it may have come at the same moment
	case r, ok := <-reply:
		return result(r, ok)
	default:
	}
	post(l.ctx, l.out, &frame{kind: cancel, id: f.id})
	return nil, context.Cause(ctx)
}

func (l *line) forget(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
}

func result(f *frame, ok bool) (*frame, error) {
	if !ok {
		return nil, errBroken
	}
	if f.kind != failure {
		return f, nil
	}
	var e api.Error
	if err := decode(f.head, &e); err != nil {
		return nil, err
	}
	return nil, &e
}
