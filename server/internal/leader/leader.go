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
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

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
	recallEvery    = 2 * time.Second
	reapEvery      = 30 * time.Second
	tombstoneAge   = 15 * time.Minute
	witnessed      = 10 * time.Minute // how long a parting is remembered by who does not lead
	// how long a leader may not have heard of a node before that counts as failed: to a server
	// that has just started, the others do not tell whom they suspect
	unheardOf = 10 * time.Second
)

// Config is what the duties need to know.
type Config struct {
	// ID and Name are this server's; it never deregisters itself.
	ID, Name   string
	Datacenter string
	// ReapAfter is how long a node may be missing from gossip before it is
	// deregistered. Default 72h.
	ReapAfter time.Duration
	// Sessions counts the TTLs of sessions while this server leads. Nil: none are.
	Sessions *Sessions
	// Pilot looks after the servers while this one leads. Nil: joining servers get a vote at
	// once, and dead ones stay.
	Pilot *Pilot
	ACLs  ACLs
	Log   *slog.Logger
}

// Leader carries out the duties. Run may be called once.
type Leader struct {
	cfg   Config
	raft  *consensus.Raft
	pool  *gossip.Pool
	store *store.Store
	log   *slog.Logger

	// present are the members when last looked at; parted is when gossip let go of a node that
	// the catalog has. Used only by Run.
	present map[string]bool
	parted  map[string]time.Time

	// absent is since when a node of the catalog has been missing from gossip, and unmet says
	// that for some this is not long; doubted are members that are said to have failed and
	// answer; servers are the members' ids when last looked at; marks are the indexes at which
	// the store stood, for tombstones. Used only by lead.
	absent  map[string]time.Time
	unmet   bool
	doubted map[string]bool
	servers map[string]bool
	marks   []mark
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
	return &Leader{cfg: cfg, parted: map[string]time.Time{}, raft: raft, pool: pool, store: st, log: cfg.Log.With("room", "leader")}
}

// Run carries out the duties whenever this server leads, until ctx ends.
func (l *Leader) Run(ctx context.Context) error {
	for {
		changed, members := l.raft.Watch(), l.pool.Watch()
		if l.raft.IsLeader() {
			l.lead(ctx)
		}
		l.notice(l.pool.Members(), time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-members:
		}
	}
}

// notice remembers whom gossip lets go of, having reaped or pruned them, whether this server
// leads or not: a leader may fall at that very moment. What is long ago counts no more, for a
// server may have been cut off since.
func (l *Leader) notice(members []api.Member, now time.Time) {
	known := make(map[string]bool, len(members))
	for _, m := range members {
		known[strings.ToLower(m.Name)] = true
	}
	st := l.store.State()
	maps.DeleteFunc(l.parted, func(name string, at time.Time) bool {
		n, _ := st.Node(name)
		return n == nil || known[name] || now.Sub(at) > witnessed
	})
	for name := range l.present {
		if !known[name] {
			l.parted[name] = now
		}
	}
	l.present = known
}

// lead works until ctx ends or leadership is lost.
func (l *Leader) lead(ctx context.Context) {
	l.absent, l.doubted, l.servers, l.marks = map[string]time.Time{}, nil, nil, nil
	ctx, stop := context.WithCancel(ctx)
	var side sync.WaitGroup
	defer side.Wait()
	defer stop()
	if l.cfg.Sessions != nil {
		defer l.cfg.Sessions.count(&term{ctx, l.store, l.apply, l.log.Warn})()
	}
	restored := make(chan struct{}, 1)
	side.Go(func() { l.tellEnds(ctx, restored) })
	side.Go(func() { l.recall(ctx) })
	if l.cfg.Pilot != nil {
		side.Go(func() { l.cfg.Pilot.run(ctx, l.apply) })
	}
	reap := time.NewTicker(reapEvery)
	defer reap.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	members := l.pool.Watch()
	pause, failed := backoff.NewExponentialBackOff(), ""
	pause.InitialInterval, pause.MaxInterval = retryAfter, reconcileEvery
	for {
		leading := l.raft.Watch()
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
			l.expireTokens(ctx)
			continue
		case <-members:
		case <-restored:
		case <-again.C:
		}
		members = l.pool.Watch() // before they are read: who comes while they are taken in is seen next
		err := l.reconcile(ctx)
		switch {
		case err == nil:
			pause.Reset()
			failed = ""
			again.Reset(nextLook(l.pool.Servers(), l.unmet || len(l.doubted) > 0))
			continue
		case errors.Is(err, consensus.ErrNotLeader) || ctx.Err() != nil:
			continue
		case err.Error() != failed: // what stays as it is, as two nodes of one id, is said once
			failed = err.Error()
			pause.Reset()
			l.log.Warn("members not fully taken into the catalog", "err", err)
		}
		again.Reset(pause.NextBackOff())
	}
}

