package endpoint

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/delay"
)

// An agent's cache holds at most agentCached answers, each for agentCacheTTL after it was
// last asked for.
const (
	agentCached   = 1024
	agentCacheTTL = 72 * time.Hour
)

// AgentCache answers reads that may be a little old from what this agent has, for clients
// that ask so (?cached). Whatever was asked once it keeps fresh by a blocking read of its
// own, so that however many ask, and however often, the servers are asked once a change.
// Executions of prepared queries are kept as they were found. Run must be called; its
// methods may be called concurrently.
type AgentCache struct {
	next  Endpoint
	log   *slog.Logger
	start chan *kept
	ended chan struct{} // closed when Run has ended

	mu   sync.Mutex
	kept map[string]*kept // guarded by mu; by identity, datacenter, token and consistency
}

// Freshness is what a client asks of a cached answer (Cache-Control).
type Freshness struct {
	MaxAge         time.Duration // oldest to be taken; 0 is any
	MustRevalidate bool          // ask anew in any case
	StaleIfError   time.Duration // how much older it may be if asking anew fails
}

// Cached is an answer with where it came from.
type Cached struct {
	*Answer
	Hit bool
	Age time.Duration // of a hit: for how long it has not been known to be the latest
}

// NewAgentCache makes a cache of what next answers; it starts nothing.
func NewAgentCache(next Endpoint, log *slog.Logger) *AgentCache {
	return &AgentCache{
		next: next, log: log.With("room", "endpoint"), start: make(chan *kept), ended: make(chan struct{}), kept: map[string]*kept{},
	}
}

// kept is one answer that is kept.
type kept struct {
	query  Query
	cancel context.CancelFunc // set before it is seen by others
	ctx    context.Context

	mu      sync.Mutex
	answer  *Answer       // guarded by mu; nil before the first
	err     error         // guarded by mu; of the first read, which ends it
	since   time.Time     // guarded by mu; since when it may not be the latest; zero while it is followed
	used    time.Time     // guarded by mu
	changed chan struct{} // guarded by mu; closes when answer or err is another
}

// Caches reports whether reads of a kind are kept.
func Caches(k Kind) bool {
	switch k {
	case HealthService, Services, ServiceNodes, Datacenters, QueryExecute:
		return true
	}
	return false
}

// Run keeps what is kept fresh until ctx ends.
func (c *AgentCache) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	open, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer close(c.ended) // before stop: who waits must see that this is the end
	sweep := time.NewTicker(time.Hour)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-sweep.C:
			c.forgetUnused(time.Now())
		case k := <-c.start:
			following.Go(func() {
				defer context.AfterFunc(open, k.cancel)()
				c.follow(k)
			})
		}
	}
}

