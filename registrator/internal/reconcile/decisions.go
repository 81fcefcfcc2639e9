package reconcile

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
)

// Decision is one write that was made, or tried.
type Decision struct {
	At        time.Time
	Op        string
	ID        string
	Container string // name, or short id
	Why       string
	Err       string `json:",omitempty"`
}

// maxDecisions is how many of the latest are remembered.
const maxDecisions = 100

// note remembers a write. Refreshes are no decisions, and a failure that is the same as
// before is told once.
func (r *Reconciler) note(e *entry, o *op, err error) {
	if o.name == "refresh" && err == nil || err != nil && err.Error() == e.err {
		return
	}
	d := Decision{At: time.Now(), Op: o.name, ID: e.id, Why: o.why}
	switch {
	case e.item != nil && e.item.Container != nil:
		d.Container = cmp.Or(e.item.Name, e.item.Short())
	case e.have != nil:
		d.Container = r.nameOf(docker.Short(e.have.Container))
	}
	if err != nil {
		d.Err = err.Error()
	}
	if len(r.decisions) == maxDecisions {
		r.decisions = slices.Delete(r.decisions, 0, 1)
	}
	r.decisions = append(r.decisions, d)
}

// Decisions gives the latest writes, the latest first.
func (r *Reconciler) Decisions(ctx context.Context) ([]Decision, error) {
	var out []Decision
	err := r.call(ctx, func() { out = slices.Clone(r.decisions) })
	slices.Reverse(out)
	return out, err
}