// nextLook is when to look again though nothing is heard: soon while it is open who lives,
// and while a server is leaving, for gossip does not say that one came back that it was told
// is leaving.
func nextLook(servers []gossip.Server, open bool) time.Duration {
	if open {
		return retryAfter
	}
	for _, s := range servers {
		if s.Status == api.StatusLeaving {
			return retryAfter
		}
	}
	return reconcileEvery
}

// reconcile makes catalog and Raft configuration equal to the membership.
func (l *Leader) reconcile(ctx context.Context) error {
	members, st := l.pool.Members(), l.store.State()
	var dying []api.Member
	members = slices.DeleteFunc(members, func(m api.Member) bool {
		news := m.Status == api.StatusFailed && failed(l.cfg, m.Name, st) != nil
		if news {
			dying = append(dying, m)
		}
		return news
	})
	silent := l.silent(dying)
	missing := l.gone(append(members, dying...), time.Now())
	err := l.write(ctx, plan(l.cfg, members, st, missing))
	errs := []error{err, l.setUpACLs(ctx), l.seats(ctx)}
	again := silent()
	if err == nil { // else it is too early for a second look
		again = append(again, members...)
	}
	return errors.Join(append(errs, l.write(ctx, plan(l.cfg, again, l.store.State(), nil)))...)
}

// silent asks members that are said to have failed, and gives who does not answer once all
// have had their time. A host that was cut off held all others to be dead and says so when
// it is back: each refutes it within a moment, in which nobody would be left to serve.
func (l *Leader) silent(dying []api.Member) func() []api.Member {
	answers := make([]bool, len(dying))
	var asking sync.WaitGroup
	for i, m := range dying {
		asking.Go(func() { answers[i] = l.pool.Answers(m) })
	}
	return func() []api.Member {
		asking.Wait()
		still := map[string]bool{} // some may have objected meanwhile
		for _, m := range l.pool.Members() {
			still[m.Name] = m.Status == api.StatusFailed
		}
		var out []api.Member
		doubted := map[string]bool{}
		for i, m := range dying {
			switch {
			case !still[m.Name]:
			case !answers[i]:
				out = append(out, m)
			default:
				if doubted[m.Name] = true; !l.doubted[m.Name] {
					l.log.Info("said to have failed, but answers: not believed", "node", m.Name, "addr", m.Addr)
				}
			}
		}
		l.doubted = doubted
		return out
	}
}

// recallAtOnce is how many failed members are asked at most in a round.
const recallAtOnce = 64

// recall looks whether members that have failed answer again, and tells those that they count
// as failed. A host that was cut off does not hear of it otherwise until the next full
// exchange or Serf's attempt to reconnect, half a minute later.
func (l *Leader) recall(ctx context.Context) {
	tick := time.NewTicker(recallEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		members := slices.DeleteFunc(l.pool.Members(), func(m api.Member) bool { return m.Status != api.StatusFailed })
		rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		var asking sync.WaitGroup
		for _, m := range members[:min(len(members), recallAtOnce)] {
			asking.Go(func() {
				if !l.pool.Answers(m) {
					return
				}
				if err := l.pool.Recall(ctx, m); err != nil && ctx.Err() == nil {
					l.log.Debug("a failed member answers, but is not told so", "node", m.Name, "err", err)
				}
			})
		}
		asking.Wait()
	}
}

