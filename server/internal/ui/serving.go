package ui

import (
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/announce"
	"github.com/rollcall/rollcall/internal/api"
)

// front is an nginx with what it serves: a group of a templater's files.
type front struct {
	*announce.Group
	by     *announce.Report
	places map[string]bool
}

// fronts are every nginx whose templater announces itself.
type fronts []*front

func (s suite) fronts() fronts {
	var out fronts
	for _, r := range s {
		for at := range r.Groups {
			out = append(out, newFront(r, &r.Groups[at]))
		}
	}
	return out
}

func newFront(r *announce.Report, g *announce.Group) *front {
	f := &front{Group: g, by: r, places: make(map[string]bool, len(g.Places))}
	for _, p := range g.Places {
		f.places[p] = true
	}
	return f
}

// told reports whether the front says which instances it serves. Beyond
// announce.MaxPlaces it does not.
func (f *front) told() bool { return f.Servers == 0 || len(f.Places) > 0 }

// has reports whether the front's files are about a service.
func (f *front) has(service string) bool { return slices.Contains(f.Services, service) }

// serves reports whether the front sends requests to an instance: by its address and port,
// which is what nginx knows.
func (f *front) serves(i *instance) bool { return f.places[i.At()] && f.has(i.Service.Service) }

// name says which nginx it is; the group only where there are several beside a node.
func (f *front) name() string {
	if len(f.by.Groups) > 1 {
		return f.Name + " on " + f.by.Node
	}
	return "nginx on " + f.by.Node
}

// share says how many of a service's instances a front serves.
func (f *front) share(sv *service) string {
	if sv == nil {
		return "none registered"
	}
	if !f.told() {
		return many(len(sv.Instances), "instance")
	}
	n := 0
	for _, i := range sv.Instances {
		if f.places[i.At()] {
			n++
		}
	}
	return number(n) + " of " + number(len(sv.Instances))
}

// tag is a service's name, with its share where the catalog is known.
func (f *front) tag(c *catalog, service string) string {
	if c == nil {
		return service
	}
	return service + " " + f.share(c.service(service))
}

// lacks says in what a front's live files differ from the catalog, as far as the viewer
// sees that: passing instances that are not in, others that still are.
func (f *front) lacks(c *catalog) string {
	if c == nil || !f.told() {
		return ""
	}
	missing, still := 0, 0
	for _, name := range f.Services {
		sv := c.service(name)
		if sv == nil {
			continue
		}
		for _, i := range sv.Instances {
			switch in := f.places[i.At()]; {
			case !in && i.Status == api.Passing:
				missing++
			case in && (i.Status == api.Critical || i.Status == maintenance):
				still++
			}
		}
	}
	var out []string
	if missing > 0 {
		out = append(out, many(missing, "passing instance")+" not in yet")
	}
	if still > 0 {
		out = append(out, many(still, "instance")+" still in that should not be")
	}
	return strings.Join(out, ", ")
}

// late says since when a front is behind the catalog, "" where it is not.
func (f *front) late() string {
	if f.Behind.IsZero() {
		return ""
	}
	return "behind for " + ago(time.Since(f.Behind))
}

// why says what keeps newer files from a front, "" where nothing does.
func (f *front) why() string {
	if f.Fault == "" && f.Held != "" {
		return "held: " + f.Held
	}
	return f.Fault
}

// fronts gives every nginx that the viewer may see; they are gathered once a request.
func (r *request) fronts() fronts {
	if !r.gathered {
		r.serving, r.gathered = r.suite().fronts(), true
	}
	return r.serving
}

// servedBy names who serves an instance, "" if nobody does.
func (r *request) servedBy(i *instance) string {
	var names []string
	for _, f := range r.fronts() {
		if f.serves(i) {
			names = append(names, f.name())
		}
	}
	return strings.Join(names, ", ")
}

// mark is the class of an instance's tile where nginx serves it.
func (r *request) mark(i *instance) string {
	if slices.ContainsFunc(r.fronts(), func(f *front) bool { return f.serves(i) }) {
		return "served"
	}
	return ""
}

// of gives the fronts whose files are about a service.
func (all fronts) of(service string) fronts {
	var out fronts
	for _, f := range all {
		if f.has(service) {
			out = append(out, f)
		}
	}
	return out
}
