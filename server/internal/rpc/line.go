package rpc

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
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

	asked chan struct{} // has guard begin to doubt
	doubt atomic.Int32  // calm, doubting, or asked again while doubting
	heard atomic.Uint64 // times that something came in
	mute  atomic.Bool   // whether nothing has come in since guard doubted

	mu      sync.Mutex
	next    uint64             // guarded by mu; the id last used
	waiting map[uint64]waiting // guarded by mu; nil once broken
	refused error              // guarded by mu; why the server takes no calls at all
}

// States of doubt.
const (
	calm = iota
	doubting
	askedAgain
)

// waiting is a call under way.
type waiting struct {
	reply chan *frame // of one, so that nobody waits for a caller that left
	read  bool        // it can be made elsewhere as well
}

func newLine(conn net.Conn) *line {
	conn = steady{conn}
	l := &line{conn: conn, out: make(chan *frame, outgoing), asked: make(chan struct{}, 1), waiting: map[uint64]waiting{}}
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

// guard closes the connection when it is over, and ends it when nobody uses it. Once calls
// are made it wants to hear something again and again; where it does not, reads and who comes
// after them go elsewhere.
func (l *line) guard() {
	defer l.conn.Close()
	look := time.NewTicker(idle)
	defer look.Stop()
	proof := time.NewTimer(idle)
	proof.Stop()
	var before, heard uint64
	doubt := func() {
		select {
		case l.out <- &frame{kind: ping}:
		default: // what waits to be sent asks as well
		}
		l.doubt.Store(doubting)
		heard = l.heard.Load()
		proof.Reset(doubtful)
	}
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.asked:
			doubt()
		case <-proof.C:
			switch {
			case l.heard.Load() == heard:
				l.mute.Store(true)
				l.giveUpReads()
				l.doubt.Store(calm)
			case !l.doubt.CompareAndSwap(doubting, calm):
				doubt()
			}
		case <-look.C:
			l.mu.Lock()
			if len(l.waiting) == 0 && l.next == before {
				l.hangUp()
				l.waiting = nil // a call that comes now is made on a new connection
			}
			before = l.next
			l.mu.Unlock()
		}
	}
}

// ask has guard find out whether the other side still says anything from now on.
func (l *line) ask() {
	for l.doubt.Load() != askedAgain {
		if l.doubt.CompareAndSwap(calm, doubting) {
			l.asked <- struct{}{}
			return
		}
		l.doubt.CompareAndSwap(doubting, askedAgain)
	}
}

// giveUpReads ends the reads under way: the other side says nothing. Writes wait on, for they
// may yet be told their outcome.
func (l *line) giveUpReads() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, w := range l.waiting {
		if !w.read {
			continue
		}
		delete(l.waiting, id)
		w.reply <- &frame{kind: silent}
		select {
		case l.out <- &frame{kind: cancel, id: id}:
		default:
		}
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
			close(w.reply)
		}
	}()
	r := bufio.NewReaderSize(ear{l}, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		if f.kind == failure && f.id == 0 { // of the connection: nothing on it was carried out
			_, err := result(f, true)
			l.mu.Lock()
			l.refused = fmt.Errorf("%w: %w", errNotSent, err)
			l.mu.Unlock()
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
			if w.reply != nil {
				w.reply <- f
			}
		}
	}
}

// ear is the connection, to read: whatever comes is a sign of life, though it be a piece of a
// long answer.
type ear struct{ *line }

func (e ear) Read(b []byte) (int, error) {
	n, err := e.conn.Read(b)
	e.heard.Add(1)
	e.mute.Store(false)
	return n, err
}

func (l *line) call(ctx context.Context, f *frame) (*frame, error) {
	if tooLarge(f) {
		return nil, api.Errorf(api.TooLarge, "the request of %d bytes is larger than a call can carry", len(f.body))
	}
	if l.mute.Load() {
		return nil, errSilent
	}
	reply := make(chan *frame, 1)
	l.mu.Lock()
	if l.waiting == nil {
		defer l.mu.Unlock()
		return nil, l.unsent()
	}
	l.next++
	f.id = l.next
	l.waiting[f.id] = waiting{reply, f.kind == readCall}
	l.mu.Unlock()
	l.ask()
	select {
	case l.out <- f:
	case <-l.ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, f.id)
		return nil, l.unsent()
	case <-ctx.Done():
		l.forget(f.id)
		return nil, context.Cause(ctx)
	}
	select {
	case r, ok := <-reply:
		return l.outcome(r, ok)
	case <-ctx.Done():
	}
	l.forget(f.id)
	select { // it may have come at the same moment
	case r, ok := <-reply:
		return l.outcome(r, ok)
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

// unsent says that a call was not sent, and why where the server has told. It is called
// with mu held.
func (l *line) unsent() error {
	if l.refused != nil {
		return l.refused
	}
	return errNotSent
}

// outcome is result, of a call on a connection that may have been refused.
func (l *line) outcome(f *frame, ok bool) (*frame, error) {
	if !ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.refused != nil {
			return nil, l.refused
		}
	}
	return result(f, ok)
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
	if f.kind == silent {
		return nil, errSilent
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
