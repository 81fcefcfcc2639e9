package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// entry is one service id: what shall be, what is, and the write under way between them.
// At most one write of an id is under way, and the next is computed when it has ended:
// so the latest wins, and no write overtakes another.
type entry struct {
	id   string
	want *mapping.Service // nil: it shall not be registered
	item *watcher.Item    // the container behind want
	out  string           // why it shall take no traffic; empty: it does
	have *Registered      // nil: the agent does not have it

	queued    bool
	flying    bool
	leaving   bool   // the registrator ends
	touched   uint64 // Reconciler.seq of the latest write; older readings do not count
	failures  int
	retryAt   time.Time
	err       string // of the latest write, until one succeeds
	refreshAt time.Time
	said      string    // the word that our latest report on the HEALTHCHECK began with, since the registration; "" once the agent shows an output
	seen      time.Time // Item.Event that was measured already

	written  bool   // we have written it at least once
	wrote    string // fingerprint that we wrote last; "" when we removed it
	wroteAt  time.Time
	token    string // for writes; the one of the latest want
	fights   []time.Time
	conflict string // why we leave it alone
	orphan   int    // readings in a row in which it was a left-over (Cleanup)
}

// op is one write: its name for logs and metrics, why it is made, what to do, and what is
// then known.
type op struct {
	name string
	why  string
	do   func(ctx context.Context) error
	then func()
}

// ours begins the reason of a maintenance that we asked for.
const ours = "registrator: "

// next is the write that brings an entry one step closer, nil when nothing differs. It
// decides on what is in the entry alone.
func (r *Reconciler) next(e *entry, now time.Time) *op {
	w, h := e.want, e.have
	mine := h != nil && h.Owner == r.cfg.Mapping.Owner
	switch {
	case e.leaving:
		return r.leave(e, mine)
	case e.conflict != "":
		return nil
	case w == nil && h == nil:
		return nil
	case w == nil:
		ended, stays := r.keep[h.Container]
		switch {
		case mine && stays && ended != "" && r.cfg.OnExit == ExitCritical && !h.Maintenance:
			return r.maintain(e, ended)
		case (!mine || stays) && e.orphan < 2:
			return nil
		case mine && r.succeeded(h):
			return nil // looked at again when that one is there
		}
		return r.deregister(e)
	case h == nil:
		if e.out != "" {
			return nil // it would take traffic for a moment
		}
		return r.register(e, "it runs and is not in the catalog")
	case !mine && (h.Owner == "" && r.cfg.Adopt == AdoptNone || h.Owner != "" && r.cfg.Adopt != AdoptAll):
		return nil // told as a conflict when the entry is shown
	case !mine && h.Owner == "":
		return r.register(e, "taken over: the entry has no owner")
	case !mine:
		return r.register(e, fmt.Sprintf("taken over from owner %q", h.Owner))
	case r.sinks(e) && (e.out == "" || h.Hash != w.Hash): // first, or it would pass for a moment where it was not seen to
		return r.health(e, now)
	case h.Hash != w.Hash:
		return r.register(e, differs(w, h))
	case r.lacksCheck(e):
		return r.register(e, "a check is missing")
	case e.out != "" && !h.Maintenance:
		return r.maintain(e, e.out)
	case e.out == "" && h.Maintenance && strings.HasPrefix(h.Reason, ours):
		return r.maintain(e, "")
	}
	if id := r.surplus(e); id != "" {
		return r.drop(e, id)
	}
	return r.health(e, now)
}

// sinks tells whether the HEALTHCHECK says worse than the catalog.
func (r *Reconciler) sinks(e *entry) bool {
	if e.want.Health == nil {
		return false
	}
	is, ok := e.have.Checks[e.want.Health.CheckID]
	return ok && grade(is.Status) < grade(e.want.Health.Status)
}

// grade orders the states of checks from good to bad.
func grade(status string) int {
	switch status {
	case consul.HealthPassing:
		return 0
	case consul.HealthWarning:
		return 1
	}
	return 2
}

// borrows tells whether a registration in place would keep the state of a check that was
// another container's: an agent keeps it with the id.
func borrows(w *mapping.Service, h *Registered) bool {
	if h.Container == "" || h.Container == w.Meta[mapping.MetaContainer] {
		return false
	}
	return slices.ContainsFunc(w.Checks, func(c *consul.AgentServiceCheck) bool {
		was, ok := h.Checks[c.CheckID]
		return ok && grade(was.Status) < grade(c.Status)
	})
}

// succeeded tells whether another entry of the same container, at the same address, is to
// take the place of one: after a rename the new id comes before the old one goes.
func (r *Reconciler) succeeded(h *Registered) bool {
	for _, x := range r.entries {
		if x.want != nil && x.have == nil && x.out == "" && docker.Short(x.want.Container) == h.Container && x.want.Port == h.Port && x.want.Address == h.Address {
			return true
		}
	}
	return false
}

