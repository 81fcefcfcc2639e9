package endpoint

import (
	"context"
	"errors"
	"io"
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
	// Others gives the addresses of the other servers while this one cannot know who leads,
	// since its disk hangs; else nil.
	Others() []string
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
	// Others names the other datacenters, the nearest first, and Elsewhere gives the endpoint
	// of one, nil for one that is not known. May be nil: there are none.
	Others    func() []string
	Elsewhere func(dc string) Everything
	// Servers gives the coordinates of each datacenter's servers. May be nil.
	Servers func() []*api.DatacenterCoordinates
	// Gossip is what this server may have gossip pools do. May be nil, in tests.
	Gossip Gossip
	// Seats changes who takes part in the log, Pilot says how the servers are. May be nil, in tests.
	Seats Seats
	Pilot Pilot
	// ACLs is how they are enforced.
	ACLs ACLs
	// Snapshots takes and restores snapshots, Verify reads one for nothing but to know
	// that it can be, and Dir is where archives are unpacked; the system's place for
	// such files if empty.
	Snapshots Snapshotter
	Verify    func(io.Reader) error
	Dir       string
	// HoldTimeout is how long a request waits for a leader. Default 7s.
	HoldTimeout time.Duration
	// DefaultQueryTime and MaxQueryTime bound a blocking read. Defaults 300s and 600s.
	DefaultQueryTime, MaxQueryTime time.Duration
	// SessionTTLMin is the least TTL a session may have. Default 10s.
	SessionTTLMin time.Duration
	// Renew restarts the TTL of a session, if it has one. Called on the leader.
	Renew func(session string)
	Log   *slog.Logger
}

