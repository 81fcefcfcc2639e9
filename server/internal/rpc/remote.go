package rpc

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// settled is how long, and up to twice as long, a client stays with a server whatever the
// servers' order: when one came back, its share of the clients finds its way back too.
const settled = 2 * time.Minute

// shun is for how long a server that went away is only tried where no other answers.
const shun = 30 * time.Second

// patience is how long a client's request looks for a server that answers.
const patience = 7 * time.Second

// Remote is the endpoint of a client agent: some server's. It stays with one server
// while that answers, and moves on at once when it does not.
type Remote struct {
	pool    *Pool
	servers func() []string
	far     string // the other datacenter whose servers these are, "" for this one's
	log     *slog.Logger
	bounds  atomic.Pointer[bounds] // nil: none

	mu      sync.Mutex
	current string    // guarded by mu
	until   time.Time // guarded by mu; then the servers' order decides anew
	last    string    // guarded by mu; the server that was left last
	since   time.Time // guarded by mu; when that was
}

var _ endpoint.Endpoint = (*Remote)(nil)

// NewRemote makes an endpoint on the servers whose addresses servers gives, the healthy
// ones first.
func NewRemote(pool *Pool, servers func() []string, log *slog.Logger) *Remote {
	return &Remote{pool: pool, servers: servers, log: log.With("room", "rpc")}
}

// NewFar makes an endpoint on the servers of another datacenter: each is tried once, and
// if none answers that is the answer, for there is no leader to wait for.
func NewFar(pool *Pool, dc string, servers func() []string, log *slog.Logger) *Remote {
	r := NewRemote(pool, servers, log)
	r.far, r.log = dc, r.log.With("datacenter", dc)
	return r
}

// Read asks a server, and another where that one does not answer.
func (r *Remote) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	ctx, done, err := r.admit(ctx, q)
	if err != nil {
		return nil, err
	}
	defer done()
	return try(ctx, r, func(ep endpoint.Endpoint) (*endpoint.Answer, error) { return ep.Read(ctx, q) },
		func(err error) bool {
			return api.KindOf(err) == api.Unavailable && !errors.Is(err, api.ErrNoLeader) && !errors.Is(err, api.ErrNoPath)
		})
}

// Write has a server carry out w. Another one is tried only where the first certainly
// did not.
func (r *Remote) Write(ctx context.Context, w *endpoint.Write) (*command.Result, error) {
	ctx, done, err := r.admit(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer done()
	return try(ctx, r, func(ep endpoint.Endpoint) (*command.Result, error) { return ep.Write(ctx, w) },
		func(err error) bool { return errors.Is(err, api.ErrNotLeader) })
}

// try calls servers, the one that answered last first, until one answers or patience is
// over. A call that lasted long begins it anew: it was a blocking read that broke off.
func try[T any](ctx context.Context, r *Remote, call func(endpoint.Endpoint) (T, error), elsewhere func(error) bool) (T, error) {
	var none T
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, time.Second
	deadline := time.Now().Add(patience)
	var last error = api.ErrNoServers
	for {
		order := r.order()
		dials := make([]*attempt, len(order))
		if r.far != "" {
			dials = r.pool.ahead(order)
		}
		for i, addr := range order {
			began := time.Now()
			if i > 0 && began.After(deadline) {
				break
			}
			at := r.pool.at(addr)
			if dials[i] != nil {
				if _, err := dials[i].wait(ctx); err != nil && ctx.Err() == nil {
					last = at.unavailable(at.unsent(err))
					continue
				}
			}
			v, err := call(at)
			if err == nil || !elsewhere(err) {
				switch {
				case errors.Is(err, errBroken):
					r.leave(addr, err)
				case ctx.Err() == nil: // else this one may have said nothing at all
					r.keep(addr)
				}
				return v, err
			}
			if ctx.Err() != nil {
				return none, context.Cause(ctx)
			}
			r.leave(addr, err)
			last = err
			if time.Since(began) > patience {
				deadline = time.Now().Add(patience)
			}
		}
		wait := pause.NextBackOff()
		if r.far != "" {
			return none, api.Errorf(api.OutOfReach, "No path to datacenter: no server of %q answers: %v", r.far, last)
		}
		if time.Now().Add(wait).After(deadline) {
			return none, last
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return none, context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// order gives the servers to try, the present one first if it is still one of them, and last
// the one that went away a moment ago.
func (r *Remote) order() []string {
	servers := r.servers()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != "" && time.Now().After(r.until) {
		r.current = ""
	}
	shunned := ""
	if time.Since(r.since) < shun {
		shunned = r.last
	}
	out := slices.Clone(servers)
	slices.SortStableFunc(out, func(a, b string) int {
		return cmp.Compare(place(a, r.current, shunned), place(b, r.current, shunned))
	})
	return out
}

// place is where a server stands among the others.
func place(addr, first, last string) int {
	switch addr {
	case first:
		return 0
	case last:
		return 2
	}
	return 1
}

func (r *Remote) keep(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == addr {
		r.last = ""
	}
	if r.current != addr {
		r.log.Debug("using server", "addr", addr)
		r.current, r.until = addr, time.Now().Add(settled+rand.N(settled))
	}
}

func (r *Remote) leave(addr string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last, r.since = addr, time.Now()
	if r.current == addr {
		r.log.Warn("server does not answer; moving on", "addr", addr, "err", err)
		r.current = ""
	}
}
