package dnsserver

import (
	"context"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// kept bounds how many packed answers are remembered.
const kept = 8192

// cache remembers packed answers by name and type. An entry holds as long as what it
// rests on does: each use reads that again, which is cheap where the catalog is in
// place, and compares.
type cache struct {
	mu      sync.RWMutex
	entries map[string]*entry // guarded by mu
}

// entry is immutable.
type entry struct {
	*packed
	cfg    *Config
	token  string
	reads  []read
	second int64 // of the SOA's serial; 0 without SOA
}

func (c *cache) get(key []byte) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.entries[string(key)]
}

func (c *cache) put(key []byte, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[string]*entry{}
	}
	if _, ok := c.entries[string(key)]; !ok && len(c.entries) >= kept {
		for old := range c.entries { // an arbitrary one goes: whoever needs it makes it again
			delete(c.entries, old)
			break
		}
	}
	c.entries[string(key)] = e
}

// newEntry gives what to remember of an answer, nil where it cannot be.
func newEntry(a *answer, p *packed, cfg *Config) *entry {
	if a.transient || p == nil || len(a.reads) == 0 {
		return nil
	}
	e := &entry{packed: p, cfg: cfg, token: a.reads[0].query.Token}
	for _, r := range a.reads {
		if !cfg.inPlace() && !cfg.followed(r.query) {
			return nil
		}
		q := *r.query
		q.MaxStale = 0 // holds compares, and never waits for the leader
		e.reads = append(e.reads, read{&q, r.value})
	}
	if p.soa != nil {
		e.second = time.Now().Unix()
	}
	return e
}

// holds reports whether an entry's answer would be the same now. It does not wait.
func (s *Server) holds(ctx context.Context, e *entry, cfg *Config) bool {
	if e.cfg != cfg || e.token != cfg.token() || e.second != 0 && e.second != time.Now().Unix() {
		return false
	}
	for _, r := range e.reads {
		if !same(s.peek(ctx, cfg, r.query), r.value) {
			return false
		}
	}
	return true
}

// peek gives what a read would give, nil where that would have to be waited for.
func (s *Server) peek(ctx context.Context, cfg *Config, q *endpoint.Query) any {
	if !cfg.inPlace() {
		if ans := s.follower.latest(q, cfg.CacheMaxAge); ans != nil {
			return ans.Value
		}
		return nil
	}
	ans, err := cfg.Endpoint.Read(ctx, q)
	if err != nil || cfg.MaxStale > 0 && ans.Meta.LastContact > cfg.MaxStale {
		return nil
	}
	return ans.Value
}

// read asks the catalog, or gives what a followed read says.
func (s *Server) read(ctx context.Context, cfg *Config, q *endpoint.Query) (*endpoint.Answer, error) {
	follow := cfg.followed(q)
	if follow {
		if ans := s.follower.latest(q, cfg.CacheMaxAge); ans != nil {
			return ans, nil
		}
	}
	ans, err := cfg.Endpoint.Read(ctx, q)
	if err != nil || !follow {
		return ans, err
	}
	if ans, err = decoded(q, ans); err == nil {
		s.follower.follow(cfg, q, ans)
	}
	return ans, err
}

// inPlace reports whether the catalog can be read without waiting.
func (c *Config) inPlace() bool { return c.InPlace && !c.Consistent }

// same reports whether two answers of the catalog are one: the endpoint gives the same
// value to all who ask the same, until it changes.
func same(a, b any) bool {
	switch x := a.(type) {
	case []*api.Instance:
		y, ok := b.([]*api.Instance)
		return ok && len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0])
	case *api.NodeServices:
		y, ok := b.(*api.NodeServices)
		return ok && x == y
	}
	return false
}
