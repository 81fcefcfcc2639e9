// Package antientropy keeps the catalog's rows of this node equal to what the agent
// vouches for. It is level-triggered: a round compares what shall be with what the
// catalog is known to have and sends the difference. What it sent successfully it
// remembers, so a change costs one write and no read; a full round, now and then, reads
// the catalog anew and so repairs what others changed.
//
// It never removes anything because of a read that failed. The numbered invariants
// stand in DESIGN.md. The composition root runs it; the agent's doors call Sync.
package antientropy

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
)

// Local is what the agent vouches for. Rows that it gives are shared.
type Local interface {
	// Wake gives the channel that holds a token when something changed.
	Wake() <-chan struct{}
	// Take gives the ids of services and checks that changed since the last call.
	Take() (services, checks map[string]bool)
	// Some gives those of the ids that are there.
	Some(services, checks map[string]bool) (map[string]*api.Service, map[string]*api.Check)
	// Both gives all services and checks of one moment, by id.
	Both() (map[string]*api.Service, map[string]*api.Check)
}

// Catalog is where it has to be known. Methods may be called concurrently.
type Catalog interface {
	// Registered gives this node's rows; n is nil where the catalog does not know it.
	Registered(ctx context.Context, node string) (n *api.Node, services map[string]*api.Service, checks map[string]*api.Check, err error)
	Register(ctx context.Context, r *api.Registration) error
	Deregister(ctx context.Context, d *api.Deregistration) error
}

// Config is what New needs.
type Config struct {
	// Node gives this node as the catalog shall have it.
	Node func() api.Registration
	// Size is how many members the cluster has: the larger, the rarer full rounds are.
	Size func() int
	// OutputInterval is how long a change of output alone may wait; 0 sends it at once.
	OutputInterval time.Duration
	Log            *slog.Logger
}

// Intervals.
const (
	fullEvery = time.Minute
	roundTime = 30 * time.Second // bounds a round
	retryMin  = 250 * time.Millisecond
	retryMax  = 15 * time.Second
	atOnce    = 64 // writes under way: the servers gather them
)

// Syncer does the work. Run may be called once.
type Syncer struct {
	cfg   Config
	local Local
	cat   Catalog
	log   *slog.Logger
	wake  chan struct{} // 1: somebody waits for a round, or wants a full one

	mu      sync.Mutex
	full    bool         // guarded by mu; the next round reads the catalog
	waiting []chan error // guarded by mu; told when the next round is over

	// What the catalog is known to have. Used by Run only.
	have    *remote
	outputs map[string]time.Time // when an output that waits is due, by check
	reasons map[string]time.Time // until when another reason of a check that does not pass waits
	nextDue time.Time            // none is due before
	wrote   time.Time            // when the last write was over
}

// remote is the catalog's rows of this node.
type remote struct {
	node     *api.Node
	services map[string]*api.Service
	checks   map[string]*api.Check
}

// New makes a syncer; it starts nothing.
func New(cfg Config, local Local, cat Catalog) *Syncer {
	return &Syncer{cfg: cfg, local: local, cat: cat, log: cfg.Log.With("room", "antientropy"), wake: make(chan struct{}, 1), outputs: map[string]time.Time{}, reasons: map[string]time.Time{}}
}

// Trigger asks for a full round soon.
func (s *Syncer) Trigger() {
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	s.poke()
}