// Read answers q from what is kept, and keeps the answer. A blocking read waits until
// what is kept is newer.
func (c *AgentCache) Read(ctx context.Context, q *Query, want Freshness) (*Cached, error) {
	k, found, err := c.entry(ctx, q)
	if err != nil {
		return nil, err
	}
	over := time.NewTimer(cachePatience(q))
	defer over.Stop()
	for waited := false; ; {
		k.mu.Lock()
		k.used = time.Now()
		answer, err, since, changed := k.answer, k.err, k.since, k.changed
		k.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case answer != nil && (q.MinIndex == 0 || answer.Meta.Index > q.MinIndex || waited):
			hit := &Cached{Answer: answer, Hit: found}
			if found && !since.IsZero() {
				hit.Age = time.Since(since)
			}
			return c.revalidated(ctx, k, q, hit, want)
		}
		select {
		case <-changed:
		case <-over.C:
			if answer == nil {
				return nil, api.ErrNoServers
			}
			waited = true
		case <-k.ctx.Done():
			return c.unkept(ctx, k, q)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// unkept answers a read whose answer is no longer kept: it could not be read, it had to
// make room, or the agent is ending.
func (c *AgentCache) unkept(ctx context.Context, k *kept, q *Query) (*Cached, error) {
	k.mu.Lock()
	err := k.err
	k.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-c.ended:
		return nil, errEnding
	default:
	}
	a, err := c.next.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	return &Cached{Answer: a}, nil
}

// errEnding is what a reader gets whose agent ends.
var errEnding = api.Errorf(api.Unavailable, "the agent is ending")

// revalidated gives a hit, or asks anew where it is older than the client wants.
func (c *AgentCache) revalidated(ctx context.Context, k *kept, q *Query, hit *Cached, want Freshness) (*Cached, error) {
	if !hit.Hit || !want.MustRevalidate && (want.MaxAge == 0 || hit.Age <= want.MaxAge) {
		return hit, nil
	}
	fresh := *q
	fresh.MinIndex = 0
	a, err := c.next.Read(ctx, &fresh)
	if err != nil {
		if want.StaleIfError > 0 && hit.Age <= want.MaxAge+want.StaleIfError {
			return hit, nil
		}
		return nil, err
	}
	if q.executes() {
		k.set(a, time.Now())
	}
	return &Cached{Answer: a}, nil
}

// cachePatience is how long a read may wait; the server's own limits end the reads that
// it waits for.
func cachePatience(q *Query) time.Duration {
	if q.MinIndex > 0 && q.MaxWait > 0 {
		return min(q.MaxWait, 10*time.Minute)
	}
	return 5 * time.Minute
}

// entry gives what is kept of q, a new one where it is not; found tells that it was there
// with an answer.
func (c *AgentCache) entry(ctx context.Context, q *Query) (k *kept, found bool, err error) {
	id := fmt.Sprintf("%s\x00%q\x00%q\x00%d\x00%s", appendIdentity(nil, q), q.Datacenter, q.Token, q.Consistency, q.MaxStale)
	if q.Execution != nil {
		id += fmt.Sprintf("\x00%+v", *q.Execution)
	}
	c.mu.Lock()
	if k = c.kept[id]; k != nil {
		c.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		return k, k.answer != nil, nil
	}
	k = &kept{query: *q, used: time.Now(), changed: make(chan struct{})}
	k.query.MinIndex, k.query.MaxWait = 0, 0
	k.ctx, k.cancel = context.WithCancel(context.Background())
	if len(c.kept) >= agentCached {
		c.forgetOldest()
	}
	c.kept[id] = k
	c.mu.Unlock()
	select {
	case c.start <- k:
		return k, false, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-c.ended:
		err = errEnding
	}
	k.fail(err)
	c.forget(k)
	return nil, false, err
}

// follow keeps one answer fresh until it is forgotten.
func (c *AgentCache) follow(k *kept) {
	defer k.cancel()
	q := k.query
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, time.Minute
	first := true
	for {
		a, err := c.next.Read(k.ctx, &q)
		switch {
		case k.ctx.Err() != nil:
			k.fail(errEnding)
			return
		case err != nil && first: // whoever waits for it learns, and may ask again
			k.fail(err)
			c.forget(k)
			return
		case err != nil:
			k.lost(time.Now())
			if !delay.For(k.ctx, pause.NextBackOff()) {
				return
			}
			continue
		}
		pause.Reset()
		first = false
		if q.executes() {
			k.set(a, time.Now())
			<-k.ctx.Done()
			return
		}
		if a.Meta.Index < q.MinIndex { // as after a restore
			q.MinIndex = 0
		} else {
			q.MinIndex = a.Meta.Index
		}
		k.set(a, time.Time{})
		if q.Kind == Datacenters && !delay.For(k.ctx, 15*time.Second) { // it does not block
			return
		}
	}
}

func (k *kept) set(a *Answer, since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answer, k.since = a, since
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *kept) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.answer == nil && k.err == nil {
		k.err = err
		close(k.changed)
		k.changed = make(chan struct{})
	}
}

// lost notes that the answer is no longer followed.
func (k *kept) lost(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.since.IsZero() {
		k.since = now
	}
}

func (c *AgentCache) forget(k *kept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, x := range c.kept {
		if x == k {
			delete(c.kept, id)
		}
	}
	k.cancel()
}

// forgetOldest makes room. Called with mu held.
func (c *AgentCache) forgetOldest() {
	var oldest string
	var at time.Time
	for id, k := range c.kept {
		if used := k.lastUsed(); oldest == "" || used.Before(at) {
			oldest, at = id, used
		}
	}
	c.kept[oldest].cancel()
	delete(c.kept, oldest)
}

func (c *AgentCache) forgetUnused(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, k := range c.kept {
		if now.Sub(k.lastUsed()) > agentCacheTTL {
			k.cancel()
			delete(c.kept, id)
		}
	}
}

func (k *kept) lastUsed() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.used
}
