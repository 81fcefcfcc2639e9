package watcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
)

// dial connects in the background: who the engine is, its events, and only then the list.
func (w *Watcher) dial(ctx context.Context) {
	w.dialAt = time.Time{}
	w.gen++
	gen, since := w.gen, w.lastEvent
	ctx, w.hangUp = context.WithCancel(ctx)
	conn := ctx
	w.wg.Go(func() {
		list, info, err := w.connect(conn, gen, since)
		w.later(conn, func() {
			switch {
			case gen != w.gen:
			case err != nil:
				w.lost(err)
			default:
				w.arrived(info, list)
			}
		})
	})
}

// connect starts the reader of events, which reports its end by itself.
func (w *Watcher) connect(ctx context.Context, gen int, since time.Time) ([]docker.Summary, docker.Info, error) {
	info, err := w.engine.Info(ctx)
	if err != nil {
		return nil, info, err
	}
	events, err := w.engine.Events(ctx, since)
	if err != nil {
		return nil, info, err
	}
	w.wg.Go(func() {
		for e, err := range events {
			if err != nil {
				w.later(ctx, func() {
					if gen == w.gen {
						w.lost(err)
					}
				})
				return
			}
			w.m.events.WithLabelValues(e.Action).Inc()
			w.notes.add(e)
		}
	})
	list, err := w.engine.List(ctx)
	return list, info, err
}

// arrived begins a connection: everything known and everything listed is looked at.
func (w *Watcher) arrived(info docker.Info, list []docker.Summary) {
	first := !w.complete
	if old := w.State().Engine; old.ID != "" && old.ID != info.ID {
		w.log.Warn("another engine answers now", "engine", info.Name, "id", info.ID, "was", old.ID)
	}
	w.connected, w.since, w.lostAt, w.gone = true, time.Now(), time.Time{}, ""
	w.m.connected.Set(1)
	if !first {
		w.m.reconnects.Inc()
	}
	w.state.Store(&State{Connected: true, Complete: w.complete, Since: w.since, Engine: info})
	w.log.Info("engine connected", "engine", info.Name, "version", info.Version, "api", info.API, "containers", len(list))
	if first {
		w.changed = true // an engine without containers is a set, too
		w.firstAt = time.Now().Add(firstLook)
	}
	w.listed(list, false)
}

// lost ends a connection. Nothing is concluded from it: the last set stays good.
func (w *Watcher) lost(err error) {
	w.hangUp()
	w.gen++
	if w.connected && time.Since(w.since) > calm {
		w.backoff = 0
	}
	w.backoff = min(max(2*w.backoff, retryMin), retryMax)
	w.dialAt = time.Now().Add(w.backoff/2 + rand.N(w.backoff/2))
	if was := w.State(); was.Connected || was.Err == "" {
		w.log.Warn("engine away; nothing is deregistered until it is back", "err", err)
	}
	if w.connected {
		w.since = time.Now()
	}
	if w.cfg.LostAfter > 0 && w.gone == "" && w.complete && (w.connected || w.lostAt.IsZero()) {
		w.lostAt = w.since.Add(w.cfg.LostAfter)
	}
	w.connected, w.listing = false, false
	w.m.connected.Set(0)
	w.tell(err.Error())
}

// tell renews the state that others see.
func (w *Watcher) tell(err string) {
	s := w.State()
	s.Connected, s.Complete, s.Since, s.Err = w.connected, w.complete, w.since, err
	w.state.Store(&s)
}

// list is the periodic look at everything.
func (w *Watcher) list(ctx context.Context) {
	w.listing = true
	gen := w.gen
	w.wg.Go(func() {
		list, err := w.engine.List(ctx)
		w.later(ctx, func() {
			switch {
			case gen != w.gen:
			case err != nil:
				w.lost(err)
			default:
				w.listing = false
				w.listed(list, true)
			}
		})
	})
}

// listed marks everything to be inspected: what the list names, and what it does not
// name any more. A list alone removes nothing; an inspection that finds nothing does.
func (w *Watcher) listed(list []docker.Summary, routine bool) {
	now := time.Now()
	w.listAt = time.Time{}
	if w.cfg.Resync > 0 {
		w.listAt = now.Add(w.cfg.Resync*9/10 + rand.N(w.cfg.Resync/5+1))
	}
	if w.emptied(list) {
		w.listAt = now.Add(secondLook)
		return
	}
	named := make(map[string]bool, len(list))
	for _, s := range list {
		alive := s.State == docker.StateRunning || s.State == docker.StatePaused
		if named[s.ID] = true; w.rows[s.ID] != nil || alive || w.cfg.Exits != ExitsNone {
			r := w.row(s.ID)
			r.dirty, r.routine = true, routine
		}
	}
	for id, r := range w.rows {
		if !named[id] {
			r.dirty, r.routine = true, routine
		}
	}
}

