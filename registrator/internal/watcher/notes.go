package watcher

import (
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
)

// notes is where the reader of events writes down what it heard. Writing never blocks and
// needs no more room than there are containers: an engine drops readers that are slow.
type notes struct {
	mu   sync.Mutex
	by   map[string]*note
	last time.Time     // engine's time of the latest event
	wake chan struct{} // 1: there are notes
}

type note struct {
	event time.Time // of the latest event of the container itself; engine's clock
	dead  bool
	kills map[int]time.Time
}

func (n *notes) add(e docker.Event) {
	n.mu.Lock()
	if n.by == nil {
		n.by = map[string]*note{}
	}
	x := n.by[e.Container]
	if x == nil {
		x = &note{}
		n.by[e.Container] = x
	}
	n.last = e.Time
	if e.Type == docker.TypeContainer {
		x.event = e.Time
		switch e.Action {
		case docker.ActionDie:
			x.dead = true
		case docker.ActionStart:
			x.dead = false
		case docker.ActionKill:
			if x.kills == nil {
				x.kills = map[int]time.Time{}
			}
			x.kills[e.Signal] = e.Time
		}
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// take moves the notes into the rows.
func (w *Watcher) take() {
	w.notes.mu.Lock()
	by, last := w.notes.by, w.notes.last
	w.notes.by = nil
	w.notes.mu.Unlock()
	if !last.IsZero() {
		w.lastEvent = last
	}
	now := time.Now()
	for id, n := range by {
		delete(w.doubts, id)
		if n.event.IsZero() && w.unborn(id) {
			continue
		}
		r := w.row(id)
		r.dirty, r.heard, r.looks = true, now, 0
		if n.event.After(w.since) { // not replayed
			r.event = n.event
		}
		if n.dead {
			r.dead, r.newDead = true, true
		}
		for sig, at := range n.kills {
			if r.kills == nil {
				r.kills = map[int]time.Time{}
			}
			r.kills[sig], r.newKills = at, true
		}
		r.judge(now)
		w.assess(r)
	}
}

// unborn tells whether a container does not run as far as is known. What happens to its
// networks then is of no interest before it starts, and an inspection would wait in the
// engine until that.
func (w *Watcher) unborn(id string) bool {
	r := w.rows[id]
	return r == nil || !r.dirty && !r.flying && (r.c == nil || !r.c.Running())
}

// row finds a container's row, or makes one.
func (w *Watcher) row(id string) *row {
	r := w.rows[id]
	if r == nil {
		r = &row{id: id}
		w.rows[id] = r
	}
	return r
}
