// Package reconcile keeps what an agent has registered of ours equal to what runs. It
// owns every write to the catalog. It is level-triggered: from the latest set of
// containers and the latest reading of the agent it computes the difference, one service
// id at a time, and writes that; so neither the order of events nor a write that failed
// can make it wrong, and when nothing differs nothing is written. Only entries that carry
// our owner's mark are ever removed, and none before the first full set has arrived.
package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// Catalog is the agent that services are registered with. All methods may be called at
// the same time. An error that IsAnswer recognises is the agent's verdict on that one
// request; any other means that the agent cannot be reached.
type Catalog interface {
	// Read gives everything the agent has, ours or not, and the address of its node.
	Read(ctx context.Context) (Reading, error)
	// Hash gives the fingerprint of one registered service, "" where there is none.
	// With id "" it only finds out whether the agent answers.
	Hash(ctx context.Context, id string) (string, error)
	Register(ctx context.Context, s *mapping.Service) error
	// Deregister succeeds where there is no such service.
	Deregister(ctx context.Context, id, token string) error
	SetCheck(ctx context.Context, id, status, output, token string) error
	DropCheck(ctx context.Context, id, token string) error
	// Maintain puts a service into maintenance for a reason, or with "" takes it out.
	Maintain(ctx context.Context, id, reason, token string) error
	IsAnswer(err error) bool
}

// Reading is what an agent has.
type Reading struct {
	NodeAddress string // "" where the agent does not tell
	Services    map[string]Registered
}

// Registered is one service as an agent has it.
type Registered struct {
	Owner, Container, Hash string // our marks, empty where they are missing
	Address                string
	Port                   int
	Checks                 map[string]Check // by id
	Maintenance            bool
	Reason                 string // of the maintenance
}

// Check is the state of a check as an agent has it.
type Check struct{ Status, Output string }

// How a service is taken out before its container stops.
const (
	DrainDeregister  = "deregister"
	DrainMaintenance = "maintenance"
	DrainOff         = "off"
)

// Whose entries are taken over when one of ours has the same id.
const (
	AdoptUnowned = "true"  // those without an owner, as gliderlabs/registrator left them
	AdoptNone    = "false" //
	AdoptAll     = "all"   // those of other owners, too
)

// What happens to the entries of a container that ended and is not removed.
const (
	ExitDeregister = "deregister"
	ExitCritical   = "critical" // in maintenance
	ExitKeep       = "keep"
)

// What happens to our entries when the registrator ends.
const (
	ShutdownKeep        = "keep"
	ShutdownMaintenance = "maintenance"
	ShutdownDeregister  = "deregister"
)

// Config is how reconciling works.
type Config struct {
	Mapping    mapping.Config
	Resync     time.Duration // the agent is read again this often; 0: only when something is amiss
	Drain      string
	Adopt      string
	OnExit     string // of containers that the set shows as Exited; ExitKeep when empty
	OnShutdown string
	Standby    string // why it begins without writing, until Stand says otherwise; empty: it writes
	Cleanup    bool   // remove what gliderlabs/registrator left behind of containers that are gone
}

// State is how reconciling gets on.
type State struct {
	Connected bool
	Settled   bool // there was a moment at which nothing differed
	Since     time.Time
	Pending   int    // services that differ at present
	Standby   string // why nothing is written; empty: it is
	Err       string
}

// Limits and times that nobody needs to set.
const (
	inFlight    = 16 // writes at once
	opTimeout   = 5 * time.Second
	probeEvery  = 2 * time.Second
	retryMin    = 100 * time.Millisecond
	retryMax    = 10 * time.Second
	readMax     = 2 * time.Second // between readings of an agent that is away
	readPause   = time.Second     // between readings for which writes gave cause
	fightWindow = 10 * time.Minute
	fightLimit  = 3
	lastWrites  = 1500 * time.Millisecond // what writes under way get at the end
)

// Reconciler keeps one agent right.
type Reconciler struct {
	cfg   Config
	cat   Catalog
	log   *slog.Logger
	m     *metrics
	state atomic.Pointer[State]
	do    chan func() // work for the owner

	// All below belongs to Run, Plan or Once.
	set       watcher.Set // nil before the first
	verdicts  map[string]*verdict
	keep      map[string]string // short ids of containers whose entries are not removed, and why
	names     map[string]bool   // of all containers, for Cleanup
	entries   map[string]*entry
	queue     []*entry
	flying    int
	connected bool
	known     bool   // the agent has been read
	standby   string // why nothing is written; empty: it is
	reading   bool
	probing   bool
	settled   bool
	seq       uint64 // counts writes and readings
	readAt    time.Time
	lastRead  time.Time
	looking   time.Time // when the look at the agent began whose differences are not written yet; zero: none
	probeAt   time.Time
	backoff   time.Duration
	since     time.Time
	err       string
	waiters   []*waiter
	decisions []Decision // the latest last
	wg        sync.WaitGroup
}

// New makes a reconciler. Its metrics go to reg.
func New(cfg Config, cat Catalog, log *slog.Logger, reg prometheus.Registerer) *Reconciler {
	r := &Reconciler{
		cfg: cfg, cat: cat, log: log.With("room", "reconcile"), do: make(chan func()),
		verdicts: map[string]*verdict{}, entries: map[string]*entry{}, since: time.Now(),
	}
	r.standby = cfg.Standby
	r.m = newMetrics(reg, r)
	r.state.Store(&State{Since: r.since, Standby: r.standby})
	return r
}

// State tells how things stand. It may be called at any time.
func (r *Reconciler) State() State { return *r.state.Load() }

