package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// verdict is what mapping said of a container, kept for as long as it is the same one.
type verdict struct {
	item *watcher.Item
	mapping.Verdict
	taken []string // services that lost their id to another container
}

// goes is 1 for a container that is about to end.
func (v *verdict) goes() int {
	if v.item.Phase == watcher.Draining {
		return 1
	}
	return 0
}

// apply makes a set what shall be.
func (r *Reconciler) apply(set watcher.Set) {
	r.set = set
	r.keep, r.names = map[string]string{}, make(map[string]bool, len(set))
	verdicts := make(map[string]*verdict, len(set))
	order := make([]*verdict, 0, len(set))
	for id, item := range set {
		r.names[item.Name] = true // "" for one whose name is not known
		v := r.judge(item, set)
		verdicts[id] = v
		switch item.Phase {
		case watcher.Unknown:
			r.keep[item.Short()] = ""
		case watcher.Exited:
			r.keep[item.Short()] = item.Reason
		case watcher.Running, watcher.Draining, watcher.Lost:
			order = append(order, v)
		}
	}
	r.warn(verdicts)
	r.verdicts = verdicts
	// An id belongs to the one that does not go, and among those to the oldest.
	slices.SortFunc(order, func(a, b *verdict) int {
		return cmp.Or(a.goes()-b.goes(),
			a.item.StartedAt.Compare(b.item.StartedAt), strings.Compare(a.item.ID, b.item.ID))
	})
	want := make(map[string]*wanted, len(order))
	for _, v := range order {
		v.taken = nil
		for _, s := range v.Services {
			if other, taken := want[s.ID]; taken {
				v.taken = append(v.taken, fmt.Sprintf("id %q is used by container %s", s.ID, docker.Short(other.svc.Container)))
				continue
			}
			if w := r.wanted(s, v.item); w != nil {
				want[s.ID] = w
			}
		}
	}
	for id, w := range want {
		r.demand(r.entry(id), w)
	}
	for id, e := range r.entries {
		if want[id] == nil {
			r.demand(e, &wanted{})
			if e.have != nil && e.have.Owner == r.cfg.Mapping.Owner {
				r.enqueue(e) // its container may not be kept any more
			}
		}
	}
}

// wanted is a service that shall be registered, and why it shall take no traffic.
type wanted struct {
	svc  *mapping.Service
	item *watcher.Item
	out  string
}

// wanted says whether a service shall be there, considering that its container drains.
func (r *Reconciler) wanted(s *mapping.Service, item *watcher.Item) *wanted {
	w := &wanted{svc: s, item: item, out: s.Maintenance}
	switch item.Phase {
	case watcher.Lost:
		w.out = item.Reason
		return w
	case watcher.Running:
		return w
	}
	switch cmp.Or(s.Drain, r.cfg.Drain) {
	case DrainMaintenance:
		w.out = item.Reason
	case DrainOff:
	default:
		return nil
	}
	return w
}

// demand sets what shall be of an entry.
func (r *Reconciler) demand(e *entry, w *wanted) {
	if e.want != w.svc || e.out != w.out {
		e.want, e.out = w.svc, w.out
		r.enqueue(e)
	}
	if w.svc != nil {
		e.token = w.svc.Token
	}
	e.item = w.item
}

// judge maps a container, or takes the verdict that there is.
func (r *Reconciler) judge(item *watcher.Item, set watcher.Set) *verdict {
	joined := strings.HasPrefix(item.NetworkMode, "container:")
	if old := r.verdicts[item.ID]; old != nil && old.item.Container == item.Container && !joined {
		return &verdict{item: item, Verdict: old.Verdict}
	}
	v := &verdict{item: item}
	if item.Running() {
		v.Verdict = mapping.Map(&r.cfg.Mapping, item.Container, func(ref string) *docker.Container { return lookup(set, ref) })
	}
	return v
}

