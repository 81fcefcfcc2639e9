package endpoint

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// jitterShare: a blocking read waits up to 1/16 longer than asked, so that watchers
// that began together do not come back together. Clients count on this bound.
const jitterShare = 16

// block evaluates q, and while its index is not above MinIndex waits for a change of
// what q reads; this is the only function that blocks on an index. It looks at least
// once, and answers as it is when the time is up. When lost closes, it gives up with
// ErrNotLeader so that the caller can go where the leader is.
//
// An index below MinIndex is no change: the row that bore it may be gone (a tombstone
// reaped) while nothing that q reads has changed since. Only a restored snapshot ends
// the wait of everybody, whatever the index.
func (l *Local) block(ctx context.Context, q *Query, lost <-chan struct{}) (*Answer, error) {
	if q.MinIndex == 0 {
		return l.look(q)
	}
	timer := time.NewTimer(l.patience(q))
	defer timer.Stop()
	var over bool
	for {
		watch := l.cfg.Store.Watch(topics(q)...)
		a, err := l.look(q)
		if err != nil || over || a.Meta.Index > q.MinIndex {
			watch.Stop()
			return a, err
		}
		select {
		case <-watch.C:
			over = watch.Restored()
		case <-timer.C:
			over = true
		case <-lost:
			watch.Stop()
			if !l.cfg.Raft.IsLeader() {
				return nil, api.ErrNotLeader
			}
			lost = l.cfg.Raft.Watch()
			continue
		case <-ctx.Done():
			watch.Stop()
			return nil, context.Cause(ctx)
		}
		watch.Stop()
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
	found, err := l.cache.evaluate(q, l.cfg.Store.State())
	if err != nil {
		return nil, err
	}
	a := *found // the parts that are the same for all
	a.Meta.Index = max(a.Meta.Index, 1)
	a.Meta.Consistency = q.Consistency
	a.Meta.KnownLeader = true
	if !l.cfg.Raft.IsLeader() {
		_, addr := l.cfg.Raft.Leader()
		a.Meta.KnownLeader = addr != ""
		a.Meta.LastContact = l.cfg.Raft.LastContact()
	}
	return &a, nil
}
