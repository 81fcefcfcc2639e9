package ui

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

const (
	maxEvents  = 3000           // some 600 bytes each
	maxAge     = 12 * time.Hour // of an event
	crowd      = 12             // so many of a kind at once become one event
	slotTime   = time.Minute    // of a sparkline
	slots      = 60
	maxHistory = 5000 // services that have a history
)

// kind is what an event tells.
type kind string

const (
	registered   kind = "registered"
	deregistered kind = "deregistered"
	moved        kind = "moved" // registered anew at another address
	turned       kind = "turned"
	joined       kind = "joined"
	gone         kind = "gone"
	led          kind = "leader"
	reloaded     kind = "reloaded"
	refused      kind = "refused"
)

// event is one change. It is never changed.
type event struct {
	Seq      uint64
	At       time.Time // when this agent saw it
	Kind     kind
	Status   string // after it
	Node     string
	Service  string
	Instance string // id, where it is about one
	Count    int    // how many, where it is about several
	Cause    string
	Index    uint64 // the commit that brought it, 0 if unknown
}

// key is that of the instance that the event is about.
func (e *event) key() string { return e.Node + "\x00" + e.Instance }

// diff tells what changed from a catalog to the next.
func diff(old, now *catalog, at time.Time) []*event {
	var out []*event
	tell := func(e event) { e.At = at; out = append(out, &e) }
	for _, n := range now.Nodes {
		was := old.node(n.Node)
		switch {
		case was == nil:
			tell(event{Kind: joined, Node: n.Node, Status: n.Status, Cause: "at " + n.Address, Index: now.Index})
		case was.Status != n.Status:
			tell(event{Kind: turned, Node: n.Node, Status: n.Status, Cause: cause(n.Own, n.Status), Index: now.Index})
		}
	}
	lost := map[string]bool{}
	for _, n := range old.Nodes {
		if now.node(n.Node) == nil {
			lost[n.Node] = true
			why := "it left, or was deregistered"
			if n.Status == api.Critical {
				why = "it had failed"
			}
			tell(event{Kind: gone, Node: n.Node, Index: now.Index, Cause: why})
		}
	}
	for _, n := range now.Nodes {
		for _, i := range n.Instances {
			e := event{Node: n.Node, Service: i.Service.Service, Instance: i.ID, Status: i.Status, Index: i.ModifyIndex}
			was := old.Instances[i.key()]
			switch {
			case was == nil:
				e.Kind, e.Cause = registered, "at "+i.At()
				if i.Status != api.Passing {
					e.Cause += "; " + cause(i.Checks, i.Status)
				}
				tell(e)
				continue
			case was.At() != i.At():
				e.Kind, e.Cause = moved, "from "+was.At()+" to "+i.At()
				tell(e)
			}
			if was.Status != i.Status && was.On.Status == n.Status { // what its node does is told of the node
				e.Kind, e.Cause, e.Index = turned, cause(i.Checks, i.Status), now.Index
				tell(e)
			}
		}
	}
	for _, n := range old.Nodes {
		for _, i := range n.Instances {
			if now.Instances[i.key()] == nil {
				e := event{Kind: deregistered, Node: n.Node, Service: i.Service.Service, Instance: i.ID, Status: i.Status, Index: now.Index}
				switch {
				case lost[n.Node]:
					e.Cause = "its node is gone"
				case i.Status == maintenance:
					e.Cause = "drained before"
				case i.Status == api.Critical:
					e.Cause = "it was critical"
				}
				tell(e)
			}
		}
	}
	return gather(out)
}

// cause says why a state is what it is: the check, and the first line it printed.
func cause(checks []*api.Check, status string) string {
	c := culprit(checks, status)
	if c == nil {
		return ""
	}
	if status == maintenance {
		return c.Notes
	}
	out, _, _ := strings.Cut(strings.TrimSpace(c.Output), "\n")
	if out == "" {
		return c.Name
	}
	return c.Name + ": " + clip(out, 160)
}

// gather makes one event of many of a kind about one service.
func gather(all []*event) []*event {
	type group struct {
		kind            kind
		service, status string
	}
	of := func(e *event) group { return group{e.Kind, e.Service, e.Status} }
	sizes := map[group]int{}
	for _, e := range all {
		sizes[of(e)]++
	}
	var out []*event
	first := map[group]*event{}
	for _, e := range all {
		g := of(e)
		if sizes[g] < crowd {
			out = append(out, e)
			continue
		}
		if many := first[g]; many != nil {
			many.Count++
			many.Index = max(many.Index, e.Index)
			continue
		}
		many := *e
		many.Count, many.Node, many.Instance, many.Cause = 1, "", "", ""
		first[g] = &many
		out = append(out, &many)
	}
	return out
}

// timeline keeps the last events, and how services were.
type timeline struct {
	mu      sync.Mutex
	seq     uint64
	events  []*event // the oldest first
	since   time.Time
	moved   chan struct{}
	history map[string]*history
}

// history is how many of a service's instances were in each state but passing, minute by
// minute, at most.
type history struct {
	last  int64 // the newest slot's minute
	now   slot
	slots [slots]slot
}

type slot struct{ critical, maintenance, warning, all uint16 }

// worst takes the most of each.
func (s slot) worst(o slot) slot {
	return slot{max(s.critical, o.critical), max(s.maintenance, o.maintenance), max(s.warning, o.warning), max(s.all, o.all)}
}

