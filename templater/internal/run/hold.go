package run

import (
	"os"
	"time"

	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/guard"
)

// How often is looked whether what keeps a set back has ended.
const (
	lookHeld  = time.Second
	lookDrain = 50 * time.Millisecond
	// drainMost is how long a reload waits for old workers at most: an instance that died
	// must not stay for ever because somebody keeps a connection.
	drainMost = 10 * time.Second
)

// due gives the set to apply now, or how long to wait: for quiet where that is wanted,
// for the pause between reloads, for old workers to end, while a rollback is pinned,
// while the limits hold it, and while the catalog is in doubt.
func (g *group) due(now, lastApply time.Time) (*set, time.Duration) {
	g.mu.Lock()
	want := g.want
	at := lastApply.Add(g.own.Reload.MinInterval)
	if wait := g.own.Wait; wait.Min > 0 && !lastApply.IsZero() {
		quiet := g.last.Add(wait.Min)
		if most := g.since.Add(wait.Max); most.Before(quiet) {
			quiet = most
		}
		if quiet.After(at) {
			at = quiet
		}
	}
	g.mu.Unlock()
	if want == nil {
		return nil, time.Hour
	}
	if at.After(now) {
		return nil, at.Sub(now)
	}
	if !g.present(want) {
		if wait := g.kept(now, want); wait > 0 {
			return nil, wait
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.HeldUntil, g.state.Held, g.state.Pinned = time.Time{}, "", ""
	g.held, g.drain = time.Time{}, time.Time{}
	g.taken = g.last
	return g.want, 0
}

// present reports whether the set is live already: then nothing holds it.
func (g *group) present(want *set) bool {
	_, applied := g.apply.Current(want.files)
	return applied
}

// kept says how long to wait before the next look, 0 if nothing keeps the set back.
func (g *group) kept(now time.Time, want *set) time.Duration {
	if pinned := g.apply.Pinned(g.paths()); pinned != "" {
		g.hold("generation "+pinned+" is pinned by a rollback", time.Time{})
		return lookHeld
	}
	if doubt := g.doubt(want); doubt.After(now) {
		g.hold("the catalog may have forgotten instances", doubt)
		return min(doubt.Sub(now), lookHeld)
	}
	if err := g.limits(want); err != nil {
		until := g.hold(err.Error(), time.Time{})
		if until.IsZero() || until.After(now) {
			return lookHeld
		}
	}
	return g.draining(now)
}

// hold notes, and says once, why a set waits. until is when it no longer will; zero asks
// the guard's own patience, which is what comes back: zero for ever.
func (g *group) hold(why string, until time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held.IsZero() {
		g.held = time.Now()
	}
	if until.IsZero() && g.own.Guard.Hold > 0 {
		until = g.held.Add(g.own.Guard.Hold)
	}
	if g.state.Held == "" {
		limit := "until the reason ends"
		if !until.IsZero() {
			limit = until.Format(time.RFC3339)
		}
		g.log.Warn("held; the files before stay", "reason", why, "until", limit)
	}
	g.state.Held, g.state.HeldUntil = why, until
	return until
}

// overridden reports whether somebody has said that nothing shall be held.
func (g *group) overridden() bool {
	if g.own.Guard.OverrideFile == "" {
		return false
	}
	_, err := os.Stat(g.own.Guard.OverrideFile)
	return err == nil
}

// limits judges what a set takes away from the one that was applied last.
func (g *group) limits(want *set) error {
	if want.edited || g.overridden() {
		return nil
	}
	before := g.apply.Mark(g.paths()).Instances
	for _, t := range g.own.Templates {
		l := t.Guard
		if l == (config.Limits{}) {
			l = config.Limits{MinInstances: g.own.Guard.MinInstances, MaxShrinkPercent: g.own.Guard.MaxShrinkPercent}
		}
		if err := guard.Limits(l).Check(before[t.Destination], want.instances[t.Destination]); err != nil {
			return err
		}
	}
	return nil
}

// draining gives a pause while too many old workers still serve.
func (g *group) draining(now time.Time) time.Duration {
	most := g.cfg.Nginx.MaxDraining
	if most == 0 {
		most = 16
	}
	if g.nginx == nil || most < 0 {
		return 0
	}
	n := g.nginx.Draining()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Draining = n
	if n < most {
		g.drain = time.Time{}
		return 0
	}
	if g.drain.IsZero() {
		g.drain = now
	}
	if now.Sub(g.drain) >= drainMost {
		return 0
	}
	return lookDrain
}

// doubt is until when the latest set waits because the catalog may not be itself: one
// that was restored or began anew may lack instances which come back in a moment. After
// an index that went back, a set waits in which a template loses half of what it shows or
// more; after contact was lost, or at the start, one that loses all. Once a set was
// applied the doubt is over; and without a reason for it even the last instance goes at
// once.
func (g *group) doubt(want *set) time.Time {
	if want.edited || g.overridden() {
		return time.Time{}
	}
	reset, last := g.pool.Doubt()
	if reset.After(last) {
		last = reset
	}
	g.mu.Lock()
	sure := g.sure
	g.mu.Unlock()
	if sure.IsZero() && g.born.After(last) {
		last = g.born
	}
	hold := g.cfg.Hold
	if last.IsZero() || sure.After(last) || !time.Now().Before(last.Add(hold)) {
		return time.Time{}
	}
	var until time.Time
	for _, s := range g.sizes(want) {
		switch {
		case s.live == 0 || s.next*2 > s.live:
		case s.next == 0:
			return last.Add(hold)
		default:
			until = reset.Add(hold) // past, if no index went back
		}
	}
	return until
}

// size is how many instances there are in something live, and in what shall be live.
type size struct{ live, next int }

// sizes counts what each template shows: as it was read, or, where that was not
// remembered, as nginx has it.
func (g *group) sizes(want *set) []size {
	sum := func(services map[string]int) (n int) {
		for _, i := range services {
			n += i
		}
		return n
	}
	var out []size
	counted := false
	for name, services := range g.apply.Mark(g.paths()).Instances {
		if next, there := want.instances[name]; there {
			out = append(out, size{sum(services), sum(next)})
			counted = counted || sum(services) > 0
		}
	}
	if counted {
		return out
	}
	var files size
	for _, f := range want.files {
		if !f.Remove {
			files.next += guard.Servers(f.Content)
		}
		if b, err := os.ReadFile(f.Dest); err == nil {
			files.live += guard.Servers(b)
		}
	}
	return []size{files}
}
