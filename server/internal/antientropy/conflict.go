package antientropy

import (
	"maps"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// calm is how long after a write of ours a reading is taken for what others did: a server
// that lags may not have the write yet.
const calm = 10 * time.Second

// named is how many rows a line of log names.
const named = 8

// foreign names what differs between what the catalog was known to have and what it has:
// rows that somebody wrote past this agent. The leader's own are left out, and so are tags
// that the catalog may override (A7).
func foreign(known, has *remote) []string {
	var out []string
	for _, id := range union(known.services, has.services) {
		a, b := known.services[id], has.services[id]
		switch {
		case id == api.ServerService:
		case a == nil:
			out = append(out, "service "+id+" added")
		case b == nil:
			out = append(out, "service "+id+" removed")
		default:
			if a.EnableTagOverride && b.EnableTagOverride {
				same := *a
				same.Tags = b.Tags
				a = &same
			}
			if !a.Equal(b) {
				out = append(out, "service "+id+" changed")
			}
		}
	}
	for _, id := range union(known.checks, has.checks) {
		a, b := known.checks[id], has.checks[id]
		service := ""
		if a != nil {
			service = a.ServiceID
		} else {
			service = b.ServiceID
		}
		switch {
		case id == api.SerfHealth || service == api.ServerService:
		case service != "" && (known.services[service] == nil) != (has.services[service] == nil): // came or went with its service
		case a == nil:
			out = append(out, "check "+id+" added")
		case b == nil:
			out = append(out, "check "+id+" removed")
		case !sameCheck(a, b):
			out = append(out, "check "+id+" changed")
		}
	}
	return out
}

// union gives the keys of both maps, in order.
func union[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// tellForeign says that this agent overwrites what others wrote (A9).
func (s *Syncer) tellForeign(node string, rows []string) {
	if len(rows) == 0 {
		return
	}
	s.log.Warn("the catalog was written past this agent, which puts its own rows back; register with the agent instead",
		"node", node, "rows", rows[:min(len(rows), named)], "count", len(rows))
}

// tellStrangers says which rows the first reading found that went, because the agent does
// not know them.
func (s *Syncer) tellStrangers(node string, d difference) {
	var rows []string
	for _, st := range d.steps {
		switch {
		case st.deregister == nil:
		case st.deregister.ServiceID != "":
			rows = append(rows, "service "+st.deregister.ServiceID)
		default:
			rows = append(rows, "check "+st.deregister.CheckID)
		}
	}
	if len(rows) > 0 {
		s.log.Info("the catalog had rows of this node that its agent does not know; they were removed",
			"node", node, "rows", rows[:min(len(rows), named)], "count", len(rows))
	}
}
