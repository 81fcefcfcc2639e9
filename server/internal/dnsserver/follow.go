package dnsserver

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const (
	// mostFollowed bounds how many reads are followed; others ask a server each time.
	mostFollowed = 1024
	// followWait is how long a read that follows waits for news.
	followWait = 5 * time.Minute
	// followIdle ends the following of what nobody has asked for this long.
	followIdle = 10 * time.Minute
	// The pause after a failed read grows from retryFirst to retryMost.
	retryFirst, retryMost = time.Second, 30 * time.Second
)

// follower keeps what a client agent was asked for up to date, by blocking reads, so
// that the next question needs no server. It follows while Serve runs.
type follower struct {
	mu      sync.Mutex
	ctx     context.Context // nil while Serve does not run; guarded by mu
	tracks  map[string]*track
	running sync.WaitGroup
}

// track is one read that is followed.
type track struct {
	query  endpoint.Query
	answer atomic.Pointer[endpoint.Answer] // with its Value
	used   atomic.Int64                    // unix nanoseconds
	lost   atomic.Int64                    // unix nanoseconds since when no server answers; 0 = one does
}

// begin lets follow start reads until ctx ends; wait returns once they have.
func (f *follower) begin(ctx context.Context) (wait func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ctx, f.tracks = ctx, map[string]*track{}
	return func() {
		f.mu.Lock()
		f.ctx = nil
		f.mu.Unlock()
		f.running.Wait()
	}
}

// latest gives what a followed read says now, nil if it is not followed, or if servers
// have been away for more than maxAge (0 = however long).
func (f *follower) latest(q *endpoint.Query, maxAge time.Duration) *endpoint.Answer {
	f.mu.Lock()
	t := f.tracks[trackKey(q)]
	f.mu.Unlock()
	if t == nil {
		return nil
	}
	now := time.Now().UnixNano()
	t.used.Store(now)
	if lost := t.lost.Load(); maxAge > 0 && lost != 0 && now-lost > int64(maxAge) {
		return nil
	}
	return t.answer.Load()
}

// follow keeps what q says up to date from here on; ans is what it says now.
func (f *follower) follow(cfg *Config, q *endpoint.Query, ans *endpoint.Answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := trackKey(q)
	if t := f.tracks[key]; t != nil {
		t.answer.Store(ans)
		return
	}
	if f.ctx == nil || f.ctx.Err() != nil || len(f.tracks) >= mostFollowed || nothing(ans) {
		return // names that are nowhere would only take the room
	}
	t := &track{query: *q}
	t.query.MaxWait = followWait
	t.answer.Store(ans)
	t.used.Store(time.Now().UnixNano())
	f.tracks[key] = t
	ctx := f.ctx
	f.running.Go(func() {
		t.run(ctx, cfg)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.tracks[key] == t {
			delete(f.tracks, key)
		}
	})
}

// run reads until ctx ends, or nobody asks any more.
func (t *track) run(ctx context.Context, cfg *Config) {
	pause, index := retryFirst, t.answer.Load().Meta.Index
	for ctx.Err() == nil && time.Since(time.Unix(0, t.used.Load())) < followIdle {
		q := t.query
		q.MinIndex = index
		ans, err := cfg.Endpoint.Read(ctx, &q)
		if err == nil {
			ans, err = decoded(&q, ans)
		}
		if err == nil {
			t.lost.Store(0)
			pause = retryFirst
			if ans.Meta.Index != index {
				t.answer.Store(ans)
			}
			index = ans.Meta.Index
			continue
		}
		index = 0 // whoever answers next may be another catalog: look, and do not wait
		if t.lost.CompareAndSwap(0, time.Now().UnixNano()) && ctx.Err() == nil {
			cfg.Log.Warn("nothing new is known of what DNS follows", "read", q.Kind, "name", q.Name, "err", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		pause = min(2*pause, retryMost)
	}
}

// followed reports whether reads like q are followed.
func (c *Config) followed(q *endpoint.Query) bool {
	return c.UseCache && !c.InPlace && !c.Consistent && (q.Kind == endpoint.HealthService || q.Kind == endpoint.NodeServices)
}

// decoded gives an answer with its value, which came encoded where it came over the wire.
func decoded(q *endpoint.Query, ans *endpoint.Answer) (*endpoint.Answer, error) {
	if ans.Value != nil {
		return ans, nil
	}
	out := &endpoint.Answer{Meta: ans.Meta, Found: ans.Found}
	var err error
	switch q.Kind {
	case endpoint.HealthService:
		out.Value, err = endpoint.Into[[]*api.Instance](ans)
	case endpoint.NodeServices:
		out.Value, err = endpoint.Into[*api.NodeServices](ans)
	default:
		err = fmt.Errorf("a read of %s is not followed", q.Kind)
	}
	return out, err
}

// nothing reports whether a decoded answer is that there is none.
func nothing(ans *endpoint.Answer) bool {
	switch v := ans.Value.(type) {
	case []*api.Instance:
		return len(v) == 0
	case *api.NodeServices:
		return v == nil
	}
	return true
}

func trackKey(q *endpoint.Query) string {
	return fmt.Sprintf("%s\x00%s\x00%q\x00%s\x00%s", q.Kind, q.Name, q.Tags, q.Datacenter, q.Token)
}
