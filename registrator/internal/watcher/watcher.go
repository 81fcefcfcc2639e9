// Package watcher knows what runs on a Docker engine, now. It subscribes to the engine's
// events before it lists, and takes an event as no more than a hint to inspect that
// container again; so neither a lost event nor their order can make it wrong. Two hints
// act at once: the stop signal (the container is draining) and the death. It hands on
// full sets, never before the first one is complete, and concludes nothing while the
// engine is away: the last good set stays. It decides nothing about the catalog; the
// reconcile room does.
package watcher

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/internal/docker"
)

// Config is how an engine is watched.
type Config struct {
	Resync    time.Duration // everything is listed and inspected again this often; 0: only on reconnect
	DrainMax  time.Duration // a container that lives this long after its stop signal is running again
	Exits     Exits         // which containers stay in the set when they end, as Exited
	LostAfter time.Duration // the engine away for so long: what runs is Lost; 0: never
}

// Exits says which containers stay in the set after they ended, until they are removed.
type Exits int

// None does, those that ended with a failure do, all do.
const (
	ExitsNone Exits = iota
	ExitsFailed
	ExitsAll
)

// Phase is where a container stands.
type Phase string

// The phases. A container that has ended, or is gone, is in no set.
const (
	Running  Phase = "running"  // its process is there, perhaps paused
	Draining Phase = "draining" // it was told to stop and still lives
	Held     Phase = "held"     // it restarts again and again; not to be trusted yet
	Exited   Phase = "exited"   // it ended (see Exits)
	Unknown  Phase = "unknown"  // it is there, the engine cannot say more at present
	Lost     Phase = "lost"     // it ran when the engine was last heard, which is long ago (see LostAfter)
)

// Item is one container in a set. It is not changed after it was handed on.
type Item struct {
	*docker.Container
	Phase  Phase
	Reason string    // why it is not Running
	Event  time.Time // the engine's time of the event that led to this; zero where none did
}

// Set is all containers, by full id. It is not changed after it was handed on.
type Set map[string]*Item

// State is how the watcher gets on with its engine.
type State struct {
	Connected bool
	Complete  bool // a full set has been handed on
	Since     time.Time
	Engine    docker.Info
	Err       string // why it is away
}

// Limits and times that nobody needs to set.
const (
	inFlight   = 16 // inspections at once
	holdWindow = time.Minute
	holdMax    = 30 * time.Second
	retryMin   = 100 * time.Millisecond
	retryMax   = 2 * time.Second  // an engine that is back must be seen soon
	calm       = 10 * time.Second // a stream that lived this long was a good one
	secondLook = 2 * time.Second  // between the two lists that an empty engine takes to be believed
	firstLook  = time.Second      // a container that the engine has not described by then is Unknown in the first set
)

// Watcher watches one engine.
type Watcher struct {
	cfg    Config
	engine docker.Engine
	log    *slog.Logger
	m      *metrics
	state  atomic.Pointer[State]
	do     chan func() // work for the owner, from its goroutines and from callers
	notes  notes

	// All below belongs to Run.
	rows      map[string]*row
	doubts    map[string]time.Time // changes found by looking, by container, and when their events count as missed
	flying    int                  // inspections under way
	changed   bool                 // there is something to hand on
	complete  bool
	connected bool
	listing   bool
	gen       int // of the connection; news of older ones is ignored
	hangUp    context.CancelFunc
	since     time.Time // when the connection came, or went
	gone      string    // why what runs is Lost; empty: it is not
	lostAt    time.Time // when an engine that is away counts as lost
	firstAt   time.Time // when the first set no longer waits for containers
	lastEvent time.Time // the engine's clock
	backoff   time.Duration
	dialAt    time.Time
	listAt    time.Time
	empty     int // lists in a row that were empty against expectation
	wg        sync.WaitGroup
}

// New makes a watcher. Its metrics go to reg.
func New(cfg Config, engine docker.Engine, log *slog.Logger, reg prometheus.Registerer) *Watcher {
	w := &Watcher{
		cfg: cfg, engine: engine, log: log.With("room", "watcher"), m: newMetrics(reg),
		do: make(chan func()), rows: map[string]*row{}, doubts: map[string]time.Time{}, notes: notes{wake: make(chan struct{}, 1)},
	}
	w.state.Store(&State{})
	return w
}