// write applies commands all at once, so that they travel in few entries; a reason that
// several were refused for is given once.
func (l *Leader) write(ctx context.Context, cmds []command.Command) error {
	results := make(chan error, len(cmds))
	for _, c := range cmds {
		go func() { results <- l.apply(ctx, c) }()
	}
	refused := map[string]error{}
	for range cmds {
		if err := <-results; err != nil {
			refused[err.Error()] = err
		}
	}
	var errs []error
	for _, text := range slices.Sorted(maps.Keys(refused)) { // in one order, so that the same is known as such
		errs = append(errs, refused[text])
	}
	return errors.Join(errs...)
}

func (l *Leader) apply(ctx context.Context, c command.Command) error {
	v, err := l.raft.Apply(ctx, command.Item{Command: c})
	if err != nil {
		return err
	}
	if r, ok := v.(*command.Result); ok && r.Err != nil {
		return r.Err
	}
	return nil
}

// seats gives every alive server a seat and takes it from those that left, or that gossip
// has let go of under this leader's eyes. A new one follows without a vote until the pilot
// gives it one.
func (l *Leader) seats(ctx context.Context) error {
	rows, _, err := l.raft.Servers()
	if err != nil {
		return err
	}
	seat := make(map[string]*api.RaftServer, len(rows))
	for _, r := range rows {
		seat[r.ID] = r
	}
	var errs []error
	known := map[string]bool{}
	for _, s := range l.pool.Servers() {
		if s.Datacenter != l.cfg.Datacenter {
			continue
		}
		known[s.ID] = true
		if s.ID == l.cfg.ID && s.Status == api.StatusLeft {
			continue // it hands leadership on first
		}
		_, seated := seat[s.ID]
		switch {
		case s.Status == api.StatusAlive && !seated:
			l.log.Info("server joins", "node", s.Name, "addr", s.Addr)
			if l.cfg.Pilot == nil {
				errs = append(errs, l.raft.AddVoter(ctx, s.ID, s.Addr))
				continue
			}
			errs = append(errs, l.raft.AddNonvoter(ctx, s.ID, s.Addr))
		case s.Status == api.StatusLeft && seated:
			l.log.Info("server left", "node", s.Name)
			errs = append(errs, l.raft.RemoveServer(ctx, s.ID))
		}
	}
	for id := range l.servers {
		if known[id] || seat[id] == nil {
			continue
		}
		l.log.Info("server forgotten", "id", id, "addr", seat[id].Address)
		if err := l.raft.RemoveServer(ctx, id); err != nil {
			errs, known[id] = append(errs, err), true // it is tried again
		}
	}
	l.servers = known
	return errors.Join(errs...)
}

// gone names the nodes of the catalog that gossip once watched and has not known for a while:
// true where it has let go of them under this server's eyes, or has not known them for
// ReapAfter. A new leader begins to count anew, so that one that has just joined can neither
// turn all critical nor empty the catalog.
func (l *Leader) gone(members []api.Member, now time.Time) map[string]bool {
	l.notice(members, now)
	out := map[string]bool{}
	checks, _ := l.store.State().ChecksInState(api.Any)
	still := map[string]time.Time{}
	l.unmet = false
	for _, c := range checks {
		name := strings.ToLower(c.Node)
		if c.CheckID != api.SerfHealth || l.present[name] {
			continue
		}
		since, ok := l.absent[name]
		switch {
		case !l.parted[name].IsZero():
			since = time.Time{} // for ever
		case !ok:
			since = now
		}
		still[name] = since
		if now.Sub(since) < unheardOf {
			l.unmet = true
			continue
		}
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
