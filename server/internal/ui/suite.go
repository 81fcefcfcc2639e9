package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/announce"
	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// suite are the registrators and templaters that announce themselves, by node.
type suite []*announce.Report

func newSuite(pairs []*api.KVPair) suite {
	out := suite{}
	for _, p := range pairs {
		if r, ok := announce.Read(p.Value); ok && p.Session != "" {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *announce.Report) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Host, b.Host), a.Started.Compare(b.Started))
	})
	return out
}

// suite gives those that the viewer may see; none where they cannot be read. They are
// asked for once a request.
func (r *request) suite() suite {
	if r.known == nil {
		r.known = suite{}
		if s, err := r.ui.hub.get(r.Context(), r.topic(endpoint.KVList, announce.Prefix)); err == nil {
			r.known = s.value.(suite)
		}
	}
	return r.known
}

// on gives those beside a node.
func (s suite) on(node string) suite {
	var out suite
	for _, r := range s {
		if r.Node == node {
			out = append(out, r)
		}
	}
	return out
}

// same reports whether two reports are of the same program.
func same(a, b *announce.Report) bool {
	return a.Kind == b.Kind && a.Node == b.Node && a.Host == b.Host && a.Started.Equal(b.Started)
}

// news tells what happened since an earlier state: applies, and faults that began.
func (s suite) news(old suite, at time.Time) []*event {
	var out []*event
	for _, r := range s {
		i := slices.IndexFunc(old, func(o *announce.Report) bool { return same(o, r) })
		if i < 0 {
			continue // what it did before it was known is no news
		}
		was := old[i]
		for _, a := range r.Applies {
			if n := len(was.Applies); n > 0 && !a.At.After(was.Applies[n-1].At) {
				continue
			}
			out = append(out, &event{
				Kind: reloaded, At: at, Node: r.Node, Status: api.Passing, Index: a.Index,
				Cause: fmt.Sprintf("%s, of index %d, %s after it was rendered", a.Group, a.Index, span(a.At.Sub(a.Rendered))),
			})
		}
		if r.Fault != "" && was.Fault != r.Fault {
			out = append(out, &event{Kind: refused, At: at, Node: r.Node, Service: r.Kind, Status: api.Critical, Cause: clip(r.Fault, 300)})
		}
	}
	return out
}

// birth finds when the container of an instance started, and when it was registered.
func (s suite) birth(node, id string) (announce.Birth, bool) {
	for _, r := range s {
		for _, b := range slices.Backward(r.Births) {
			if b.Service == id && (r.Node == node || r.Kind == announce.Registrator) {
				return b, true
			}
		}
	}
	return announce.Birth{}, false
}

// end finds why a registrator took an instance out at about some time.
func (s suite) end(node, id string, at time.Time) string {
	for _, r := range s {
		for _, e := range slices.Backward(r.Ends) {
			if e.Service == id && r.Node == node && at.Sub(e.At).Abs() < time.Minute {
				return e.Why
			}
		}
	}
	return ""
}

// cause says why an event happened: of what a registrator took out, it knows best.
func (r *request) cause(e *event) string {
	if e.Kind != deregistered || e.Instance == "" {
		return e.Cause
	}
	return cmp.Or(r.suite().end(e.Node, e.Instance, e.At), e.Cause)
}

// served is when a templater's nginx served a change.
type served struct {
	node string
	announce.Apply
}

// after finds, for every templater whose files have a service, the first apply that has
// what was committed at an index.
func (s suite) after(service string, index uint64, at time.Time) (out []served, waiting int) {
	for _, r := range s {
		if r.Kind != announce.Templater || !slices.ContainsFunc(r.Groups, func(g announce.Group) bool { return slices.Contains(g.Services, service) }) {
			continue
		}
		found := false
		for _, a := range r.Applies {
			if a.Index >= index && a.At.After(at.Add(-5*time.Second)) {
				out = append(out, served{r.Node, a})
				found = true
				break
			}
		}
		if !found && (len(r.Applies) == 0 || r.Applies[0].Index < index) && time.Since(at) < 10*time.Second {
			waiting++
		}
	}
	return out, waiting
}