// Local is a server's endpoint: it answers from its own store what it may, and sends
// the rest to the leader.
type Local struct {
	forwards    forwards
	cfg         Config
	cache       *cache
	places      gathered
	authorizers *authorizers
	atPrimary   *Resolver // finds out what tokens may; nil where their state is here
	replication replication
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
	if cfg.Others == nil {
		cfg.Others = func() []string { return nil }
	}
	if cfg.Elsewhere == nil {
		cfg.Elsewhere = func(string) Everything { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SessionTTLMin == 0 {
		cfg.SessionTTLMin = 10 * time.Second
	}
	l := &Local{cfg: cfg, cache: newCache(), authorizers: newAuthorizers()}
	l.atPrimary = l.newPrimaryResolver()
	return l
}

var _ Endpoint = (*Local)(nil)

// Read answers q from this server's state, or from the leader's where q wants that.
func (l *Local) Read(ctx context.Context, q *Query) (*Answer, error) {
	if there, err := l.elsewhere(q.Datacenter); err != nil {
		return nil, err
	} else if there != nil {
		return there.Read(ctx, q)
	}
	if q.Kind == ACLResolve && l.atPrimary != nil {
		return l.resolveAtPrimary(ctx, q)
	}
	if dc, err := l.readPlace(q); err != nil {
		return nil, err
	} else if dc != "" {
		return primary{l}.Read(ctx, q)
	}
	if q.Kind == Raft && q.Consistency != api.Stale { // the leader knows who leads
		return atLeader(ctx, l, true, func(context.Context, <-chan struct{}) (*Answer, error) {
			if _, err := l.mayRead(q); err != nil {
				return nil, err
			}
			a, _, err := l.status(q)
			return a, err
		}, func(ctx context.Context, leader Endpoint) (*Answer, error) { return leader.Read(ctx, q) })
	}
	if err := l.otherLeader(ctx, q); err != nil {
		return nil, err
	}
	if a, ok, err := l.status(q); ok || err != nil {
		if err == nil {
			_, err = l.mayRead(q)
		}
		if err != nil {
			return nil, err
		}
		return a, nil
	}
	switch q.Kind {
	case SessionRenew:
		return l.renew(ctx, q)
	case AutopilotHealth, AutopilotState:
		return l.piloted(ctx, q)
	case SessionInfo:
		if err := validUUID("session", q.Name); err != nil {
			return nil, err
		}
	}
	if q.Consistency == api.Stale {
		a, err := l.block(ctx, q, nil)
		if err != nil || q.MaxStale == 0 || a.Meta.LastContact <= q.MaxStale {
			return a, err
		}
	}
	if q.MinIndex == 0 && q.Consistency != api.Consistent && !q.executes() && l.cfg.Raft.IsLeader() {
		if a, err := l.look(q); err == nil || !passes(err, true) { // as below, where nothing waits
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
	if there, err := l.elsewhere(w.Datacenter); err != nil {
		return nil, err
	} else if there != nil {
		return there.Write(ctx, w)
	}
	if err := l.normalise(w.Command); err != nil {
		return nil, err
	}
	switch w.Command.(type) {
	case *command.Fire, *command.Keyring:
		return l.gossiped(ctx, w)
	}
	if dc, err := l.writePlace(w.Command); err != nil {
		return nil, err
	} else if dc != "" {
		return primary{l}.Write(ctx, w)
	}
	if r := transact(w.Command, l.cfg.Datacenter); r != nil {
		return r, nil
	}
	if p, ok := w.Command.(*command.Places); ok {
		return l.gather(ctx, w, p)
	}
	return l.commit(ctx, w)
}

// commit has w go through the log.
func (l *Local) commit(ctx context.Context, w *Write) (*command.Result, error) {
	return atLeader(ctx, l, false, func(ctx context.Context, _ <-chan struct{}) (*command.Result, error) {
		if t, ok := w.Command.(*command.Txn); ok && l.cfg.ACLs.Enabled {
			return l.transactAs(ctx, w.Token, t)
		}
		cmd, err := l.permit(ctx, w)
		if err != nil {
			return nil, err
		}
		if o, ok := cmd.(*command.Operate); ok {
			return l.operate(ctx, o)
		}
		res, err := l.apply(ctx, cmd)
		if err == nil {
			l.began(cmd)
		}
		return res, err
	}, func(ctx context.Context, leader Endpoint) (*command.Result, error) {
		return leader.Write(ctx, w)
	})
}

// apply commits a command that is permitted; only the leader can.
func (l *Local) apply(ctx context.Context, c command.Command) (*command.Result, error) {
	v, err := l.cfg.Raft.Apply(ctx, command.Item{Command: c})
	if err != nil {
		return nil, notLeader(ctx, err)
	}
	r, ok := v.(*command.Result)
	if !ok {
		return nil, api.Errorf(api.Internal, "state machine answered with a %T", v)
	}
	if r.Err != nil {
		return nil, r.Err
	}
	return r, nil
}

// notLeader turns the consensus's way of saying so into the one that atLeader and the
// wire know.
func notLeader(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, consensus.ErrNotLeader), errors.Is(err, consensus.ErrClosed):
		return api.ErrNotLeader
	case errors.Is(err, consensus.ErrFull) && errors.Is(err, consensus.ErrUnknown):
		return api.Errorf(api.Unavailable, "%v: this write may be made then", consensus.ErrFull)
	case errors.Is(err, consensus.ErrFull):
		return api.Errorf(api.Unavailable, "%v: nothing was written", consensus.ErrFull)
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
	var until time.Time // when patience ends
	var last error = api.ErrNoLeader
	for {
		changed := l.cfg.Raft.Watch()
		_, addr := l.cfg.Raft.Leader()
		leading := l.cfg.Raft.IsLeader()
		if others := l.cfg.Raft.Others(); others != nil {
			addr = l.leaderOf(ctx, others)
		}
		tried := time.Now()
		var v T
		err := error(api.ErrNoLeader)
		switch {
		case leading:
			v, err = here(ctx, changed)
		case addr != "" && l.cfg.At != nil:
			v, err = forwarded(ctx, l, addr, read, there)
		}
		if err == nil || !passes(err, read) || ctx.Err() != nil {
			return v, err
		}
		if until.IsZero() {
			until = tried.Add(l.cfg.HoldTimeout)
		}
		if time.Since(tried) > l.cfg.HoldTimeout { // it waited for long: the patience begins anew
			until = time.Now().Add(l.cfg.HoldTimeout)
		}
		if !errors.Is(err, api.ErrNotLeader) {
			last = err
		}
		left := time.Until(until)
		if left <= 0 {
			return none, last
		}
		pause := time.NewTimer(min(retryPause, left))
		select {
		case <-ctx.Done():
			pause.Stop()
			return none, context.Cause(ctx)
		case <-changed:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// passes tells whether an error may be gone in a moment, so that one tries again.
func passes(err error, read bool) bool {
	return errors.Is(err, api.ErrNotLeader) || errors.Is(err, api.ErrNoLeader) || read && api.KindOf(err) == api.Unavailable
}

// retryPause is how long to wait for news of a leader before looking again.
const retryPause = 100 * time.Millisecond
