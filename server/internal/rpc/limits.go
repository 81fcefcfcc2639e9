package rpc

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// Limits bound what a client agent asks of servers.
type Limits struct {
	// Rate is how many requests a second go to servers, Burst how many at once; a Rate
	// below 0 bounds nothing. What is above is refused.
	Rate  float64
	Burst int
	// Answer is how long a request waits for its answer, beside the time that a blocking
	// read may wait for a change; 0 is without end.
	Answer time.Duration
}

// defaultWait is how long a blocking read waits for a change that does not say.
const defaultWait = 5 * time.Minute

// Limit sets the limits, also of a Remote in use.
func (r *Remote) Limit(l Limits) {
	bounds := &bounds{answer: l.Answer}
	if l.Rate >= 0 {
		bounds.requests = rate.NewLimiter(rate.Limit(l.Rate), l.Burst)
	}
	r.bounds.Store(bounds)
}

type bounds struct {
	requests *rate.Limiter // nil if unlimited
	answer   time.Duration
}

// errRate is Consul's words, which HTTP answers with 429.
var errRate = api.Errorf(api.Busy, "RPC rate limit exceeded")

// admit takes a request to a server, or refuses it, and bounds the wait for its answer; q
// is nil for a write.
func (r *Remote) admit(ctx context.Context, q *endpoint.Query) (context.Context, context.CancelFunc, error) {
	b := r.bounds.Load()
	if b == nil {
		return ctx, func() {}, nil
	}
	if b.requests != nil && !b.requests.Allow() {
		return nil, nil, errRate
	}
	if b.answer <= 0 {
		return ctx, func() {}, nil
	}
	wait := b.answer
	if q != nil && q.MinIndex > 0 {
		change := q.MaxWait
		if change <= 0 {
			change = defaultWait
		}
		wait += change + change/16 // a server spreads the ends of what waits
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, api.Errorf(api.Unavailable, "rpc error: no answer within %s (limits.rpc_client_timeout)", wait))
	return ctx, cancel, nil
}

// tally counts open connections by the host that made them.
type tally struct {
	mu   sync.Mutex
	open map[string]int // guarded by mu
}

// take counts one more of a host's connections, unless it has as many as it may; most 0
// bounds nothing. done gives it back.
func (t *tally) take(c net.Conn, most int) (done func(), ok bool) {
	host := hostOf(c)
	t.mu.Lock()
	defer t.mu.Unlock()
	if most > 0 && t.open[host] >= most {
		return nil, false
	}
	if t.open == nil {
		t.open = map[string]int{}
	}
	t.open[host]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.open[host]--; t.open[host] == 0 {
			delete(t.open, host)
		}
	}, true
}