// lookup finds a running container by id, the beginning of one, or name.
func lookup(set watcher.Set, ref string) *docker.Container {
	if i := set[ref]; i != nil {
		return alive(i)
	}
	for id, i := range set {
		if i.Name == ref || (len(ref) >= 4 && strings.HasPrefix(id, ref)) {
			return alive(i)
		}
	}
	return nil
}

func alive(i *watcher.Item) *docker.Container {
	if !i.Running() {
		return nil
	}
	return i.Container
}

// warn logs what is new of a container's verdict: once, not each time it is looked at.
func (r *Reconciler) warn(now map[string]*verdict) {
	for id, v := range now {
		if old := r.verdicts[id]; old != nil && slices.Equal(old.Warnings, v.Warnings) {
			continue
		}
		for _, w := range v.Warnings {
			r.log.Warn("setting not used", "container", v.item.Name, "id", v.item.Short(), "what", w)
		}
	}
}

// why words the end of a registration.
func (r *Reconciler) why(e *entry) string {
	switch {
	case e.leaving:
		return "the registrator was stopped"
	case e.orphan > 0:
		return "left behind by gliderlabs/registrator: there is no such container"
	}
	for id, item := range r.set {
		if docker.Short(id) != e.have.Container {
			continue
		}
		if item.Reason != "" {
			return item.Reason
		}
		if v := r.verdicts[id]; v != nil && len(v.Services) == 0 && len(v.Reasons) > 0 {
			return strings.Join(v.Reasons, "; ")
		}
		return "its container does not have this id any more"
	}
	return "its container does not run"
}

// leftOver counts the readings in a row in which an entry without an owner has the form
// of an id of this host's, and no container to it.
func (r *Reconciler) leftOver(e *entry) {
	host, rest, ok := strings.Cut(e.id, ":")
	parts := strings.Split(rest, ":")
	if !r.cfg.Cleanup || !ok || r.names[""] || host != r.cfg.Mapping.Host || e.have == nil || e.have.Owner != "" || e.want != nil || r.set == nil ||
		len(parts) < 2 || len(parts) > 3 || !digits(parts[1]) || (len(parts) == 3 && parts[2] != "udp") || r.names[parts[0]] || !r.here(e.have.Address) {
		e.orphan = 0
		return
	}
	if e.orphan++; e.orphan == 1 {
		r.readSoon(time.Now())
	}
}

// here tells whether an address may be one of this host's.
func (r *Reconciler) here(addr string) bool {
	m := r.cfg.Mapping
	if m.Address == mapping.AddressContainer {
		return true // it was the container's, and nobody can say whose that was
	}
	return addr == "" || addr == m.IP || addr == m.HostAddress || addr == "127.0.0.1"
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// waiter waits until containers are out of service.
type waiter struct {
	ids  []string
	done chan struct{}
}

// Drained waits until everything of these containers, which are to be draining, is out
// of service in the catalog. One that stands by cannot bring that about.
func (r *Reconciler) Drained(ctx context.Context, ids []string) error {
	w := &waiter{ids: ids, done: make(chan struct{})}
	by := ""
	if err := r.call(ctx, func() {
		if by = r.standby; by == "" {
			r.waiters = append(r.waiters, w)
		}
	}); err != nil {
		return err
	}
	if by != "" {
		return errors.New(by)
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = r.call(short, func() { // the owner may have ended; then there is nothing to forget
			r.waiters = slices.DeleteFunc(r.waiters, func(x *waiter) bool { return x == w })
		})
		return context.Cause(ctx)
	}
}

// wake ends the waits that are fulfilled.
func (r *Reconciler) wake() {
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
		for _, id := range w.ids {
			if i := r.set[id]; i != nil && i.Phase != watcher.Draining {
				return false
			}
			for _, e := range r.entries {
				if e.want != nil && e.out == "" {
					continue // it is not to be drained
				}
				if e.have != nil && e.have.Container == docker.Short(id) && e.have.Owner == r.cfg.Mapping.Owner && !e.have.Maintenance {
					return false
				}
			}
		}
		close(w.done)
		return true
	})
}
