package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// Step is what a plan says of one service id, or of a container that gets none.
type Step struct {
	Op        string // register, deregister, maintain, check, drop check; keep or ignore where nothing is written
	Container string // name, or short id where it is gone; empty for an entry without one
	ID        string `json:",omitempty"`
	Service   string `json:",omitempty"`
	Address   string `json:",omitempty"` // host:port
	Why       string
}

// Writes tells whether the step changes the catalog.
func (s Step) Writes() bool { return s.Op != "keep" && s.Op != "ignore" }

// Plan reads the agent and says what would be made of a set, without writing. It is for
// a Reconciler that does not Run.
func (r *Reconciler) Plan(ctx context.Context, set watcher.Set) ([]Step, error) {
	if err := r.prepare(ctx, set); err != nil {
		return nil, err
	}
	return r.plan(), nil
}

// Outlook is the plan of a Reconciler that runs: what it is about to write, and why
// everything else stays as it is.
func (r *Reconciler) Outlook(ctx context.Context) (steps []Step, err error) {
	err = r.call(ctx, func() { steps = r.plan() })
	return steps, err
}

func (r *Reconciler) plan() []Step {
	steps, told := []Step{}, map[string]bool{}
	for _, e := range r.entries {
		if s, ok := r.step(e); ok {
			steps = append(steps, s)
			told[s.Container] = true
		}
	}
	for _, v := range r.verdicts {
		name := cmp.Or(v.item.Name, v.item.Short())
		for _, why := range v.taken {
			steps = append(steps, Step{Op: "ignore", Container: name, Why: why})
		}
		if !told[name] && len(v.taken) == 0 {
			steps = append(steps, Step{Op: "ignore", Container: name, Why: cmp.Or(v.item.Reason, strings.Join(v.Reasons, "; "), string(v.item.Phase))})
		}
	}
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(strings.Compare(a.Container, b.Container), strings.Compare(a.ID, b.ID), strings.Compare(a.Why, b.Why))
	})
	return steps
}

// step says what becomes of an entry, where it is one of ours or shall be.
func (r *Reconciler) step(e *entry) (Step, bool) {
	s := Step{ID: e.id}
	mine := e.have != nil && e.have.Owner == r.cfg.Mapping.Owner
	switch {
	case e.want != nil:
		s.Service, s.Address = e.want.Name, net.JoinHostPort(e.want.Address, strconv.Itoa(e.want.Port))
		s.Container = cmp.Or(e.item.Name, e.item.Short())
	case mine || e.orphan > 0:
		s.Container, s.Address = r.nameOf(e.have.Container), net.JoinHostPort(e.have.Address, strconv.Itoa(e.have.Port))
	default:
		return s, false // not ours
	}
	if o := r.next(e, time.Now()); o != nil && o.name != "refresh" {
		s.Op, s.Why = o.name, o.why
		return s, true
	}
	if e.want == nil && e.orphan == 1 { // removed when a second reading shows it again
		s.Op, s.Why = "deregister", r.why(e)
		return s, true
	}
	s.Op = "keep"
	switch {
	case e.conflict != "":
		s.Why = e.conflict
	case e.want == nil:
		s.Why = "it ended, or cannot be inspected; its entry stays"
	case e.have == nil:
		s.Op, s.Why = "ignore", e.out
	case !mine:
		s.Op, s.Why = "ignore", r.foreign(e)
	case e.out != "":
		s.Why = "out of service: " + e.out
	default:
		s.Why = because(e.want)
	}
	return s, true
}

// because says why a service is what it is.
func because(s *mapping.Service) string {
	why := "in the catalog as it runs"
	if s.Health != nil {
		why += ", HEALTHCHECK " + s.Health.Status
	}
	return why
}

// nameOf gives the name of a container by its short id, or that id where it is gone.
func (r *Reconciler) nameOf(short string) string {
	for id, i := range r.set {
		if docker.Short(id) == short {
			return cmp.Or(i.Name, short)
		}
	}
	return short
}

// WriteTable writes steps as a table for people.
func WriteTable(w io.Writer, steps []Step) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CONTAINER\tDOES\tSERVICE\tADDRESS\tID\tWHY")
	or := func(s string) string { return cmp.Or(s, "-") }
	for _, s := range steps {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", or(s.Container), s.Op, or(s.Service), or(s.Address), or(s.ID), or(s.Why))
	}
	return t.Flush()
}