// predecessors gives the entries that wait for a successor of the same container.
func (r *Reconciler) predecessors(container string) []*entry {
	var out []*entry
	for _, x := range r.entries {
		if x.want == nil && x.have != nil && x.have.Container == container && x.have.Owner == r.cfg.Mapping.Owner {
			out = append(out, x)
		}
	}
	return out
}

// heir gives the registration of a service that takes another's place the states that the
// checks of that one have: it is the same process, and need not prove itself again.
func (r *Reconciler) heir(w *mapping.Service) *mapping.Service {
	for _, old := range r.predecessors(docker.Short(w.Container)) {
		if old.have.Port != w.Port || old.have.Address != w.Address {
			continue
		}
		same := *w
		same.Checks = make(consul.AgentServiceChecks, len(w.Checks))
		for i, c := range w.Checks {
			again := *c
			rest, ok := strings.CutPrefix(c.CheckID, "service:"+w.ID)
			if was := old.have.Checks["service:"+old.id+rest]; ok && was.Status != "" {
				again.Status = was.Status
			}
			same.Checks[i] = &again
		}
		return &same
	}
	return w
}

// differs says how a registration differs from the one in the catalog.
func differs(w *mapping.Service, h *Registered) string {
	from, to := net.JoinHostPort(h.Address, strconv.Itoa(h.Port)), net.JoinHostPort(w.Address, strconv.Itoa(w.Port))
	if from != to {
		return "the address was " + from
	}
	if h.Container != w.Meta[mapping.MetaContainer] {
		return "it was container " + h.Container
	}
	return "name, tags, checks or metadata differ"
}

func (r *Reconciler) register(e *entry, why string) *op {
	w := e.want
	if e.have == nil {
		w = r.heir(w)
	}
	anew := e.have != nil && e.have.Owner == r.cfg.Mapping.Owner && borrows(w, e.have)
	return &op{"register", why, func(ctx context.Context) error {
		if anew {
			if err := r.cat.Deregister(ctx, e.id, w.Token); err != nil {
				return err
			}
		}
		return r.cat.Register(ctx, w)
	}, func() {
		now := Registered{Owner: r.cfg.Mapping.Owner, Container: w.Meta[mapping.MetaContainer], Hash: w.Hash,
			Address: w.Address, Port: w.Port, Checks: map[string]Check{}}
		if h := e.have; h != nil && !anew { // a check that was there keeps its state
			now.Maintenance, now.Reason = h.Maintenance, h.Reason
			for id, c := range h.Checks {
				now.Checks[id] = c
			}
		}
		for _, c := range w.Checks {
			if _, ok := now.Checks[c.CheckID]; !ok {
				now.Checks[c.CheckID] = Check{Status: c.Status}
			}
		}
		if w.Health != nil { // a registration carries no output, and an agent may drop the one it had
			now.Checks[w.Health.CheckID] = Check{Status: now.Checks[w.Health.CheckID].Status}
		}
		e.said = ""
		fresh := e.have == nil
		e.have, e.written, e.wrote, e.wroteAt = &now, true, w.Hash, time.Now()
		e.refreshAt = time.Time{}
		if w.Health != nil {
			e.refreshAt = time.Now().Add(r.refreshEvery())
		}
		took := r.m.took(e)
		attrs := []any{"service", w.Name, "id", e.id, "address", w.Address, "port", w.Port}
		if e.item != nil {
			attrs = append(attrs, "container", e.item.Short())
			if fresh && took > 0 {
				attrs = append(attrs, "after", took.Round(10*time.Microsecond).String())
			}
		}
		r.log.Info("registered", attrs...)
	}}
}

func (r *Reconciler) deregister(e *entry) *op {
	token, container, why := e.token, e.have.Container, r.why(e)
	return &op{"deregister", why, func(ctx context.Context) error { return r.cat.Deregister(ctx, e.id, token) }, func() {
		e.have, e.written, e.wrote, e.wroteAt = nil, true, "", time.Now()
		e.refreshAt, e.orphan = time.Time{}, 0
		r.log.Info("deregistered", "id", e.id, "container", container, "reason", why)
	}}
}

// maintain takes a service out for a reason, or with "" takes it back in.
func (r *Reconciler) maintain(e *entry, reason string) *op {
	token, why := e.token, reason
	if reason == "" {
		why = "what took it out has ended: " + strings.TrimPrefix(e.have.Reason, ours)
	} else {
		reason = ours + reason
	}
	return &op{"maintain", why, func(ctx context.Context) error { return r.cat.Maintain(ctx, e.id, reason, token) }, func() {
		e.have.Maintenance, e.have.Reason = reason != "", reason
		r.log.Info("maintenance", "id", e.id, "on", reason != "", "reason", reason)
	}}
}

func (r *Reconciler) drop(e *entry, check string) *op {
	token := e.token
	return &op{"drop check", "check " + check + " is not wanted any more", func(ctx context.Context) error { return r.cat.DropCheck(ctx, check, token) }, func() {
		delete(e.have.Checks, check)
		r.log.Info("check removed", "id", e.id, "check", check)
	}}
}