func (s *Syncer) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Sync waits until a round that began after the call is over, and gives its error. What
// was not sent is sent later. Callers at the same time share a round.
func (s *Syncer) Sync(ctx context.Context) error {
	done := make(chan error, 1) // Run does not wait for a caller that left
	s.mu.Lock()
	s.waiting = append(s.waiting, done)
	s.mu.Unlock()
	s.poke()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Run works until ctx ends.
func (s *Syncer) Run(ctx context.Context) error {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = retryMin, retryMax
	full := time.NewTimer(0)
	defer full.Stop()
	again := time.NewTimer(0)
	defer again.Stop()
	defer func() { s.tell(s.takeWaiting(), context.Canceled) }()
	failing, why := false, api.Internal
	for {
		waiting := s.takeWaiting()
		read, err := s.round(ctx)
		s.tell(waiting, err)
		if ctx.Err() != nil {
			return nil
		}
		wait := s.nextOutput()
		if err != nil {
			kind := api.KindOf(err)
			if !failing || kind != why { // no leader yet, then no right: the second is news
				s.log.Warn("the catalog is not equal to this agent; trying on", "err", err)
			}
			why = kind
			wait = retry.NextBackOff()
		} else {
			if failing {
				s.log.Info("the catalog is equal to this agent again")
			}
			retry.Reset()
		}
		failing = err != nil
		again.Reset(wait)
		if read {
			full.Reset(s.fullPause())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.local.Wake():
		case <-s.wake:
		case <-again.C:
		case <-full.C:
			s.mu.Lock()
			s.full = true
			s.mu.Unlock()
		}
	}
}

// fullPause is a minute and a random one more, scaled by the size of the cluster: once
// up to 128 members, and once more for each doubling.
func (s *Syncer) fullPause() time.Duration {
	scale := time.Duration(1)
	if n := s.cfg.Size(); n > 128 {
		scale += time.Duration(bits.Len(uint((n - 1) / 128)))
	}
	return scale * (fullEvery + rand.N(fullEvery))
}

func (s *Syncer) takeWaiting() []chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting
	s.waiting = nil
	return w
}

func (s *Syncer) tell(waiting []chan error, err error) {
	for _, w := range waiting {
		w <- err
	}
}

// round makes the catalog equal, and reads it first where that is due.
func (s *Syncer) round(ctx context.Context) (read bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	s.mu.Lock()
	read = s.full || s.have == nil
	s.full = false
	s.mu.Unlock()
	newServices, newChecks := s.local.Take() // before the rows: what changes meanwhile comes again
	node := s.cfg.Node()
	before := s.have
	if read {
		n, services, checks, err := s.cat.Registered(ctx, node.Node)
		if err != nil {
			s.have = nil
			return true, err
		}
		s.have = known(n, services, checks)
		if before != nil && time.Since(s.wrote) >= calm {
			s.tellForeign(node.Node, foreign(before, s.have))
		}
	}
	var services map[string]*api.Service
	var checks map[string]*api.Check
	view := s.have
	if read {
		services, checks = s.local.Both()
		s.forgetOutputs(checks)
	} else {
		services, checks, view = s.narrow(newServices, newChecks)
	}
	d := diff(node, services, checks, view, s.dueOutputs(checks))
	if d.node != nil || len(d.steps) > 0 {
		defer func() { s.wrote = time.Now() }()
	}
	if err := s.send(ctx, d); err != nil {
		s.have = nil // what failed may have happened: the next round looks
		clear(s.reasons)
		return read, err
	}
	if before == nil {
		s.tellStrangers(node.Node, d)
	}
	return read, nil
}

func known(n *api.Node, services map[string]*api.Service, checks map[string]*api.Check) *remote {
	r := &remote{node: n, services: map[string]*api.Service{}, checks: map[string]*api.Check{}}
	for id, v := range services {
		r.services[id] = v
	}
	for id, v := range checks {
		r.checks[id] = v
	}
	return r
}

// send carries out a difference: the node first, for the others stand on it, then all
// that is left side by side. What went through is remembered; the rest is for the next
// round, and is then read anew.
func (s *Syncer) send(ctx context.Context, d difference) error {
	var errs []error
	if d.node != nil {
		err := s.cat.Register(ctx, d.node)
		switch {
		case err == nil:
			s.have.node = nodeOf(d.node)
		case api.KindOf(err) == api.Forbidden: // services with tokens of their own may go on
			errs = append(errs, err)
		default:
			return err
		}
	}
	type outcome struct {
		step step
		err  error
	}
	slots := make(chan struct{}, atOnce)
	done := make(chan outcome, len(d.steps))
	for _, st := range d.steps {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			var err error
			if st.register != nil {
				err = s.cat.Register(ctx, st.register)
			} else {
				err = s.cat.Deregister(ctx, st.deregister)
			}
			done <- outcome{st, err}
		}()
	}
	for range d.steps {
		o := <-done
		if o.err != nil {
			errs = append(errs, o.err)
			continue
		}
		s.remember(o.step)
	}
	if len(errs) > 3 { // they are alike
		errs = errs[:3]
	}
	return errors.Join(errs...)
}

