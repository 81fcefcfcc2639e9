package watcher

import (
	"fmt"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
)

// row is what is known of one container.
type row struct {
	id         string
	c          *docker.Container // last inspected; nil before the first time
	stop       mark              // it was told to stop
	kills      map[int]time.Time // signals to be judged by the next inspection that began after them; engine's clock
	dead       bool              // it died; until an inspection that began after the news
	starts     []time.Time       // its latest starts
	hold       time.Time         // not to be trusted until then
	event      time.Time         // engine's time of the latest event
	heard      time.Time         // when an event was last heard
	item       *Item             // as handed on; nil: in no set
	phaseUntil time.Time         // when the phase changes by itself

	dirty    bool // to be inspected
	flying   bool // an inspection is under way
	newKills bool // signals came during that inspection
	newDead  bool // and so did the news of its death
	failures int  // inspections in a row that told nothing
	looks    int  // inspections that were made to wait for a binding
	late     bool // its first inspection is under way for long
	again    time.Time
	routine  bool // this inspection was caused by a resync
}

// mark says that a container was told to stop, in which of its lives.
type mark struct {
	set bool
	run time.Time // StartedAt of that life
	at  time.Time // when we learnt it
	why string
}

// judge looks whether signals that came concern the life that c describes.
func (r *row) judge(now time.Time) {
	for sig, at := range r.kills {
		if r.c == nil || at.Before(r.c.StartedAt) || (r.stop.set && r.stop.run.Equal(r.c.StartedAt)) {
			continue
		}
		if sig == r.c.StopSignal || sig == int(syscall.SIGKILL) {
			r.stop = mark{set: true, run: r.c.StartedAt, at: now, why: fmt.Sprintf("it was sent signal %d", sig)}
		}
	}
}

// started notes a new life and holds a container back that has had many lately: the
// third start within a minute for a second, then twice as long each time. A life that was
// told to end counts for nothing: that was no crash.
func (r *row) started(now time.Time) {
	at := r.c.StartedAt
	if !r.c.Running() || (len(r.starts) > 0 && r.starts[len(r.starts)-1].Equal(at)) {
		return
	}
	if n := len(r.starts); n > 0 && r.stop.set && r.stop.run.Equal(r.starts[n-1]) {
		r.starts = r.starts[:0]
	}
	keep := r.starts[:0]
	for _, s := range r.starts {
		if at.Sub(s) < holdWindow {
			keep = append(keep, s)
		}
	}
	if len(keep) == maxStarts {
		keep = append(keep[:0], keep[1:]...)
	}
	r.starts = append(keep, at)
	if n := len(r.starts); n > 2 {
		r.hold = now.Add(min(time.Second<<(n-3), holdMax))
	}
}

const maxStarts = 16

// phase says where the container stands, and when that changes by itself.
func (r *row) phase(cfg Config, gone string, now time.Time) (p Phase, why string, until time.Time) {
	c := r.c
	switch {
	case c == nil && r.failures > 0:
		return Unknown, "the engine cannot describe it", time.Time{}
	case c == nil && r.late:
		return Unknown, "the engine has not described it yet", time.Time{}
	case c == nil:
		return "", "", time.Time{}
	case !c.Running():
		if c.State == docker.StateExited && (cfg.Exits == ExitsAll || cfg.Exits == ExitsFailed && failed(c.ExitCode) && !r.stopping()) {
			return Exited, fmt.Sprintf("it ended with code %d", c.ExitCode), time.Time{}
		}
		return "", "", time.Time{}
	case r.dead && cfg.Exits == ExitsNone: // with it, the exit code decides, and that takes an inspection
		return "", "", time.Time{}
	case r.stopping():
		if end := r.stop.at.Add(cfg.DrainMax); now.Before(end) {
			return Draining, r.stop.why, end
		}
	}
	if gone != "" {
		return Lost, gone, time.Time{}
	}
	if now.Before(r.hold) {
		return Held, fmt.Sprintf("it started %d times within %s", len(r.starts), holdWindow), r.hold
	}
	return Running, "", time.Time{}
}

// stopping tells whether this life of the container was told to end.
func (r *row) stopping() bool { return r.stop.set && r.stop.run.Equal(r.c.StartedAt) }

// failed tells whether a process that ended so ended badly: neither 0 nor by a signal.
func failed(code int) bool { return code != 0 && code&128 == 0 }

// binding tells whether the engine has yet to say where a port is published.
func binding(c *docker.Container) bool {
	if !c.Running() || c.NetworkMode == "host" || c.NetworkMode == "none" {
		return false
	}
	for _, p := range c.Wanted {
		if len(c.Published[p]) == 0 {
			return true
		}
	}
	return false
}

// same tells whether two inspections show no difference that an event would announce.
func same(a, b *docker.Container) bool {
	if a == nil || b == nil {
		return a == b
	}
	health := func(c *docker.Container) string {
		if c.Health == nil {
			return ""
		}
		return c.Health.Status
	}
	return a.State == b.State && a.StartedAt.Equal(b.StartedAt) && a.Name == b.Name && health(a) == health(b) && len(a.Networks) == len(b.Networks)
}

// assess renews what the set says of a container.
func (w *Watcher) assess(r *row) {
	now := time.Now()
	p, why, until := r.phase(w.cfg, w.gone, now)
	if p == Running && r.c != nil && r.stopping() {
		r.stop = mark{}
		w.log.Warn("container lives on after its stop signal; it is in service again", "container", r.c.Name, "after", w.cfg.DrainMax.String())
	}
	r.phaseUntil = until
	var item *Item
	if p != "" {
		c := r.c
		if c == nil {
			c = &docker.Container{ID: r.id}
		}
		item = &Item{Container: c, Phase: p, Reason: why, Event: r.event}
	}
	if old := r.item; old != nil && item != nil && old.Container == item.Container && old.Phase == p && old.Reason == why {
		return
	}
	if r.item == nil && item == nil {
		return
	}
	if r.item == nil || item == nil || r.item.Phase != item.Phase {
		w.log.Debug("container", "name", nameOf(r), "id", docker.Short(r.id), "phase", string(p), "reason", why)
	}
	r.item = item
	w.changed = true
}

func nameOf(r *row) string {
	if r.c == nil {
		return ""
	}
	return r.c.Name
}

// set is all rows that are in one.
func (w *Watcher) set() Set {
	s := make(Set, len(w.rows))
	for id, r := range w.rows {
		if r.item != nil {
			s[id] = r.item
		}
	}
	return s
}
