package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// Verdict is one container as people see it: what became of it, and why.
type Verdict struct {
	ID       string
	Name     string
	Image    string
	State    string // the engine's
	Phase    string
	Verdict  string // registered, pending, ignored, draining, held, failing, conflict, …
	Reason   string `json:",omitempty"`
	Services []Service
	Warnings []string `json:",omitempty"`
}

// Service is one service of a container.
type Service struct {
	ID      string
	Name    string
	Address string // host:port
	Tags    []string
	Status  string // registered, pending, failing, draining, maintenance, conflict
	Health  string `json:",omitempty"`
	Reason  string `json:",omitempty"`
}

// Verdicts shows all containers, by name.
func (r *Reconciler) Verdicts(ctx context.Context) ([]Verdict, error) {
	out := []Verdict{}
	err := r.call(ctx, func() {
		for _, v := range r.verdicts {
			out = append(out, r.show(v))
		}
	})
	slices.SortFunc(out, func(a, b Verdict) int { return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID)) })
	return out, err
}

func (r *Reconciler) show(v *verdict) Verdict {
	out := Verdict{
		ID: v.item.ID, Name: v.item.Name, Image: v.item.Image, State: v.item.State, Phase: string(v.item.Phase),
		Services: []Service{}, Warnings: v.Warnings, Verdict: "ignored",
	}
	reasons := slices.Concat(v.Reasons, v.taken)
	if v.item.Reason != "" {
		reasons = append([]string{v.item.Reason}, reasons...)
	}
	out.Reason = strings.Join(reasons, "; ")
	for _, s := range v.Services {
		x := Service{ID: s.ID, Name: s.Name, Tags: s.Tags, Address: net.JoinHostPort(s.Address, strconv.Itoa(s.Port))}
		if s.Health != nil {
			x.Health = s.Health.Status
		}
		x.Status, x.Reason = r.status(r.entries[s.ID], v.item)
		out.Services = append(out.Services, x)
		if out.Verdict == "ignored" || x.Status != "registered" {
			out.Verdict = x.Status
		}
	}
	if v.item.Phase != watcher.Running {
		out.Verdict = string(v.item.Phase)
	}
	return out
}

func (r *Reconciler) status(e *entry, item *watcher.Item) (status, reason string) {
	switch {
	case item.Phase != watcher.Running && item.Phase != watcher.Draining && item.Phase != watcher.Lost:
		return string(item.Phase), item.Reason
	case e == nil || e.want == nil:
		if item.Phase == watcher.Draining {
			return "draining", item.Reason
		}
		return "pending", ""
	case e.want.Container != item.ID:
		return "conflict", "the id is used by container " + docker.Short(e.want.Container)
	case e.conflict != "":
		return "conflict", e.conflict
	case e.have != nil && e.have.Owner != r.cfg.Mapping.Owner && e.err == "" && r.next(e, time.Now()) == nil:
		return "conflict", r.foreign(e)
	case e.err != "":
		return "failing", e.err
	case !r.connected:
		return "pending", "the catalog is away: " + r.err
	case e.have == nil || e.have.Hash != e.want.Hash:
		return "pending", cmp.Or(e.out, r.standby)
	case e.have.Maintenance:
		return "maintenance", e.have.Reason
	}
	return "registered", ""
}

func (r *Reconciler) foreign(e *entry) string {
	if e.have.Owner == "" {
		return "the id was registered by something else, and -adopt is false"
	}
	return fmt.Sprintf("the id belongs to owner %q; give this host another -host, or take the entry over with -adopt=all", e.have.Owner)
}

// Once makes the agent equal to a set and returns when it is, or with the first error.
// It is for a Reconciler that does not Run.
func (r *Reconciler) Once(ctx context.Context, set watcher.Set) error {
	if err := r.prepare(ctx, set); err != nil {
		return err
	}
	for _, e := range r.entries {
		for range 16 { // each write brings it closer; more than this is no progress
			o := r.next(e, time.Now())
			if o == nil {
				break
			}
			if err := o.do(ctx); err != nil {
				return fmt.Errorf("%s %s: %w", o.name, e.id, err)
			}
			o.then()
		}
	}
	return nil
}

func (r *Reconciler) prepare(ctx context.Context, set watcher.Set) error {
	got, err := r.cat.Read(ctx)
	if err != nil {
		return fmt.Errorf("read the catalog: %w", err)
	}
	r.apply(set)
	r.learn(got, r.seq)
	return nil
}

// Birth is when a container started and when its service was written.
type Birth struct {
	ID                string // of the service
	Started, Finished time.Time
}

// Births gives the n that were written last, the newest last.
func (r *Reconciler) Births(ctx context.Context, n int) ([]Birth, error) {
	var out []Birth
	err := r.call(ctx, func() {
		for _, e := range r.entries {
			if e.written && e.wrote != "" && e.item != nil {
				out = append(out, Birth{e.id, e.item.StartedAt, e.wroteAt})
			}
		}
	})
	slices.SortFunc(out, func(a, b Birth) int { return cmp.Or(a.Finished.Compare(b.Finished), strings.Compare(a.ID, b.ID)) })
	return out[max(0, len(out)-n):], err
}