// keeping finds who has a service in its files, and not yet what was committed at an index,
// for a reason that it tells.
func (s suite) keeping(service string, index uint64) (out fronts) {
	for _, f := range s.fronts() {
		if f.has(service) && f.Index < index && f.why() != "" {
			out = append(out, f)
		}
	}
	return out
}

// step is a stage of a change's way, with how long after the one before.
type step struct{ name, text, class string }

// trail is a change's way through the house.
type trail []step

// trails gives the ways of the changes of instances, as far as they are known: those who
// took part tell when they had it, each by its own clock.
func (r *request) trails(events []*event) map[*event]trail {
	known := r.suite()
	if len(known) == 0 {
		return nil
	}
	out := map[*event]trail{}
	for _, e := range events {
		if e.Instance == "" || e.Index == 0 {
			continue
		}
		if t := known.trail(e); len(t) > 1 {
			out[e] = t
		}
	}
	return out
}

func (s suite) trail(e *event) trail {
	var t trail
	committed := e.At
	if b, ok := s.birth(e.Node, e.Instance); ok && e.Kind == registered && e.At.Sub(b.Registered).Abs() < time.Minute {
		t = append(t, step{name: "container started", text: b.Started.Local().Format("15:04:05.000")})
		t = append(t, step{name: "registered", text: later(b.Started, b.Registered)})
		committed = b.Registered // that answer waits for the commit
	}
	t = append(t, step{name: "committed", text: "at index " + utoa(e.Index)})
	done, waiting := s.after(e.Service, e.Index, e.At)
	for _, d := range done {
		if len(t) > 6 {
			break
		}
		t = append(t, step{name: "rendered", text: later(committed, d.Rendered)})
		does := " has the change"
		if e.Status == api.Passing && e.Kind != deregistered {
			does = " serves it"
		}
		t = append(t, step{name: "nginx on " + d.node + does, text: later(d.Rendered, d.At), class: "end"})
	}
	for _, f := range s.keeping(e.Service, e.Index) {
		t = append(t, step{name: "kept from " + f.name(), class: "waiting"})
		waiting = max(0, waiting-1)
	}
	if waiting > 0 {
		t = append(t, step{name: "on its way to " + many(waiting, "templater"), class: "waiting"})
	}
	return t
}

func agentsPage(r *request) (view, error) {
	c, err := r.catalog()
	if err != nil {
		c = nil // they are shown without it
	}
	return view{title: "Agents", body: agents(r, c, r.suite()), topics: suiteTopic, every: 10 * time.Second}, nil
}

// later says how long after one moment another was; nothing where clocks differ too much
// to tell.
func later(from, to time.Time) string {
	if to.Before(from) {
		return ""
	}
	return "+" + span(to.Sub(from))
}

// maxReason is how much of a reason is shown, in characters.
const maxReason = 400

// headline answers the first question in a sentence: the catalog, and where all is well
// there, those who act on it.
func (s suite) headline(c *catalog) (text, status string) {
	text, status = headline(c)
	var ill suite
	for _, r := range s {
		if r.Fault != "" || slices.ContainsFunc(r.Groups, func(g announce.Group) bool { return !g.Behind.IsZero() }) {
			ill = append(ill, r)
		}
	}
	switch {
	case len(ill) == 0 || status != api.Passing || len(c.Nodes) == 0:
		return text, status
	case len(ill) == 1:
		return text + ", but not the " + ill[0].Kind + " beside " + ill[0].Node, api.Warning
	}
	return text + ", but not " + many(len(ill), "agent") + " beside them", api.Warning
}

// ownFault is what keeps a program from its work, unless one of its groups tells it.
func ownFault(a *announce.Report) string {
	if slices.ContainsFunc(a.Groups, func(g announce.Group) bool { return a.Fault == cmp.Or(g.Fault, g.Held) }) {
		return ""
	}
	return a.Fault
}

// facts are a program's numbers in words.
func facts(a *announce.Report) string {
	var out []string
	for _, f := range a.Facts {
		out = append(out, many(f.Value, f.Name))
	}
	return strings.Join(out, ", ")
}
