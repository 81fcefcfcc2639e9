package rpc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// patience is how long a client's request looks for a server that answers.
const patience = 7 * time.Second

// Remote is the endpoint of a client agent: some server's. It stays with one server
// while that answers, and moves on at once when it does not.
type Remote struct {
	pool    *Pool
	servers func() []string
	log     *slog.Logger

	mu      sync.Mutex
	current string // guarded by mu
}

var _ endpoint.Endpoint = (*Remote)(nil)

// NewRemote makes an endpoint on the servers whose addresses servers gives, the healthy
// ones first.
func NewRemote(pool *Pool, servers func() []string, log *slog.Logger) *Remote {
	return &Remote{pool: pool, servers: servers, log: log.With("room", "rpc")}
}

// Read asks a server, and another where that one does not answer.
func (r *Remote) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	return try(ctx, r, func(ep endpoint.Endpoint) (*endpoint.Answer, error) { return ep.Read(ctx, q) },
		func(err error) bool {
			return api.KindOf(err) == api.Unavailable && !errors.Is(err, api.ErrNoLeader) && !errors.Is(err, api.ErrNoPath)
		})
}

// Write has a server carry out w. Another one is tried only where the first certainly
// did not.
func (r *Remote) Write(ctx context.Context, w *endpoint.Write) (*command.Result, error) {
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
		for _, addr := range r.order() {
			began := time.Now()
			v, err := call(r.pool.At(addr))
			if err == nil || !elsewhere(err) {
				if ctx.Err() == nil { // else this one may have said nothing at all
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

// order gives the servers to try, the present one first if it is still one of them.
func (r *Remote) order() []string {
	servers := r.servers()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]string, 0, len(servers))
	for _, s := range servers {
		if s == r.current {
			out = append([]string{s}, out...)
		} else {
			out = append(out, s)
		}
	}
	return out
}

func (r *Remote) keep(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == "" {
		r.log.Debug("using server", "addr", addr)
	}
	r.current = addr
}

func (r *Remote) leave(addr string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == addr {
		r.log.Warn("server does not answer; moving on", "addr", addr, "err", err)
		r.current = ""
	}
}
