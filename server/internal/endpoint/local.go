package endpoint

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Consensus is what Local asks of the log.
type Consensus interface {
	// Apply commits an item. With consensus.ErrNotLeader or ErrClosed it is certainly
	// not in the log; with ErrUnknown its fate is open.
	Apply(ctx context.Context, item consensus.Item) (any, error)
	IsLeader() bool
	// Leader gives the leader's id and address, "" without one.
	Leader() (id, addr string)
	// Watch gives a channel that closes when IsLeader or Leader may answer otherwise.
	Watch() <-chan struct{}
	// VerifyLeader proves leadership to a quorum, or errs.
	VerifyLeader(ctx context.Context) error
	LastContact() time.Duration
	Servers() ([]*api.RaftServer, uint64, error)
}

// Config is what Local needs.
type Config struct {
	Datacenter string
	Store      *store.Store
	Raft       Consensus
	// At gives the endpoint of the server at an RPC address.
	At func(addr string) Endpoint
	// HoldTimeout is how long a request waits for a leader. Default 7s.
	HoldTimeout time.Duration
	// DefaultQueryTime and MaxQueryTime bound a blocking read. Defaults 300s and 600s.
	DefaultQueryTime, MaxQueryTime time.Duration
	Log                            *slog.Logger
}

// Local is a server's endpoint: it answers from its own store what it may, and sends
// the rest to the leader.
type Local struct {
	cfg   Config
	cache *cache
}

// NewLocal makes the endpoint of a server.
func NewLocal(cfg Config) *Local {
	if cfg.HoldTimeout == 0 {
		cfg.HoldTimeout = 7 * time.Second
	}
	if cfg.DefaultQueryTime == 0 {
		cfg.DefaultQueryTime = 300 * time.Second
	}
	if cfg.MaxQueryTime == 0 {
		cfg.MaxQueryTime = 600 * time.Second
	}
	return &Local{cfg: cfg, cache: newCache()}
}

var _ Endpoint = (*Local)(nil)

// Read answers q from this server's state, or from the leader's where q wants that.
func (l *Local) Read(ctx context.Context, q *Query) (*Answer, error) {
	if q.Datacenter != "" && q.Datacenter != l.cfg.Datacenter {
		return nil, api.ErrNoPath
	}
	if a, ok, err := l.status(q); ok || err != nil {
		return a, err
	}
	if q.Consistency == api.Stale {
		a, err := l.block(ctx, q, nil)
		if err != nil || q.MaxStale == 0 || a.Meta.LastContact <= q.MaxStale {
			return a, err
		}
	}
	return atLeader(ctx, l, true, func(ctx context.Context, lost <-chan struct{}) (*Answer, error) {
		if q.Consistency == api.Consistent {
			if err := l.cfg.Raft.VerifyLeader(ctx); err != nil {
				return nil, notLeader(ctx, err)
			}
		}
		return l.block(ctx, q, lost)
	}, func(ctx context.Context, leader Endpoint) (*Answer, error) {
		fresh := *q
		fresh.MaxStale = 0
		if fresh.Consistency == api.Stale {
			fresh.Consistency = api.Default
		}
		return leader.Read(ctx, &fresh)
	})
}

// Write commits w here or at the leader.
func (l *Local) Write(ctx context.Context, w *Write) (*command.Result, error) {
	if w.Datacenter != "" && w.Datacenter != l.cfg.Datacenter {
		return nil, api.ErrNoPath
	}
	if err := normalise(w.Command, l.cfg.Datacenter); err != nil {
		return nil, err
	}
	if kv, ok := w.Command.(*command.KV); ok && kv.Verb == command.Unlock {
		return &command.Result{}, nil // nobody holds a lock: there are no sessions yet
	}
	return atLeader(ctx, l, false, func(ctx context.Context, _ <-chan struct{}) (*command.Result, error) {
		v, err := l.cfg.Raft.Apply(ctx, command.Item{Command: w.Command})
		if err != nil {
			return nil, notLeader(ctx, err)
		}
		r, ok := v.(command.Result)
		if !ok {
			return nil, api.Errorf(api.Internal, "state machine answered with a %T", v)
		}
		if r.Err != nil {
			return nil, r.Err
		}
		return &r, nil
	}, func(ctx context.Context, leader Endpoint) (*command.Result, error) {
		return leader.Write(ctx, w)
	})
}

// notLeader turns the consensus's way of saying so into the one that atLeader and the
// wire know.
func notLeader(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, consensus.ErrNotLeader), errors.Is(err, consensus.ErrClosed):
		return api.ErrNotLeader
	case errors.Is(err, consensus.ErrUnknown) && ctx.Err() == nil:
		return api.Errorf(api.Unavailable, "leadership lost while committing log: the write may or may not have happened")
	}
	return err
}

// atLeader runs here on the leader, and there with the leader's endpoint elsewhere. While
// there is no leader, or it turns out not to be one, it waits and tries again, for
// HoldTimeout at most. A read that broke off is tried again too; a write never is
// unless it certainly did not happen. lost, handed to here, closes when leadership may
// have changed.
func atLeader[T any](ctx context.Context, l *Local, read bool,
	here func(context.Context, <-chan struct{}) (T, error), there func(context.Context, Endpoint) (T, error),
) (T, error) {
	var none T
	hold := time.NewTimer(l.cfg.HoldTimeout)
	defer hold.Stop()
	var last error = api.ErrNoLeader
	for {
		changed := l.cfg.Raft.Watch()
		_, addr := l.cfg.Raft.Leader()
		leading := l.cfg.Raft.IsLeader()
		tried := time.Now()
		var v T
		err := error(api.ErrNoLeader)
		switch {
		case leading:
			v, err = here(ctx, changed)
		case addr != "" && l.cfg.At != nil:
			v, err = there(ctx, l.cfg.At(addr))
		}
		again := errors.Is(err, api.ErrNotLeader) || errors.Is(err, api.ErrNoLeader) || read && api.KindOf(err) == api.Unavailable
		if err == nil || !again || ctx.Err() != nil {
			return v, err
		}
		if time.Since(tried) > l.cfg.HoldTimeout { // it waited for long: the patience begins anew
			hold.Reset(l.cfg.HoldTimeout)
		}
		if !errors.Is(err, api.ErrNotLeader) {
			last = err
		}
		pause := time.NewTimer(retryPause)
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-hold.C:
			err = last
		case <-changed:
			err = nil
		case <-pause.C:
			err = nil
		}
		pause.Stop()
		if err != nil {
			return none, err
		}
	}
}

// retryPause is how long to wait for news of a leader before looking again.
const retryPause = 100 * time.Millisecond