func newTimeline(now time.Time) *timeline {
	return &timeline{since: now, moved: make(chan struct{}), history: map[string]*history{}}
}

// add takes events in.
func (t *timeline) add(events ...*event) {
	if len(events) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range events {
		t.seq++
		e.Seq = t.seq
		t.events = append(t.events, e)
	}
	old := max(0, len(t.events)-maxEvents)
	for old < len(t.events) && events[0].At.Sub(t.events[old].At) > maxAge {
		old++
	}
	if old > 0 {
		t.events = slices.Clone(t.events[old:])
	}
	close(t.moved)
	t.moved = make(chan struct{})
}

// now gives how many events there were ever, and a channel that closes with the next.
func (t *timeline) now() (uint64, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq, t.moved
}

// latest gives at most n events that keep holds of, the newest first.
func (t *timeline) latest(n int, keep func(*event) bool) []*event {
	t.mu.Lock()
	all := t.events
	t.mu.Unlock()
	var out []*event
	for _, e := range slices.Backward(all) {
		if len(out) == n {
			break
		}
		if keep(e) {
			out = append(out, e)
		}
	}
	return out
}

// note writes down how all services are in the minute of at.
func (t *timeline) note(c *catalog, at time.Time) {
	minute := at.Unix() / int64(slotTime/time.Second)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range c.Services {
		h := t.history[s.Name]
		if h == nil {
			if len(t.history) >= maxHistory {
				continue
			}
			h = &history{last: minute - 1}
			t.history[s.Name] = h
		}
		h.advance(minute)
		h.now = slot{cap16(s.Counts.Critical), cap16(s.Counts.Maintenance), cap16(s.Counts.Warning), cap16(s.Counts.Total())}
		h.slots[minute%slots] = h.slots[minute%slots].worst(h.now)
	}
	maps.DeleteFunc(t.history, func(_ string, h *history) bool { return minute-h.last > slots })
}

func cap16(n int) uint16 { return uint16(min(n, 1<<16-1)) }

// advance opens the slots up to a minute. Between two looks a service is as it was.
func (h *history) advance(minute int64) {
	if minute-h.last > slots {
		h.last = minute - slots
	}
	for h.last < minute {
		h.last++
		h.slots[h.last%slots] = h.now
	}
}

// point is one minute of a sparkline. An instance that was in two states counts in both.
type point struct{ Critical, Maintenance, Warning, All int }

// upTo is how many were in a state or in one that is told before it.
func (p point) upTo(status string) int {
	switch status {
	case api.Critical:
		return min(p.Critical, p.All)
	case maintenance:
		return min(p.Critical+p.Maintenance, p.All)
	case api.Warning:
		return min(p.Critical+p.Maintenance+p.Warning, p.All)
	}
	return p.All
}

// past gives a service's last hour, the oldest minute first.
func (t *timeline) past(name string) []point {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.history[name]
	if h == nil {
		return nil
	}
	out := make([]point, 0, slots)
	for m := h.last - slots + 1; m <= h.last; m++ {
		at := h.slots[m%slots]
		out = append(out, point{int(at.critical), int(at.maintenance), int(at.warning), int(at.all)})
	}
	return out
}

// sentence says what an event tells. A leader, known by its address, has its node's name
// where the viewer sees that.
func (r *request) sentence(e *event) string {
	if e.Kind != led || e.Node == "" {
		return e.sentence()
	}
	return r.serverAt(e.Node) + " leads"
}

// leader is who leads the viewer's datacenter as this agent knows it, "" if nobody does.
func (r *request) leader() string {
	if st := r.ui.standing.Load(); r.dc == "" && st.Leader != "" {
		return r.serverAt(st.Leader)
	}
	return ""
}

// serverAt names the server at an address, by that where the viewer sees no more.
func (r *request) serverAt(address string) string {
	if c, err := r.catalog(); err == nil {
		return cmp.Or(c.serverAt(address), address)
	}
	return address
}

// sentence says what an event tells, without its cause.
func (e *event) sentence() string {
	what := e.Instance
	if what == "" {
		what = e.Node
	}
	switch e.Kind {
	case registered, deregistered:
		if e.Count > 0 {
			return fmt.Sprintf("%d instances of %s %s", e.Count, e.Service, e.Kind)
		}
		return what + " " + string(e.Kind)
	case moved:
		return what + " moved"
	case turned:
		word := map[string]string{api.Passing: "well again", api.Warning: "in warning", api.Critical: "critical", maintenance: "taken out for maintenance"}[e.Status]
		if e.Count > 0 && e.Service != "" {
			return fmt.Sprintf("%d instances of %s %s", e.Count, e.Service, word)
		}
		if e.Count > 0 {
			return fmt.Sprintf("%d nodes %s", e.Count, word)
		}
		return what + " " + word
	case joined, gone:
		word := map[kind]string{joined: "joined", gone: "gone from the catalog"}[e.Kind]
		if e.Count > 0 {
			return fmt.Sprintf("%d nodes %s", e.Count, word)
		}
		return e.Node + " " + word
	case reloaded:
		return "nginx on " + e.Node + " serves a change"
	case refused:
		return e.Service + " on " + e.Node + " has a fault"
	case led:
		if e.Node == "" {
			return "No leader"
		}
		return e.Node + " leads"
	}
	return what + " " + string(e.Kind)
}