// Run applies every set that arrives until ctx ends, and then what OnShutdown asks for.
// It returns nil after all its goroutines have ended. An agent that is away, or refuses,
// is tried again for ever.
func (r *Reconciler) Run(ctx context.Context, sets <-chan watcher.Set) error {
	ops, stop := context.WithCancel(context.WithoutCancel(ctx)) // writes may outlive ctx a little
	defer r.wg.Wait()
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(r.tick(ops))
		r.tell()
		select {
		case <-ctx.Done():
			r.finish(ops)
			return nil
		case set := <-sets:
			r.apply(set)
		case f := <-r.do:
			f()
		case <-timer.C:
		}
	}
}

// tick does what is due and says how long until the next thing is.
func (r *Reconciler) tick(ctx context.Context) time.Duration {
	now := time.Now()
	next := now.Add(time.Hour)
	due := func(at time.Time) bool {
		if at.IsZero() {
			return false
		}
		if !at.After(now) {
			return true
		}
		if at.Before(next) {
			next = at
		}
		return false
	}
	if r.set != nil && !r.known && !r.reading && r.readAt.IsZero() {
		r.readAt = now
	}
	if !r.reading && due(r.readAt) {
		r.read(ctx)
	}
	if r.connected && !r.reading && !r.probing && due(r.probeAt) {
		r.probe(ctx)
	}
	for _, e := range r.entries {
		if due(e.retryAt) {
			e.retryAt = time.Time{}
			r.enqueue(e)
		}
		if due(e.refreshAt) {
			r.enqueue(e)
		}
	}
	r.launch(ctx, now)
	return next.Sub(now)
}

// launch starts as many of the waiting writes as may be under way at once.
func (r *Reconciler) launch(ctx context.Context, now time.Time) {
	if !r.connected || r.set == nil || r.standby != "" {
		return
	}
	for len(r.queue) > 0 && r.flying < inFlight {
		e := r.queue[0]
		r.queue = r.queue[1:]
		e.queued = false
		if e.flying || now.Before(e.retryAt) {
			continue // looked at again when the write ends, or then
		}
		if op := r.next(e, now); op != nil {
			r.start(ctx, e, op)
			continue
		}
		if e.item != nil {
			e.seen = e.item.Event // it led to no write
		}
		if e.want == nil && e.have == nil && now.Sub(e.wroteAt) > fightWindow {
			delete(r.entries, e.id)
		}
	}
	if len(r.queue) == 0 {
		r.queue = nil
	}
	if !r.looking.IsZero() && !r.reading && r.flying == 0 && len(r.queue) == 0 {
		r.m.reconcile.Observe(now.Sub(r.looking).Seconds())
		r.looking = time.Time{}
	}
	if !r.settled && r.flying == 0 && len(r.queue) == 0 && r.known {
		r.settled = true
		for _, e := range r.entries {
			r.settled = r.settled && e.err == ""
		}
	}
	r.wake()
}

func (r *Reconciler) enqueue(e *entry) {
	if !e.queued {
		e.queued = true
		r.queue = append(r.queue, e)
	}
}

// tell renews the state that others see.
func (r *Reconciler) tell() {
	s := State{Connected: r.connected, Settled: r.settled, Since: r.since, Pending: len(r.queue) + r.flying, Err: r.err, Standby: r.standby}
	if *r.state.Load() != s {
		r.state.Store(&s)
	}
	r.m.see(r)
}

// call runs f in the owner and waits for it.
func (r *Reconciler) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case r.do <- func() { f(); close(done) }:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-done
	return nil
}

// later gives the owner something to do, unless ctx ends before.
func (r *Reconciler) later(ctx context.Context, f func()) {
	select {
	case r.do <- f:
	case <-ctx.Done():
	}
}

// Refresh reads the agent again soon.
func (r *Reconciler) Refresh(ctx context.Context) error {
	return r.call(ctx, func() { r.readAt = time.Now() })
}

// Stand makes it write, with "", or stand by for a reason: what shall be is followed, and
// nothing is written but what is under way.
func (r *Reconciler) Stand(ctx context.Context, by string) error {
	return r.call(ctx, func() {
		if by == "" && r.standby != "" {
			for _, e := range r.entries { // what changed since was written by the one that was active
				e.written, e.retryAt, e.failures = false, time.Time{}, 0
			}
			r.readAt, r.known = time.Now(), false
		}
		r.standby = by
	})
}

// finish ends reconciling: writes under way may come to their end, and what OnShutdown
// asks for is done, both within a bound.
func (r *Reconciler) finish(ctx context.Context) {
	bound := time.NewTimer(lastWrites)
	defer bound.Stop()
	r.queue = nil
	if r.standby != "" {
		r.cfg.OnShutdown = ShutdownKeep // the active one decides
	}
	if r.cfg.OnShutdown != ShutdownKeep && r.connected {
		for _, e := range r.entries {
			e.queued = false
			if e.have != nil && e.have.Owner == r.cfg.Mapping.Owner {
				e.leaving = true
				r.enqueue(e)
			}
		}
	}
	for {
		if r.cfg.OnShutdown != ShutdownKeep {
			r.launch(ctx, time.Now())
		}
		if r.flying == 0 && (r.cfg.OnShutdown == ShutdownKeep || len(r.queue) == 0) {
			return
		}
		select {
		case f := <-r.do:
			f()
		case <-bound.C:
			r.log.Warn("ended before everything was written", "pending", len(r.queue)+r.flying)
			return
		}
	}
}
