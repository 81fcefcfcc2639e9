package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Limits of the pump.
const (
	maxItems    = 1024      // items in one entry
	maxBytes    = 256 << 10 // bytes in one entry, unless a single item is larger
	maxInFlight = 2         // entries between proposal and answer
	maxScan     = 4096      // waiting items looked at for one entry
)

// An Item is one write. Keys names what it writes: two items that share a key never
// travel in one entry. An Exclusive item travels alone. Append encodes it onto a
// buffer.
type Item interface {
	Keys() []string
	Exclusive() bool
	Append([]byte) ([]byte, error)
}

// Apply commits item and gives the state machine's answer to it. Where the error is
// ErrUnknown the write may have been, or may yet be, applied; with every other error
// it changed nothing. An item whose ctx ends while it waits is dropped.
func (r *Raft) Apply(ctx context.Context, item Item) (any, error) {
	if r.raft.State() != raft.Leader {
		return nil, ErrNotLeader
	}
	return r.pump.apply(ctx, item)
}

// pump gathers the items that wait into as few entries as may be. There is no timer:
// while entries are in flight, what arrives gathers by itself.
type pump struct {
	prefix  []byte
	propose func(entry []byte) raft.ApplyFuture // blocks until Raft took the entry
	slots   chan struct{}                       // holds one token an entry in flight
	wake    chan struct{}                       // 1: something waits

	mu     sync.Mutex
	queue  []*request // guarded by mu; in order of arrival
	closed bool       // guarded by mu
}

// request is an item on its way.
type request struct {
	keys      []string
	exclusive bool
	data      []byte
	stage     atomic.Int32
	done      chan answer // 1, so that nobody waits for a caller that left
}

// The stages of a request. Whoever moves it on from waiting decides its fate.
const (
	waiting int32 = iota
	taken         // travels in an entry
	dropped       // its caller left
)

type answer struct {
	value any
	err   error
}

func newPump(prefix []byte, propose func([]byte) raft.ApplyFuture) *pump {
	return &pump{
		prefix:  prefix,
		propose: propose,
		slots:   make(chan struct{}, maxInFlight),
		wake:    make(chan struct{}, 1),
	}
}

// apply queues item and waits for its answer. Encoding is done here, on the caller's
// time, so that the pump only copies bytes.
func (p *pump) apply(ctx context.Context, item Item) (any, error) {
	data, err := item.Append(nil)
	if err != nil {
		return nil, fmt.Errorf("encode item: %w", err)
	}
	req := &request{keys: item.Keys(), exclusive: item.Exclusive(), data: data, done: make(chan answer, 1)}
	if !p.push(req) {
		return nil, ErrClosed
	}
	select {
	case a := <-req.done:
		return a.value, a.err
	case <-ctx.Done():
	}
	if req.stage.CompareAndSwap(waiting, dropped) {
		return nil, context.Cause(ctx)
	}
	select { // the answer may have come at the same moment
	case a := <-req.done:
		return a.value, a.err
	default:
		return nil, fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	}
}

func (p *pump) push(req *request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.queue = append(p.queue, req)
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return true
}

// run proposes entries until ctx ends, then refuses what waits and sees the entries in
// flight answered.
func (p *pump) run(ctx context.Context) {
	var answering sync.WaitGroup
	defer answering.Wait()
	defer p.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for more := true; more; {
			select {
			case <-ctx.Done():
				return
			case p.slots <- struct{}{}:
			}
			batch := p.take()
			if more = len(batch) > 0; !more {
				<-p.slots
				continue
			}
			future := p.propose(p.entry(batch))
			answering.Go(func() {
				respond(batch, future)
				<-p.slots
			})
		}
	}
}

// take chooses the next entry's items from the queue: the oldest first, each unless it
// shares a key with one that is chosen or that is passed over. So each key keeps its
// order of arrival (C3), and the oldest item always travels (C4). An item is passed
// over only for one that was chosen, so an exclusive item found with an empty batch is
// the oldest; nothing overtakes it.
func (p *pump) take() []*request {
	p.mu.Lock()
	defer p.mu.Unlock()
	var (
		batch []*request
		size  = len(p.prefix)
		busy  = make(map[string]struct{})
		kept  = p.queue[:0]
		next  int
	)
	for ; next < len(p.queue) && next < maxScan && len(batch) < maxItems; next++ {
		req := p.queue[next]
		if req.stage.Load() == dropped {
			continue
		}
		full := len(batch) > 0 && size+len(req.data) > maxBytes
		if full || req.exclusive && len(batch) > 0 {
			break
		}
		free := !anyIn(busy, req.keys)
		if free && !req.stage.CompareAndSwap(waiting, taken) {
			continue // left just now
		}
		for _, k := range req.keys {
			busy[k] = struct{}{}
		}
		if !free {
			kept = append(kept, req)
			continue
		}
		batch = append(batch, req)
		size += len(req.data)
		if req.exclusive {
			next++
			break
		}
	}
	old := p.queue
	p.queue = append(kept, p.queue[next:]...)
	clear(old[len(p.queue):])
	return batch
}

func anyIn(busy map[string]struct{}, keys []string) bool {
	for _, k := range keys {
		if _, ok := busy[k]; ok {
			return true
		}
	}
	return false
}

func (p *pump) entry(batch []*request) []byte {
	size := len(p.prefix)
	for _, req := range batch {
		size += len(req.data)
	}
	entry := append(make([]byte, 0, size), p.prefix...)
	for _, req := range batch {
		entry = append(entry, req.data...)
	}
	return entry
}

// close refuses everything that waits or will come.
func (p *pump) close() {
	p.mu.Lock()
	queue := p.queue
	p.queue, p.closed = nil, true
	p.mu.Unlock()
	for _, req := range queue {
		req.done <- answer{err: ErrClosed}
	}
}

// respond waits for an entry and gives each of its callers what is theirs.
func respond(batch []*request, future raft.ApplyFuture) {
	values, err := outcome(future, len(batch))
	for i, req := range batch {
		a := answer{err: err}
		if err == nil {
			a.value = values[i]
			if e, ok := values[i].(error); ok {
				a = answer{err: e}
			}
		}
		req.done <- a
	}
}

// outcome waits for an entry and gives the state machine's answers, one an item.
func outcome(future raft.ApplyFuture, items int) ([]any, error) {
	if err := future.Error(); err != nil {
		// Raft says these two only of what it did not take.
		if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return nil, ErrNotLeader
		}
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	switch resp := future.Response().(type) {
	case error:
		return nil, resp
	case []any:
		if len(resp) == items {
			return resp, nil
		}
		return nil, fmt.Errorf("%w: state machine gave %d answers to %d items", ErrUnknown, len(resp), items)
	default:
		return nil, fmt.Errorf("%w: state machine answered with a %T", ErrUnknown, resp)
	}
}
