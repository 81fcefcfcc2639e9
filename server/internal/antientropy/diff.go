package antientropy

import (
	"maps"
	"slices"

	"github.com/rollcall/rollcall/internal/api"
)

// difference is what has to be written.
type difference struct {
	node  *api.Registration // the node alone, nil if it is right
	steps []step
}

// step is one write: exactly one is set.
type step struct {
	register   *api.Registration
	deregister *api.Deregistration
}

// diff compares what shall be with what the catalog has. Checks travel with their
// service, so that none is without the other for a moment (A1). What the catalog has
// and the agent does not know goes, but for what the leader keeps there (A3).
func diff(node api.Registration, services map[string]*api.Service, checks map[string]*api.Check, have *remote, outputs map[string]bool) difference {
	var d difference
	if !sameNode(node, have.node) {
		n := node
		d.node = &n
	}
	base := node
	base.SkipNodeUpdate = true
	changed := map[string][]*api.Check{} // by service, "" is the node
	for _, id := range slices.Sorted(maps.Keys(checks)) {
		c := checks[id]
		if old := have.checks[id]; old == nil || !sameCheck(c, old) || outputs[id] {
			changed[c.ServiceID] = append(changed[c.ServiceID], c)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(services)) {
		want := services[id]
		old := have.services[id]
		if old != nil && want.EnableTagOverride { // the catalog's tags are right
			w := *want
			w.Tags = old.Tags
			want = &w
		}
		r := base
		r.Checks = changed[id]
		switch {
		case old == nil || !want.Equal(old):
			r.Service = want
		case len(r.Checks) == 0:
			continue
		}
		d.steps = append(d.steps, step{register: &r})
	}
	if own := changed[""]; len(own) > 0 {
		r := base
		r.Checks = own
		d.steps = append(d.steps, step{register: &r})
	}
	for _, id := range slices.Sorted(maps.Keys(have.services)) {
		if services[id] == nil && id != api.ServerService {
			d.steps = append(d.steps, step{deregister: &api.Deregistration{Datacenter: node.Datacenter, Node: node.Node, ServiceID: id}})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(have.checks)) {
		c := have.checks[id]
		if checks[id] != nil || id == api.SerfHealth || c.ServiceID == api.ServerService {
			continue
		}
		if c.ServiceID != "" && services[c.ServiceID] == nil && have.services[c.ServiceID] != nil {
			continue // goes with its service
		}
		d.steps = append(d.steps, step{deregister: &api.Deregistration{Datacenter: node.Datacenter, Node: node.Node, CheckID: id}})
	}
	return d
}

func nodeOf(r *api.Registration) *api.Node {
	return &api.Node{ID: r.ID, Node: r.Node, Address: r.Address, TaggedAddresses: r.TaggedAddresses, Meta: r.NodeMeta}
}

func sameNode(want api.Registration, have *api.Node) bool {
	return have != nil && have.ID == want.ID && have.Address == want.Address &&
		maps.Equal(have.TaggedAddresses, want.TaggedAddresses) && maps.Equal(have.Meta, want.NodeMeta)
}

// sameCheck leaves out the output, and the tags that follow the service.
func sameCheck(a, b *api.Check) bool {
	return a.Status == b.Status && a.Name == b.Name && a.Notes == b.Notes && a.ServiceID == b.ServiceID && a.ServiceName == b.ServiceName &&
		a.Type == b.Type && a.Interval == b.Interval && a.Timeout == b.Timeout
}