// health brings the check of the HEALTHCHECK up to date, or refreshes it in time.
func (r *Reconciler) health(e *entry, now time.Time) *op {
	h := e.want.Health
	if h == nil {
		e.refreshAt = time.Time{}
		return nil
	}
	every := r.refreshEvery()
	if e.refreshAt.IsZero() { // the last refresh may be one period ago, not more
		e.refreshAt = now.Add(every/2 + rand.N(every/2+1))
	}
	is := e.have.Checks[h.CheckID]
	differs := is.Status != h.Status
	// Only the word counts: what the probe printed may change each time, and goes with the
	// next refresh. An agent that keeps no outputs is told once.
	silent := word(is.Output) != word(h.Output) && e.said != word(h.Output)
	if !differs && !silent && now.Before(e.refreshAt) {
		return nil
	}
	token := e.token
	name, why := "check", fmt.Sprintf("the HEALTHCHECK says %s, the catalog %s", h.Status, cmp.Or(is.Status, "nothing"))
	if !differs {
		name, why = "refresh", "the check must be heard of"
	}
	said := word(h.Output)
	return &op{name, why, func(ctx context.Context) error { return r.cat.SetCheck(ctx, h.CheckID, h.Status, h.Output, token) }, func() {
		e.have.Checks[h.CheckID] = Check{Status: h.Status, Output: h.Output}
		e.said = said
		e.refreshAt = time.Now().Add(every)
		if differs {
			r.m.took(e)
			r.log.Info("health", "id", e.id, "status", h.Status, "was", is.Status)
		}
	}}
}

// word is what an output of a HEALTHCHECK's check begins with: the engine's state.
func word(output string) string {
	w, _, _ := strings.Cut(output, ":")
	return w
}

// refreshEvery is how often the check of a HEALTHCHECK is refreshed: a third of the time
// after which it turns critical, and not all at the same moment.
func (r *Reconciler) refreshEvery() time.Duration {
	d := r.cfg.Mapping.HealthTTL / 3
	return d - d/10 + rand.N(d/10+1)
}

// lacksCheck tells whether a check that the service shall have is missing.
func (r *Reconciler) lacksCheck(e *entry) bool {
	for _, c := range e.want.Checks {
		if _, ok := e.have.Checks[c.CheckID]; !ok {
			return true
		}
	}
	return false
}

// surplus finds a check of ours that the service shall not have any more. Checks that
// others attached to the service have other ids and stay.
func (r *Reconciler) surplus(e *entry) string {
	for id := range e.have.Checks {
		rest, isOurs := strings.CutPrefix(id, "service:"+e.id)
		if !(isOurs && (rest == "" || rest[0] == ':')) && id != "docker:"+e.id {
			continue
		}
		wanted := false
		for _, c := range e.want.Checks {
			wanted = wanted || c.CheckID == id
		}
		if !wanted {
			return id
		}
	}
	return ""
}

// leave is what OnShutdown asks for.
func (r *Reconciler) leave(e *entry, mine bool) *op {
	switch {
	case !mine:
	case r.cfg.OnShutdown == ShutdownDeregister:
		return r.deregister(e)
	case r.cfg.OnShutdown == ShutdownMaintenance && !e.have.Maintenance:
		return r.maintain(e, "the registrator was stopped")
	}
	return nil
}

// succeed lets those that waited for a registration be looked at again.
func (r *Reconciler) succeed(e *entry, o *op) {
	if o.name != "register" || e.want == nil {
		return
	}
	for _, old := range r.predecessors(docker.Short(e.want.Container)) {
		r.enqueue(old)
	}
}

// start begins a write.
func (r *Reconciler) start(ctx context.Context, e *entry, o *op) {
	e.flying = true
	r.flying++
	r.seq++
	e.touched = r.seq
	r.wg.Go(func() {
		within, cancel := context.WithTimeout(ctx, opTimeout)
		err := o.do(within)
		cancel()
		r.later(ctx, func() { r.done(e, o, err) })
	})
}

// done takes in how a write ended.
func (r *Reconciler) done(e *entry, o *op, err error) {
	e.flying = false
	r.flying--
	r.seq++
	e.touched = r.seq
	r.m.writes(o.name, err)
	now := time.Now()
	r.note(e, o, err)
	if err == nil {
		o.then()
		if e.err != "" {
			r.log.Info("write succeeded after failures", "id", e.id, "op", o.name, "failures", e.failures)
		}
		e.failures, e.err, e.retryAt = 0, "", time.Time{}
		r.enqueue(e)
		r.succeed(e, o)
		return
	}
	e.failures++
	pause := min(retryMin<<min(e.failures-1, 10), retryMax)
	e.retryAt = now.Add(pause/2 + rand.N(pause/2))
	if e.err != err.Error() {
		e.err = err.Error()
		r.log.Warn("write failed; it is tried again", "id", e.id, "op", o.name, "err", err)
	}
	if !r.cat.IsAnswer(err) {
		r.away(err)
		return
	}
	if o.name != "register" { // the agent may not have what we thought it has
		r.readSoon(now)
	}
}
