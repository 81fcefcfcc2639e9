package ui

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// changing is a catalog with one index, which can be taken away.
type changing struct {
	reads atomic.Int64 // under way
	mu    sync.Mutex
	index uint64
	err   error
	moved chan struct{}
}

func (c *changing) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	c.err = err
	close(c.moved)
	c.moved = make(chan struct{})
}

func (c *changing) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	c.reads.Add(1)
	defer c.reads.Add(-1)
	for {
		c.mu.Lock()
		index, err, moved := c.index, c.err, c.moved
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if index > q.MinIndex {
			return &endpoint.Answer{Found: true, Value: []*api.NodeInfo{}, Meta: api.QueryMeta{Index: index}}, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (c *changing) Write(context.Context, *endpoint.Write) (*command.Result, error) {
	return nil, errors.New("nobody writes here")
}

// TestHubSharesReads: viewers of a topic share one read; what was seen last stays while
// there is a fault; the read ends some time after the last viewer left.
func TestHubSharesReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changing{index: 3, moved: make(chan struct{})}
		h := newHub(c, build)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.run(ctx) }()
		topic := topic{kind: endpoint.UINodes}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if s, err := h.get(ctx, topic); err != nil || s.index != 3 {
					t.Errorf("index %d, %v", s.index, err)
				}
			})
		}
		all.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		if n := c.reads.Load(); n != 1 {
			t.Errorf("%d reads for one topic", n)
		}
		c.set(errors.New("away"))
		time.Sleep(time.Second)
		if s, err := h.get(ctx, topic); err != nil || s.index != 3 || s.err == nil {
			t.Errorf("with a fault: index %d, %v, %v", s.index, s.err, err)
		}
		c.set(nil)
		time.Sleep(2 * maxPause)
		if s, err := h.get(ctx, topic); err != nil || s.index != 5 || s.err != nil {
			t.Errorf("well again: index %d, %v, %v", s.index, s.err, err)
		}
		time.Sleep(2 * linger)
		synctest.Wait()
		if n := c.reads.Load(); n != 0 {
			t.Errorf("%d reads though nobody looks", n)
		}
		cancel()
		<-done
		if _, err := h.get(context.Background(), topic); !errors.Is(err, errClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// leading is a cluster that answers who leads, and waits as it is asked to.
type leading struct {
	changing
	leader string
	looks  int
}

func (l *leading) elect(addr string) {
	l.mu.Lock()
	l.leader = addr
	l.mu.Unlock()
	l.set(nil)
}

func (l *leading) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	l.mu.Lock()
	l.looks++
	l.mu.Unlock()
	for {
		l.mu.Lock()
		leader, moved := l.leader, l.moved
		l.mu.Unlock()
		if known, waits := q.Args[endpoint.ArgKnown]; !waits || known != leader {
			return &endpoint.Answer{Found: true, Value: leader, Meta: api.QueryMeta{Index: 1}}, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// TestLeaderIsFollowed: who leads is known at once, and nobody asks while nothing changes.
func TestLeaderIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leading{changing: changing{moved: make(chan struct{})}}
		u := New(Config{Endpoint: l})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go u.watchLeader(ctx)
		synctest.Wait()
		time.Sleep(time.Minute) // of this bubble: nothing is to happen
		for _, addr := range []string{"10.0.0.1:8300", "", "10.0.0.2:8300"} {
			before := time.Now()
			l.elect(addr)
			synctest.Wait()
			if got := u.standing.Load(); got.Leader != addr || !got.Since.Equal(before) {
				t.Errorf("after the election of %q: %+v", addr, got)
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.looks > 5 {
			t.Errorf("%d looks for three changes", l.looks)
		}
	})
}
