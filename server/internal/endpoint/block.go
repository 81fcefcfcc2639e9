package endpoint

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
)

// jitterShare: a blocking read waits up to 1/16 longer than asked, so that watchers
// that began together do not come back together. Clients count on this bound.
const jitterShare = 16

// blocking counts the reads that wait for a change.
var blocking = promauto.NewGauge(prometheus.GaugeOpts{
	Name: "consul_rpc_queries_blocking", Help: "Reads that wait for a change.",
})

// block evaluates q, and while its index is not above MinIndex waits for a change of
// what q reads; this is the only function that blocks on an index. It looks at least
// once, and answers as it is when the time is up. When lost closes, it gives up with
// ErrNotLeader so that the caller can go where the leader is.
//
// An index below MinIndex is no change: the row that bore it may be gone (a tombstone
// reaped) while nothing that q reads has changed since. Only a restored snapshot ends
// the wait of everybody, whatever the index.
func (l *Local) block(ctx context.Context, q *Query, lost <-chan struct{}) (*Answer, error) {
	if q.executes() {
		return l.execute(ctx, q)
	}
	if q.MinIndex == 0 {
		return l.look(q)
	}
	timer := time.NewTimer(l.patience(q))
	defer timer.Stop()
	watch := l.cfg.Store.Watch(topics(q)...)
	blocks := false
	defer func() {
		if blocks {
			blocking.Dec()
		}
		if watch != nil {
			watch.Stop()
		}
	}()
	var over bool
	for {
		a, err := l.look(q)
		if err != nil || over || a.Meta.Index > q.MinIndex {
			return a, err
		}
		if watch == nil { // woken for less: only now, for most who are woken need no other
			watch = l.cfg.Store.Watch(topics(q)...)
			continue
		}
		if !blocks {
			blocks = true
			blocking.Inc()
		}
		select {
		case <-watch.C:
			over = watch.Restored()
			watch = nil
		case <-timer.C:
			over = true
		case <-lost:
			if !l.cfg.Raft.IsLeader() {
				return nil, api.ErrNotLeader
			}
			lost = l.cfg.Raft.Watch()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// patience is how long q may block.
func (l *Local) patience(q *Query) time.Duration {
	wait := q.MaxWait
	if wait <= 0 {
		wait = l.cfg.DefaultQueryTime
	}
	wait = min(wait, l.cfg.MaxQueryTime)
	return wait + rand.N(wait/jitterShare+1)
}

// look evaluates q now.
func (l *Local) look(q *Query) (*Answer, error) {
	h, err := l.mayRead(q)
	if err != nil {
		return nil, err
	}
	st := l.cfg.Store.State()
	var may *acl.Authorizer
	if h != nil {
		may = h.Authorizer
	}
	found, done, err := l.readACL(q, st, h)
	switch {
	case done:
	case q.Kind == KVGet: // as many as there are rows, which carry their JSON
		found = key(q.Name, st)
	case h != nil && (q.Kind == QueryList || q.Kind == QueryGet):
		found, err = l.readQueries(q, st, h)
	default:
		found, err = l.cache.evaluate(q, st, may)
	}
	if err != nil {
		return nil, err
	}
	a := *found // the parts that are the same for all
	index, filtered := max(a.Meta.Index, 1), a.Meta.Filtered
	a.Meta = l.meta(q)
	a.Meta.Index, a.Meta.Filtered = index, filtered && !h.Anonymous()
	return &a, nil
}

// meta says what an answer of this server is worth now, without an index.
func (l *Local) meta(q *Query) api.QueryMeta {
	m := api.QueryMeta{Consistency: q.Consistency, KnownLeader: true}
	if !l.cfg.Raft.IsLeader() {
		_, addr := l.cfg.Raft.Leader()
		m.KnownLeader = addr != ""
		m.LastContact = l.cfg.Raft.LastContact()
	}
	return m
}