// remember notes what the catalog has after a step.
func (s *Syncer) remember(st step) {
	if r := st.register; r != nil {
		if r.Service != nil {
			s.have.services[r.Service.ID] = r.Service
		}
		for _, c := range r.Checks {
			s.have.checks[c.CheckID] = c
			delete(s.outputs, c.CheckID)
		}
		return
	}
	if d := st.deregister; d.ServiceID != "" {
		delete(s.have.services, d.ServiceID)
		for id, c := range s.have.checks {
			if c.ServiceID == d.ServiceID {
				delete(s.have.checks, id)
			}
		}
	} else {
		delete(s.have.checks, d.CheckID)
	}
}

// narrow gives both sides of what changed, and of nothing else, so that a round costs as
// much as it has to say (A8): the changed rows, the checks whose output is due, and the
// services that those checks belong to, here or there.
func (s *Syncer) narrow(services, checks map[string]bool) (map[string]*api.Service, map[string]*api.Check, *remote) {
	if now := time.Now(); !now.Before(s.nextDue) {
		s.nextDue = now.Add(time.Hour)
		for id, at := range s.outputs {
			if !now.Before(at) {
				checks[id] = true
			} else if at.Before(s.nextDue) {
				s.nextDue = at
			}
		}
	}
	view := &remote{node: s.have.node, services: map[string]*api.Service{}, checks: map[string]*api.Check{}}
	_, rows := s.local.Some(nil, checks)
	for id := range checks {
		if c := rows[id]; c != nil {
			services[c.ServiceID] = true
		} else {
			delete(s.outputs, id)
		}
		if c := s.have.checks[id]; c != nil {
			view.checks[id] = c
			services[c.ServiceID] = true
		}
	}
	own, _ := s.local.Some(services, nil)
	for id := range services {
		if v := s.have.services[id]; v != nil {
			view.services[id] = v
		}
	}
	return own, rows, view
}

// forgetOutputs forgets what waits of checks that are gone.
func (s *Syncer) forgetOutputs(checks map[string]*api.Check) {
	maps.DeleteFunc(s.reasons, func(id string, until time.Time) bool { return checks[id] == nil || time.Now().After(until) })
	for id := range s.outputs {
		if checks[id] == nil {
			delete(s.outputs, id)
		}
	}
}

// dueOutputs names those of the checks whose output alone changed and is due now. The
// first output goes at once, and once in an interval that of a check which does not pass:
// why it fails is what somebody looks for.
func (s *Syncer) dueOutputs(checks map[string]*api.Check) map[string]bool {
	now, due := time.Now(), map[string]bool{}
	for id, c := range checks {
		old := s.have.checks[id]
		if old == nil || old.Output == c.Output {
			delete(s.outputs, id)
			continue
		}
		if s.cfg.OutputInterval <= 0 || old.Output == "" {
			due[id] = true
			continue
		}
		at, ok := s.outputs[id]
		if !ok && c.Status != api.Passing && !now.Before(s.reasons[id]) {
			s.reasons[id] = now.Add(s.cfg.OutputInterval)
			due[id] = true
			continue
		}
		if !ok {
			at = now.Add(s.cfg.OutputInterval/2 + rand.N(s.cfg.OutputInterval))
			s.outputs[id] = at
			if at.Before(s.nextDue) {
				s.nextDue = at
			}
		}
		due[id] = !now.Before(at)
	}
	return due
}

// nextOutput is how long until the next output that waits is due.
func (s *Syncer) nextOutput() time.Duration {
	if len(s.outputs) == 0 {
		return time.Hour
	}
	return max(time.Until(s.nextDue), 0)
}
