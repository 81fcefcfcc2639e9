package ui

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/delay"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const (
	linger    = 30 * time.Second // a read goes on this long after the last page that showed it
	firstLook = 3 * time.Second  // how long a page waits for a first answer
	calm      = 80 * time.Millisecond
	maxPause  = 5 * time.Second
)

// topic is a read that pages show. Viewers with the same token share it.
type topic struct {
	kind  endpoint.Kind
	name  string
	dc    string
	token string
}

// state is the newest that is known of a topic.
type seen struct {
	value   any // what build made of the last good answer; nil before the first
	index   uint64
	version uint64    // moves with every change that a page may show; 0 before the first, and no feed's twice
	at      time.Time // of the last good answer
	err     error     // why there is no newer one
}

// feed follows one topic with one blocking read, for everyone who shows it.
type feed struct {
	topic topic
	stop  context.CancelFunc

	mu    sync.Mutex
	seen  seen
	moved chan struct{} // closed when state changes
	users int           // guarded by the hub's mu
	left  int           // how often the last user left; guarded by the hub's mu
}

// now gives the state, and a channel that closes when it changes.
func (f *feed) now() (seen, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen, f.moved
}

func (f *feed) set(change func(*seen)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.seen)
	if f.seen.version++; f.seen.version == 1 {
		f.seen.version = uint64(time.Now().UnixNano()) // a page may come back to another feed of the topic
	}
	close(f.moved)
	f.moved = make(chan struct{})
}

// hub shares feeds between pages.
type hub struct {
	ep    endpoint.Endpoint
	build func(topic, *endpoint.Answer) (any, error)
	begin chan *feed    // to run, which owns the goroutines
	ended chan struct{} // closed when run ends

	mu    sync.Mutex
	feeds map[topic]*feed // guarded by mu
}

func newHub(ep endpoint.Endpoint, build func(topic, *endpoint.Answer) (any, error)) *hub {
	return &hub{ep: ep, build: build, begin: make(chan *feed), ended: make(chan struct{}), feeds: map[topic]*feed{}}
}

// errClosed is what pages are told when the agent ends.
var errClosed = errors.New("the agent is shutting down")

// run runs the feeds until ctx ends.
func (h *hub) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	defer close(h.ended)
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-h.begin:
			own, cancel := context.WithCancel(ctx)
			h.mu.Lock()
			f.stop = cancel
			h.mu.Unlock()
			all.Go(func() {
				defer cancel()
				h.follow(own, f)
			})
		}
	}
}

// use gives the feed of a topic, which is followed until some time after release.
func (h *hub) use(ctx context.Context, t topic) (f *feed, release func(), err error) {
	h.mu.Lock()
	f, there := h.feeds[t]
	if !there {
		f = &feed{topic: t, moved: make(chan struct{})}
		h.feeds[t] = f
	}
	f.users++
	h.mu.Unlock()
	release = func() { h.release(f) }
	if !there {
		select {
		case h.begin <- f:
		case <-h.ended:
			return nil, nil, errClosed
		}
	}
	return f, release, nil
}

func (h *hub) release(f *feed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	f.left++
	left := f.left
	time.AfterFunc(linger, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if f.users == 0 && f.left == left {
			delete(h.feeds, f.topic)
			if f.stop != nil {
				f.stop()
			}
		}
	})
}

// get gives the newest state of a topic. What was seen last stays, with the error that
// keeps a newer one away; before anything was seen, the error is returned.
func (h *hub) get(ctx context.Context, t topic) (seen, error) {
	f, release, err := h.use(ctx, t)
	if err != nil {
		return seen{}, err
	}
	defer release()
	bound := time.NewTimer(firstLook)
	defer bound.Stop()
	for {
		s, moved := f.now()
		if s.value != nil || s.err != nil {
			if s.value == nil {
				return s, s.err
			}
			return s, nil
		}
		select {
		case <-moved:
		case <-bound.C:
			return s, api.Errorf(api.Unavailable, "the catalog did not answer within %s", firstLook)
		case <-h.ended:
			return s, errClosed
		case <-ctx.Done():
			return s, context.Cause(ctx)
		}
	}
}

// follow keeps a feed's state new until ctx ends.
func (h *hub) follow(ctx context.Context, f *feed) {
	pause, index := time.Duration(0), uint64(0)
	for ctx.Err() == nil {
		q := &endpoint.Query{Kind: f.topic.kind, Name: f.topic.name, QueryOptions: api.QueryOptions{
			Datacenter: f.topic.dc, Token: f.topic.token, Consistency: api.Stale, MinIndex: index, MaxWait: 5 * time.Minute,
		}}
		ans, err := h.ep.Read(ctx, q)
		began := time.Now()
		var value any
		if err == nil {
			value, err = h.build(f.topic, ans)
		}
		old, _ := f.now()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if old.err == nil || old.err.Error() != err.Error() {
				f.set(func(s *seen) { s.err = err })
			}
			pause = min(max(2*pause, 250*time.Millisecond), maxPause)
			index = 0 // what comes back may be another history
			if !delay.For(ctx, pause+rand.N(pause/4)) {
				return
			}
			continue
		case old.value == nil || old.err != nil || ans.Meta.Index != old.index:
			f.set(func(s *seen) {
				s.value, s.index, s.at, s.err = value, ans.Meta.Index, time.Now(), nil
			})
		default:
			f.mu.Lock()
			f.seen.at = time.Now()
			f.mu.Unlock()
		}
		pause = 0
		if index = ans.Meta.Index; index < old.index {
			index = 0
		}
		// A busy catalog is looked at for a tenth of the time at most.
		if !delay.For(ctx, max(calm, 9*time.Since(began))) {
			return
		}
	}
}
