// Package leader is what a server does because it leads: it keeps the catalog's nodes
// equal to the gossip members, gives servers their votes, and forgets old tombstones.
// It is level-triggered: each round compares whole sets and writes the difference, so
// it matters neither what was missed nor who led before. Before there is a leader, it
// brings a new cluster to its first election (bootstrap.go). It writes through the log
// like everyone else and reads the store in place.
package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Intervals of the duties.
const (
	reconcileEvery = 60 * time.Second // beside every change of membership
	retryAfter     = time.Second      // a round that failed
	reapEvery      = 30 * time.Second
	tombstoneAge   = 15 * time.Minute
)

// Config is what the duties need to know.
type Config struct {
	// ID and Name are this server's; it never deregisters itself.
	ID, Name   string
	Datacenter string
	// ReapAfter is how long a node may be missing from gossip before it is
	// deregistered. Default 72h.
	ReapAfter time.Duration
	Log       *slog.Logger
}

// Leader carries out the duties. Run may be called once.
type Leader struct {
	cfg   Config
	raft  *consensus.Raft
	pool  *gossip.Pool
	store *store.Store
	log   *slog.Logger

	// absent is since when a node of the catalog has been missing from gossip; marks
	// are the indexes at which the store stood, for tombstones. Used only by lead.
	absent map[string]time.Time
	marks  []mark
}

type mark struct {
	index uint64
	at    time.Time
}

// New takes what the duties are about; it starts nothing.
func New(cfg Config, raft *consensus.Raft, pool *gossip.Pool, st *store.Store) *Leader {
	if cfg.ReapAfter == 0 {
		cfg.ReapAfter = 72 * time.Hour
	}
	return &Leader{cfg: cfg, raft: raft, pool: pool, store: st, log: cfg.Log.With("room", "leader")}
}

// Run carries out the duties whenever this server leads, until ctx ends.
func (l *Leader) Run(ctx context.Context) error {
	for {
		changed := l.raft.Watch()
		if l.raft.IsLeader() {
			l.lead(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// lead works until ctx ends or leadership is lost.
func (l *Leader) lead(ctx context.Context) {
	l.absent, l.marks = map[string]time.Time{}, nil
	reap := time.NewTicker(reapEvery)
	defer reap.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		members, leading := l.pool.Watch(), l.raft.Watch()
		if !l.raft.IsLeader() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-leading:
			continue
		case <-reap.C:
			l.reap(ctx)
			continue
		case <-members:
		case <-again.C:
		}
		next := reconcileEvery
		if err := l.reconcile(ctx); err != nil {
			if errors.Is(err, consensus.ErrNotLeader) || ctx.Err() != nil {
				continue
			}
			l.log.Warn("members not fully taken into the catalog", "err", err)
			next = retryAfter
		}
		again.Reset(next)
	}
}

// reconcile makes catalog and Raft configuration equal to the membership.
func (l *Leader) reconcile(ctx context.Context) error {
	members := l.pool.Members()
	cmds := plan(l.cfg, members, l.store.State(), l.gone(members, time.Now()))
	errs := []error{l.seats(ctx, members)}
	results := make(chan error, len(cmds)) // all at once: they travel in few entries
	for _, c := range cmds {
		go func() { results <- l.apply(ctx, c) }()
	}
	for range cmds {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

func (l *Leader) apply(ctx context.Context, c command.Command) error {
	v, err := l.raft.Apply(ctx, command.Item{Command: c})
	if err != nil {
		return err
	}
	if r, ok := v.(command.Result); ok && r.Err != nil {
		return r.Err
	}
	return nil
}

// seats gives every alive server a vote and takes it from those that left.
func (l *Leader) seats(ctx context.Context, members []api.Member) error {
	rows, _, err := l.raft.Servers()
	if err != nil {
		return err
	}
	seat := make(map[string]*api.RaftServer, len(rows))
	for _, r := range rows {
		seat[r.ID] = r
	}
	var errs []error
	for _, m := range members {
		s, ok := gossip.ServerOf(m)
		if !ok || s.Datacenter != l.cfg.Datacenter || s.ID == l.cfg.ID {
			continue
		}
		_, seated := seat[s.ID]
		switch {
		case m.Status == api.StatusAlive && !seated:
			l.log.Info("server joins", "node", s.Name, "addr", s.Addr)
			errs = append(errs, l.raft.AddVoter(ctx, s.ID, s.Addr))
		case m.Status == api.StatusLeft && seated:
			l.log.Info("server left", "node", s.Name)
			errs = append(errs, l.raft.RemoveServer(ctx, s.ID))
		}
	}
	return errors.Join(errs...)
}

// gone names the nodes of the catalog that gossip once watched and has not known for
// ReapAfter. A new leader begins to count anew, so that one that has just joined
// cannot empty the catalog.
func (l *Leader) gone(members []api.Member, now time.Time) map[string]bool {
	known := make(map[string]bool, len(members))
	for _, m := range members {
		known[strings.ToLower(m.Name)] = true
	}
	out := map[string]bool{}
	checks, _ := l.store.State().ChecksInState(api.Any)
	still := map[string]time.Time{}
	for _, c := range checks {
		name := strings.ToLower(c.Node)
		if c.CheckID != api.SerfHealth || known[name] {
			continue
		}
		since, ok := l.absent[name]
		if !ok {
			since = now
		}
		still[name] = since
		out[name] = now.Sub(since) >= l.cfg.ReapAfter
	}
	l.absent = still
	return out
}

// reap forgets tombstones that are older than any blocking query.
func (l *Leader) reap(ctx context.Context) {
	now := time.Now()
	l.marks = append(l.marks, mark{l.store.State().Index(), now})
	var upTo uint64
	for len(l.marks) > 0 && now.Sub(l.marks[0].at) >= tombstoneAge {
		upTo, l.marks = l.marks[0].index, l.marks[1:]
	}
	if upTo == 0 || l.store.State().Tombstones() == 0 {
		return
	}
	if err := l.apply(ctx, &command.Reap{Index: upTo}); err != nil {
		l.log.Warn("tombstones not reaped", "err", fmt.Errorf("reap up to index %d: %w", upTo, err))
	}
}
