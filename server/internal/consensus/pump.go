package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of the pump.
const (
	maxItems    = 1024      // items in one group
	maxBytes    = 256 << 10 // bytes in one group, unless a single item is larger
	maxEntries  = 64        // entries in one group; Raft writes as many at once
	maxInFlight = 2         // groups between proposal and answer
	maxScan     = 4096      // waiting items looked at for one group

	// patience is how long a group waits for the one before it to be answered. A write to
	// a good disk is faster; an answer from followers far away may be slower.
	patience = 2 * time.Millisecond
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
	if err := r.disk.refusal(); err != nil {
		return nil, err
	}
	return r.pump.apply(ctx, item)
}

// pump gathers the items that wait into groups of as few entries as may be. The first does
// not wait; while a group is in flight, for as long as there is patience, what arrives
// gathers by itself.
type pump struct {
	prefix  []byte
	propose func(entry []byte) raft.ApplyFuture // blocks while Raft has no room for the entry
	disk    *watchdog                           // may be nil
	wake    chan struct{}                       // 1: something waits
	landed  chan struct{}                       // 1: a group was answered
	used    sync.Pool                           // requests
	behind  map[string]int                      // empty but for take, which run alone calls

	mu       sync.Mutex
	queue    []*request // guarded by mu; in order of arrival
	inFlight int        // guarded by mu; groups
	closed   bool       // guarded by mu
}

// request is an item on its way. One that was answered is used again.
type request struct {
	keys      []string
	exclusive bool
	data      []byte
	stage     atomic.Int32
	done      chan answer // 1, so that nobody waits for a caller that left
}

// maxKept is up to what size the bytes of a request are used again.
const maxKept = 4 << 10

// newRequest encodes item.
func (p *pump) newRequest(item Item) (*request, error) {
	r, _ := p.used.Get().(*request)
	if r == nil {
		r = &request{done: make(chan answer, 1)}
	}
	data, err := item.Append(r.data[:0])
	if err != nil {
		return nil, fmt.Errorf("encode item: %w", err)
	}
	r.keys, r.exclusive, r.data = item.Keys(), item.Exclusive(), data
	r.stage.Store(waiting)
	return r, nil
}

// release gives up a request that has got its answer: nobody else has it any more.
func (p *pump) release(r *request) {
	if cap(r.data) > maxKept {
		r.data = nil
	}
	r.keys = nil
	p.used.Put(r)
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
		wake:    make(chan struct{}, 1),
		landed:  make(chan struct{}, 1),
		behind:  map[string]int{},
	}
}

// apply queues item and waits for its answer. Encoding is done here, on the caller's
// time, so that the pump only copies bytes.
func (p *pump) apply(ctx context.Context, item Item) (any, error) {
	req, err := p.newRequest(item)
	if err != nil {
		return nil, err
	}
	if !p.push(req) {
		return nil, ErrClosed
	}
	var stall <-chan struct{}
	if p.disk != nil {
		stall = p.disk.stalls()
	}
	var why error // to give up, where the write certainly did not happen
	select {
	case a := <-req.done:
		p.release(req)
		return a.value, a.err
	case <-ctx.Done():
		why = context.Cause(ctx)
	case <-stall:
		why = cmp.Or(p.disk.refusal(), ErrNotLeader)
	}
	if req.stage.CompareAndSwap(waiting, dropped) {
		return nil, why
	}
	select { // the answer may have come at the same moment
	case a := <-req.done:
		return a.value, a.err
	default:
	}
	if ctx.Err() == nil && !errors.Is(why, ErrFull) {
		why = errStalled
	}
	return nil, fmt.Errorf("%w: %w", ErrUnknown, why)
}

func (p *pump) push(req *request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.queue = append(p.queue, req)
	tell(p.wake)
	return true
}

// tell wakes whoever waits for c.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run proposes groups until ctx ends, then refuses what waits and sees the groups in
// flight answered.
func (p *pump) run(ctx context.Context) {
	var answering sync.WaitGroup
	defer answering.Wait()
	defer p.close()
	var last time.Time // when a group was proposed
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for more := true; more; {
			if !p.turn(ctx, last) {
				return
			}
			group := p.take()
			if more = len(group) > 0; !more {
				continue
			}
			last = time.Now()
			p.fly(1)
			futures := make([]raft.ApplyFuture, len(group))
			for i, batch := range group {
				futures[i] = p.propose(p.entry(batch))
			}
			answering.Go(func() {
				for i, batch := range group {
					respond(batch, futures[i])
				}
				p.fly(-1)
				tell(p.landed)
			})
		}
	}
}

// turn waits until a group may go, the last of which went at a time; false where ctx ends
// before.
func (p *pump) turn(ctx context.Context, last time.Time) bool {
	for {
		n := p.fly(0)
		if n == 0 {
			return true
		}
		var enough <-chan time.Time
		if n < maxInFlight {
			left := time.Until(last.Add(patience))
			if left <= 0 {
				return true
			}
			enough = time.After(left)
		}
		select {
		case <-ctx.Done():
			return false
		case <-p.landed:
		case <-enough:
			return true
		}
	}
}

// fly counts a group in or out, and gives how many are in flight.
func (p *pump) fly(more int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight += more
	return p.inFlight
}

// take chooses the next group from the queue, as the items of each of its entries. The
// oldest come first, each in the first entry that is behind those with which it shares a
// key, an exclusive one in an entry of its own behind all others. What finds no entry is
// passed over, and with it all that share its keys. So each key keeps its order of
// arrival (C3), and the oldest item always travels (C4); nothing overtakes an exclusive
// item.
func (p *pump) take() (group [][]*request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.behind)
	var (
		items, size int
		first       int        // the first entry that is open: behind the last exclusive item
		behind      = p.behind // by key, the entry behind the last item that has it
		kept        = p.queue[:0]
		next        int
	)
	for ; next < len(p.queue) && next < maxScan && items < maxItems && first < maxEntries; next++ {
		req := p.queue[next]
		if req.stage.Load() == dropped {
			continue
		}
		at := first
		for _, k := range req.keys {
			at = max(at, behind[k])
		}
		if req.exclusive {
			at = len(group)
		}
		full := items > 0 && size+len(req.data) > maxBytes
		if full || req.exclusive && at == maxEntries {
			break
		}
		if at < maxEntries && !req.stage.CompareAndSwap(waiting, taken) {
			continue // left just now
		}
		for _, k := range req.keys {
			behind[k] = min(at+1, maxEntries)
		}
		if at == maxEntries {
			kept = append(kept, req)
			continue
		}
		if at == len(group) {
			group = append(group, nil)
		}
		group[at] = append(group[at], req)
		items++
		size += len(req.data)
		if req.exclusive {
			first = at + 1
		}
	}
	old := p.queue
	p.queue = append(kept, p.queue[next:]...)
	clear(old[len(p.queue):])
	return group
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