// State tells how things stand. It may be called at any time.
func (w *Watcher) State() State { return *w.state.Load() }

// Run watches until ctx ends and sends each new set to out; a set that nobody took yet
// is replaced by the next. It returns nil, after all its goroutines have ended. An engine
// that is away is tried again for ever.
func (w *Watcher) Run(ctx context.Context, out chan<- Set) error {
	ctx, cancel := context.WithCancel(ctx)
	defer w.wg.Wait()
	defer cancel()
	w.since = time.Now()
	w.lastEvent = w.since.Add(-w.cfg.DrainMax) // what was told to stop before we came
	w.dial(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var set Set
	var offer chan<- Set // nil while there is nothing new
	for {
		timer.Reset(w.tick(ctx))
		if w.changed && w.isComplete() {
			set, offer, w.changed = w.set(), out, false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-w.notes.wake:
			w.take()
		case f := <-w.do:
			f()
		case offer <- set:
			offer = nil
			w.publish()
		}
	}
}

// publish notes that a full set was handed on.
func (w *Watcher) publish() {
	if !w.complete {
		w.complete = true
		w.tell("")
	}
}

// isComplete tells whether every container has been inspected, or tried in vain: one that
// the engine cannot describe, as while it starts, shall not keep all others waiting.
func (w *Watcher) isComplete() bool {
	if w.complete {
		return true
	}
	if !w.connected {
		return false
	}
	for _, r := range w.rows {
		if r.c == nil && r.item == nil {
			return false
		}
	}
	return true
}

// tick does what is due and says how long until the next thing is.
func (w *Watcher) tick(ctx context.Context) time.Duration {
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
	if due(w.dialAt) {
		w.dial(ctx)
	}
	if w.connected && !w.listing && due(w.listAt) {
		w.list(ctx)
	}
	if due(w.lostAt) {
		w.lose()
	}
	if !w.complete && due(w.firstAt) {
		for _, r := range w.rows {
			if r.c == nil && r.item == nil {
				r.late = true
				w.assess(r)
			}
		}
	}
	for id, at := range w.doubts {
		if due(at) {
			w.drifted(id)
		}
	}
	for _, r := range w.rows {
		if !w.connected {
			continue
		}
		if !r.dirty && !r.flying && due(r.phaseUntil) { // else an inspection will tell more
			w.assess(r)
			due(r.phaseUntil)
		}
		if due(r.again) {
			r.dirty, r.again = true, time.Time{}
		}
		if r.dirty && !r.flying && w.flying < inFlight {
			w.inspect(ctx, r)
		}
	}
	if !w.dialAt.IsZero() && w.dialAt.Before(next) { // a drift set it just now
		next = w.dialAt
	}
	return next.Sub(now)
}

// lose gives up on an engine that is away for long: what ran may run or not.
func (w *Watcher) lose() {
	w.lostAt = time.Time{}
	w.gone = fmt.Sprintf("the engine is away since %s", w.since.UTC().Format(time.RFC3339))
	w.log.Error("engine lost: what ran on it is out of service until it is back", "away", w.cfg.LostAfter.String())
	for _, r := range w.rows {
		w.assess(r)
	}
}

// call runs f in the owner and waits for it.
func (w *Watcher) call(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case w.do <- func() { f(); close(done) }:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-done
	return nil
}

// later gives the owner something to do, unless ctx ends before.
func (w *Watcher) later(ctx context.Context, f func()) {
	select {
	case w.do <- f:
	case <-ctx.Done():
	}
}

// Refresh lists and inspects everything soon.
func (w *Watcher) Refresh(ctx context.Context) error {
	return w.call(ctx, func() { w.listAt = time.Now() })
}

// Drain puts the container with that name or id (or its beginning) into Draining, as its
// stop signal would, or takes it out again; "" means all that run. It gives the full ids.
func (w *Watcher) Drain(ctx context.Context, ref string, on bool) (ids []string, err error) {
	err = w.call(ctx, func() {
		for id, r := range w.rows {
			if r.c == nil || !r.c.Running() || (ref != "" && r.c.Name != ref && (len(ref) < 4 || id[:min(len(ref), len(id))] != ref)) {
				continue
			}
			ids = append(ids, id)
			r.stop = mark{}
			if on {
				r.stop = mark{set: true, run: r.c.StartedAt, at: time.Now(), why: "drained by request"}
			}
			w.assess(r)
		}
	})
	return ids, err
}
