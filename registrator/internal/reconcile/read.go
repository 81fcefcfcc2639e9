package reconcile

import (
	"context"
	"math/rand/v2"
	"time"
)

// read looks at the agent in the background; at most one such look at a time.
func (r *Reconciler) read(ctx context.Context) {
	r.reading, r.readAt = true, time.Time{}
	if r.looking.IsZero() {
		r.looking = time.Now()
	}
	r.seq++
	began := r.seq
	r.wg.Go(func() {
		within, cancel := context.WithTimeout(ctx, opTimeout)
		got, err := r.cat.Read(within)
		cancel()
		r.later(ctx, func() {
			r.reading = false
			if err != nil {
				r.away(err)
				return
			}
			r.learn(got, began)
		})
	})
}

// learn takes a reading in. What was written since it began is better known already.
func (r *Reconciler) learn(got Reading, began uint64) {
	now := time.Now()
	r.lastRead, r.backoff = now, 0
	r.readAt, r.probeAt = time.Time{}, now.Add(probeEvery)
	if r.cfg.Resync > 0 {
		r.readAt = now.Add(r.cfg.Resync*9/10 + rand.N(r.cfg.Resync/5+1))
	}
	back := !r.connected
	if back {
		r.log.Info("catalog connected", "services", len(got.Services), "node_address", got.NodeAddress)
		r.connected, r.since, r.err = true, now, ""
	}
	r.known = true
	moved := got.NodeAddress != "" && got.NodeAddress != r.cfg.Mapping.HostAddress
	if moved {
		r.cfg.Mapping.HostAddress = got.NodeAddress
	}
	for id := range got.Services {
		r.entry(id)
	}
	for _, e := range r.entries {
		if back && e.retryAt.After(now) && e.err != "" {
			e.retryAt, e.failures = time.Time{}, 0 // it failed because the agent was away
		}
		if e.flying || e.touched > began {
			continue
		}
		h, ok := got.Services[e.id]
		if e.have = nil; ok {
			e.have = &h
			if h.Checks["docker:"+e.id].Output != "" {
				e.said = "" // it keeps outputs; one that is lost is said again
			}
		}
		r.contest(e, now)
		r.leftOver(e)
		r.enqueue(e)
	}
	if moved && r.set != nil {
		r.verdicts = map[string]*verdict{}
		r.apply(r.set)
	}
}

// entry finds the entry of an id, or makes one.
func (r *Reconciler) entry(id string) *entry {
	e := r.entries[id]
	if e == nil {
		e = &entry{id: id}
		r.entries[id] = e
	}
	return e
}

// away notes that the agent cannot be reached. Nothing is queued up but what shall be;
// one reading, when it is back, shows what has to be done.
func (r *Reconciler) away(err error) {
	now := time.Now()
	r.backoff = min(max(2*r.backoff, retryMin), readMax)
	if r.connected {
		r.connected, r.since, r.backoff = false, now, retryMin
	}
	if r.err == "" {
		r.log.Warn("catalog away; it is tried again until it is back", "err", err)
	}
	r.err = err.Error()
	r.readAt = now.Add(r.backoff/2 + rand.N(r.backoff/2))
}

// readSoon reads the agent again shortly.
func (r *Reconciler) readSoon(now time.Time) {
	at := now
	if next := r.lastRead.Add(readPause); next.After(at) {
		at = next
	}
	if r.readAt.IsZero() || at.Before(r.readAt) {
		r.readAt = at
	}
}

// probe asks for one of our services: an agent that was restarted, perhaps empty, shows
// at once by not answering, or by not having it.
func (r *Reconciler) probe(ctx context.Context) {
	r.probing = true
	var e *entry
	for _, x := range r.entries { // another one each time
		if !x.flying && x.have != nil && x.have.Owner == r.cfg.Mapping.Owner {
			e = x
			break
		}
	}
	id, want := "", ""
	if e != nil {
		id, want = e.id, e.have.Hash
	}
	r.seq++
	began := r.seq
	r.wg.Go(func() {
		within, cancel := context.WithTimeout(ctx, opTimeout)
		hash, err := r.cat.Hash(within, id)
		cancel()
		r.later(ctx, func() {
			now := time.Now()
			r.probing, r.probeAt = false, now.Add(probeEvery)
			switch {
			case err != nil && !r.cat.IsAnswer(err):
				r.away(err)
			case e != nil && e.touched < began && !e.flying && hash != want:
				r.readSoon(now)
			}
		})
	})
}

// contest notices that somebody else writes what we write: three times within ten
// minutes, and we leave the entry alone for as long.
func (r *Reconciler) contest(e *entry, now time.Time) {
	keep := e.fights[:0]
	for _, t := range e.fights {
		if now.Sub(t) < fightWindow {
			keep = append(keep, t)
		}
	}
	e.fights = keep
	if e.written && e.have != nil && e.have.Hash != e.wrote {
		e.fights = append(e.fights, now)
		e.written = false
	}
	switch {
	case len(e.fights) >= fightLimit && e.conflict == "":
		e.conflict = "something else writes this id again and again; are there two registrators with different settings?"
		r.m.conflicts.Inc()
		r.log.Error("left alone: something else writes this id again and again", "id", e.id, "owner", e.have.Owner)
	case len(e.fights) < fightLimit && e.conflict != "":
		e.conflict = ""
	}
}
