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
	next    uint64                 // guarded by mu; the id last used
	waiting map[uint64]chan *frame // guarded by mu; nil once broken
}

func newLine(conn net.Conn) *line {
	conn = steady{conn}
	l := &line{conn: conn, out: make(chan *frame, outgoing), waiting: map[uint64]chan *frame{}}
	l.ctx, l.hangUp = context.WithCancel(context.Background())
	l.running.Go(func() {
		if send(l.ctx, conn, l.out) != nil {
			l.hangUp()
		}
	})
	l.running.Go(l.receive)
	l.running.Go(l.guard)
	return l
}

// guard closes the connection when it is over, and ends it when nobody uses it.
func (l *line) guard() {
	defer l.conn.Close()
	look := time.NewTicker(idle)
	defer look.Stop()
	var before uint64
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-look.C:
		}
		l.mu.Lock()
		if len(l.waiting) == 0 && l.next == before {
			l.hangUp()
			l.waiting = nil // a call that comes now is made on a new connection
		}
		before = l.next
		l.mu.Unlock()
	}
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
		f, err := readFrame(r)
		if err != nil {
			return
		}
		switch f.kind {
		case ping:
			replyPong(l.out)
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
	stop := &frame{kind: cancel, id: f.id}
	select {
	case l.out <- stop:
	default: // who gave up does not wait for others' frames
		go post(l.ctx, l.out, stop)
	}
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
