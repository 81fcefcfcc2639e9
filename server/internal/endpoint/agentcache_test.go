package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// origin is an endpoint whose one answer changes when a test says so.
type origin struct {
	mu      sync.Mutex
	index   uint64        // guarded by mu
	err     error         // guarded by mu
	reads   int           // guarded by mu
	wait    time.Duration // how long a blocking read lasts at most
	changed chan struct{} // guarded by mu
}

func newOrigin() *origin {
	return &origin{index: 5, wait: 10 * time.Minute, changed: make(chan struct{})}
}

func (o *origin) set(index uint64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.index, o.err = index, err
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reads
}

func (o *origin) Read(ctx context.Context, q *Query) (*Answer, error) {
	o.mu.Lock()
	o.reads++
	o.mu.Unlock()
	over := time.NewTimer(o.wait)
	defer over.Stop()
	for late := false; ; {
		o.mu.Lock()
		index, err, changed := o.index, o.err, o.changed
		o.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if q.MinIndex == 0 || index > q.MinIndex || late {
			return Encoded(api.QueryMeta{Index: index}, true, fmt.Appendf(nil, "%d", index)), nil
		}
		select {
		case <-changed:
		case <-over.C:
			late = true
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (o *origin) Write(context.Context, *Write) (*command.Result, error) {
	return nil, errors.New("nobody writes through a cache")
}

// withCache runs f in a bubble with a cache.
func withCache(t *testing.T, f func(*testing.T, *AgentCache, *origin)) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin()
		c := NewAgentCache(o, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		f(t, c, o)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// told gives what a read got, in a word or two.
func told(t *testing.T, c *AgentCache, q Query, want Freshness) string {
	t.Helper()
	a, err := c.Read(t.Context(), &q, want)
	if err != nil {
		return err.Error()
	}
	b, err := a.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if !a.Hit {
		return "miss " + string(b)
	}
	return fmt.Sprintf("hit %s %s", b, a.Age)
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAgentCacheFollows(t *testing.T) {
	withCache(t, func(t *testing.T, c *AgentCache, o *origin) {
		web := Query{Kind: HealthService, Name: "web"}
		expect(t, told(t, c, web, Freshness{}), "miss 5")
		expect(t, told(t, c, web, Freshness{}), "hit 5 0s")
		other := web
		other.Token = "another"
		expect(t, told(t, c, other, Freshness{}), "miss 5")
		time.Sleep(25 * time.Hour) // quiet: still followed, still the latest
		expect(t, told(t, c, web, Freshness{}), "hit 5 0s")
		o.set(6, nil)
		synctest.Wait()
		before := o.count()
		for range 100 {
			expect(t, told(t, c, web, Freshness{}), "hit 6 0s")
		}
		if n := o.count() - before; n != 0 {
			t.Errorf("a hundred hits asked the servers %d times", n)
		}
		o.set(3, nil) // as after a restore: nobody waits for an index that may never come
		time.Sleep(11 * time.Minute)
		expect(t, told(t, c, web, Freshness{}), "hit 3 0s")
	})
}

func TestAgentCacheBlocks(t *testing.T) {
	withCache(t, func(t *testing.T, c *AgentCache, o *origin) {
		q := Query{Kind: HealthService, Name: "web"}
		expect(t, told(t, c, q, Freshness{}), "miss 5")
		q.MinIndex, q.MaxWait = 5, time.Minute
		began := time.Now()
		expect(t, told(t, c, q, Freshness{}), "hit 5 0s")
		if took := time.Since(began); took != time.Minute {
			t.Errorf("waited %s", took)
		}
		time.AfterFunc(20*time.Second, func() { o.set(6, nil) })
		began = time.Now()
		expect(t, told(t, c, q, Freshness{}), "hit 6 0s")
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("woken after %s", took)
		}
	})
}

// While the servers are away what is known is given, with its age, as far as the client
// takes it.
func TestAgentCacheAges(t *testing.T) {
	withCache(t, func(t *testing.T, c *AgentCache, o *origin) {
		web := Query{Kind: HealthService, Name: "web"}
		o.set(5, api.ErrNoLeader)
		expect(t, told(t, c, web, Freshness{}), "No cluster leader")
		o.set(5, nil)
		expect(t, told(t, c, web, Freshness{}), "miss 5")
		o.set(5, api.ErrNoLeader)
		synctest.Wait()
		time.Sleep(10 * time.Second)
		expect(t, told(t, c, web, Freshness{}), "hit 5 10s")
		expect(t, told(t, c, web, Freshness{MaxAge: 20 * time.Second}), "hit 5 10s")
		expect(t, told(t, c, web, Freshness{MaxAge: 5 * time.Second}), "No cluster leader")
		expect(t, told(t, c, web, Freshness{MaxAge: 5 * time.Second, StaleIfError: 5 * time.Second}), "hit 5 10s")
		expect(t, told(t, c, web, Freshness{MustRevalidate: true}), "No cluster leader")
		o.set(7, nil)
		time.Sleep(2 * time.Minute)
		expect(t, told(t, c, web, Freshness{}), "hit 7 0s")
		expect(t, told(t, c, web, Freshness{MustRevalidate: true}), "miss 7")
	})
}

// An execution is kept as it was found, until somebody wants a newer one.
func TestAgentCacheKeepsExecutions(t *testing.T) {
	withCache(t, func(t *testing.T, c *AgentCache, o *origin) {
		q := Query{Kind: QueryExecute, Name: "web", Execution: &Execution{Limit: 1}}
		expect(t, told(t, c, q, Freshness{}), "miss 5")
		o.set(6, nil)
		time.Sleep(time.Minute)
		expect(t, told(t, c, q, Freshness{}), "hit 5 1m0s")
		more := q
		more.Execution = &Execution{Limit: 2}
		expect(t, told(t, c, more, Freshness{}), "miss 6")
		expect(t, told(t, c, q, Freshness{MaxAge: 30 * time.Second}), "miss 6")
		expect(t, told(t, c, q, Freshness{}), "hit 6 0s")
		if n := o.count(); n != 3 {
			t.Errorf("the servers were asked %d times", n)
		}
	})
}

// The number kept is bounded: what was longest not asked for makes room. What nobody
// wants any longer is forgotten.
func TestAgentCacheIsBounded(t *testing.T) {
	withCache(t, func(t *testing.T, c *AgentCache, o *origin) {
		o.wait = 1000 * time.Hour
		q := func(i int) Query { return Query{Kind: HealthService, Name: fmt.Sprint("s", i)} }
		for i := range agentCached {
			expect(t, told(t, c, q(i), Freshness{}), "miss 5")
			time.Sleep(time.Millisecond)
		}
		expect(t, told(t, c, q(0), Freshness{}), "hit 5 0s")
		time.Sleep(time.Millisecond)
		expect(t, told(t, c, q(agentCached), Freshness{}), "miss 5")
		expect(t, told(t, c, q(0), Freshness{}), "hit 5 0s")
		expect(t, told(t, c, q(1), Freshness{}), "miss 5")
		time.Sleep(agentCacheTTL + 2*time.Hour)
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.kept) != 0 {
			t.Errorf("%d answers are kept that nobody wants", len(c.kept))
		}
	})
}

// Without Run nobody waits for ever.
func TestAgentCacheEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewAgentCache(newOrigin(), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		expect(t, told(t, c, Query{Kind: HealthService, Name: "web"}, Freshness{}), "miss 5")
		waits := make(chan string)
		go func() {
			waits <- told(t, c, Query{Kind: HealthService, Name: "web", QueryOptions: api.QueryOptions{MinIndex: 5}}, Freshness{})
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		select {
		case got := <-waits:
			expect(t, got, "the agent is ending")
		case <-time.After(6 * time.Minute): // its own patience
			t.Error("a reader waits on")
		}
		expect(t, told(t, c, Query{Kind: HealthService, Name: "db"}, Freshness{}), "the agent is ending")
	})
}
