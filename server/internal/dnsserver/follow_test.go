package dnsserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// far is a server elsewhere: its answers come encoded, and blocking reads wait.
type far struct {
	mu      sync.Mutex
	list    []*api.Instance
	index   uint64
	down    bool
	reads   int           // that waited for nothing
	waiting int           // that wait now
	changed chan struct{} // closed at each change
}

func (f *far) Write(context.Context, *endpoint.Write) (*command.Result, error) { return nil, nil }

func (f *far) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	timer := time.NewTimer(q.MaxWait)
	defer timer.Stop()
	over := q.MinIndex == 0
	for {
		f.mu.Lock()
		changed := f.changed
		switch {
		case f.down:
			f.mu.Unlock()
			return nil, errors.New("down")
		case over || f.index != q.MinIndex:
			defer f.mu.Unlock()
			if q.MinIndex == 0 {
				f.reads++
			}
			list := f.list
			if q.Name != "web" {
				list = nil
			}
			b, err := json.Marshal(list)
			return endpoint.Encoded(api.QueryMeta{Index: f.index}, true, b), err
		}
		f.waiting++
		f.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-ctx.Done():
			err = ctx.Err()
		}
		f.mu.Lock()
		f.waiting--
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

func (f *far) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *far) counts() (reads, waiting int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads, f.waiting
}

// With use_cache a client agent asks a server once, then hears of changes; it goes on
// answering while servers are away, for cache_max_age, and forgets what nobody asks.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		web := world().services["web"]
		f := &far{list: web[:1], index: 5, changed: make(chan struct{})}
		s := New(Config{Endpoint: f, Datacenter: "dc1", UseCache: true, CacheMaxAge: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error, 1)
		go func() { end <- s.Serve(ctx, nil, nil) }()
		synctest.Wait()
		want := func(when string, answers int) {
			t.Helper()
			packet, _ := new(dns.Msg).SetQuestion("web.service.consul.", dns.TypeA).Pack()
			if r := respond(t, s, packet, true); len(r.Answer) != answers {
				t.Errorf("%s: %d answers, want %d: %v", when, len(r.Answer), answers, r)
			}
		}
		for range 10 {
			want("at first", 1)
		}
		synctest.Wait()
		if reads, waiting := f.counts(); reads != 1 || waiting != 1 {
			t.Errorf("a server was asked %d times, and %d reads wait; want 1 and 1", reads, waiting)
		}
		f.set(func() { f.list, f.index = web[:2], 6 })
		synctest.Wait()
		want("after a change", 2)
		time.Sleep(4 * time.Minute)
		want("four minutes later", 2)
		f.set(func() { f.down = true })
		synctest.Wait()
		want("without servers", 2)
		time.Sleep(30 * time.Second)
		want("half a minute without servers", 2)
		time.Sleep(45 * time.Second)
		want("after cache_max_age", 0)
		f.set(func() { f.down, f.index, f.list = false, 3, slices.Clone(web[:1]) }) // from an older snapshot
		time.Sleep(retryMost)
		want("with other servers", 1)
		ask1(t, s, "none.service.consul.", dns.TypeA, true, 0)
		time.Sleep(followIdle + followWait + time.Second)
		synctest.Wait()
		if _, waiting := f.counts(); waiting != 0 || len(s.follower.tracks) != 0 {
			t.Errorf("%d reads wait for what nobody asks, %d are followed", waiting, len(s.follower.tracks))
		}
		want("anew", 1)
		cancel()
		if err := <-end; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, waiting := f.counts(); waiting != 0 {
			t.Errorf("%d reads wait after the end", waiting)
		}
	})
}