// emptied tells that a list shows nothing alive although something was: an engine that
// comes up may answer so. It is believed the second time.
func (w *Watcher) emptied(list []docker.Summary) bool {
	for _, s := range list {
		if s.State == docker.StateRunning || s.State == docker.StatePaused {
			w.empty = 0
			return false
		}
	}
	for _, r := range w.rows {
		if r.item != nil {
			w.empty++
			return w.empty < 2
		}
	}
	w.empty = 0
	return false
}

// inspect looks at one container in the background; at most one such look at a time.
func (w *Watcher) inspect(ctx context.Context, r *row) {
	r.dirty, r.flying, r.newKills, r.newDead = false, true, false, false
	w.flying++
	routine := r.routine
	r.routine = false
	w.wg.Go(func() {
		c, err := w.engine.Inspect(ctx, r.id)
		w.later(ctx, func() {
			r.flying = false
			w.flying--
			w.inspected(r, c, err, routine)
		})
	})
}

// inspected takes the result of an inspection in.
func (w *Watcher) inspected(r *row, c *docker.Container, err error, routine bool) {
	now := time.Now()
	switch {
	case errors.Is(err, docker.ErrNotFound):
		if r.item != nil {
			w.changed = true
			if routine && r.item.Phase == Running {
				w.miss(r, now)
			}
		}
		if !r.dirty {
			if !w.complete {
				w.changed = true
			}
			delete(w.rows, r.id)
		}
		r.c, r.item = nil, nil
		return
	case err != nil:
		if r.failures++; r.failures == 1 {
			w.log.Warn("container cannot be inspected; it is left as it is", "container", docker.Short(r.id), "err", err)
		}
		r.again = now.Add(min(retryMin<<min(r.failures, 8), retryMax))
		w.assess(r)
		return
	}
	if routine && !same(r.c, c) && (r.c != nil || c.Running()) {
		w.miss(r, now)
	}
	r.failures = 0
	r.c = c
	if !r.newDead {
		r.dead = false
	}
	r.started(now)
	r.judge(now)
	if !r.newKills {
		r.kills = nil
	}
	if r.stop.set && !r.stop.run.Equal(c.StartedAt) {
		r.stop = mark{}
	}
	if binding(c) && r.looks < len(looks) {
		r.again = now.Add(looks[r.looks])
		r.looks++
	}
	w.assess(r)
}

// looks are the pauses before a container is inspected again that has published ports
// without a binding yet.
var looks = []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 500 * time.Millisecond}

// miss notes that a change was found by looking. Its event may still be on its way, so
// judgement waits a second.
func (w *Watcher) miss(r *row, now time.Time) {
	if now.Sub(r.heard) > time.Second {
		w.doubts[r.id] = now.Add(time.Second)
	}
}

// drifted counts a lost event, and renews the stream: it may have frozen.
func (w *Watcher) drifted(id string) {
	delete(w.doubts, id)
	w.m.drift.Inc()
	w.log.Warn("a change was found that no event told of; the event stream is renewed", "container", docker.Short(id))
	if w.connected {
		w.connected, w.listing, w.since = false, false, time.Now()
		w.hangUp()
		w.gen++
		w.dialAt = time.Now()
	}
}

// Once connects, looks at everything, and gives the set, without watching on.
func (w *Watcher) Once(ctx context.Context) (Set, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	info, err := w.engine.Info(ctx)
	if err != nil {
		return nil, err
	}
	w.state.Store(&State{Connected: true, Complete: true, Since: time.Now(), Engine: info})
	list, err := w.engine.List(ctx)
	if err != nil {
		return nil, err
	}
	out := Set{}
	for _, s := range list {
		c, err := w.engine.Inspect(ctx, s.ID)
		if errors.Is(err, docker.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", docker.Short(s.ID), err)
		}
		r := &row{id: s.ID, c: c}
		if p, why, _ := r.phase(w.cfg, "", time.Now()); p != "" {
			out[s.ID] = &Item{Container: c, Phase: p, Reason: why}
		}
	}
	return out, nil
}
