package watch

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/templater/internal/render"
)

// instances turns health entries into what templates see, those in the states that the
// filter names, by node and id unless the order says something.
func instances(list []*consul.ServiceEntry, d render.Dependency) []*render.Instance {
	out := []*render.Instance{}
	states := strings.Split(d.Filter, ",")
	for _, e := range list {
		status := e.Checks.AggregatedStatus()
		if !slices.Contains(states, "any") && !slices.Contains(states, status) {
			continue
		}
		i := &render.Instance{
			Node: e.Node.Node, NodeID: e.Node.ID, NodeAddress: e.Node.Address,
			NodeTaggedAddresses: e.Node.TaggedAddresses, NodeMeta: e.Node.Meta, ServiceMeta: e.Service.Meta,
			Address: cmp.Or(e.Service.Address, e.Node.Address), ID: e.Service.ID, Name: e.Service.Service,
			Tags: sortedTags(e.Service.Tags), Status: status, Port: e.Service.Port,
			Weights: render.Weights{Passing: e.Service.Weights.Passing, Warning: e.Service.Weights.Warning},
			Checks:  e.Checks,
		}
		for k, a := range e.Service.TaggedAddresses {
			if i.ServiceTaggedAddresses == nil {
				i.ServiceTaggedAddresses = map[string]render.TaggedAddress{}
			}
			i.ServiceTaggedAddresses[k] = render.TaggedAddress{Address: a.Address, Port: a.Port}
		}
		out = append(out, i)
	}
	if d.Near == "" {
		sortInstances(out)
	}
	return out
}

func sortInstances(list []*render.Instance) {
	slices.SortStableFunc(list, func(a, b *render.Instance) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.ID, b.ID))
	})
}

// sortedTags gives a list that is never nil: none is written as [].
func sortedTags(tags []string) []string {
	out := append([]string{}, tags...)
	slices.Sort(out)
	return out
}

func serviceNames(m map[string][]string) []*render.ServiceName {
	out := []*render.ServiceName{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, &render.ServiceName{Name: name, Tags: sortedTags(m[name])})
	}
	return out
}

func nodes(list []*consul.Node) []*render.NodeInfo {
	out := []*render.NodeInfo{}
	for _, n := range list {
		out = append(out, nodeInfo(n))
	}
	slices.SortStableFunc(out, func(a, b *render.NodeInfo) int { return strings.Compare(a.Node, b.Node) })
	return out
}

func nodeInfo(n *consul.Node) *render.NodeInfo {
	return &render.NodeInfo{ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter, TaggedAddresses: n.TaggedAddresses, Meta: n.Meta}
}

func nodeWithServices(n *consul.CatalogNode) *render.NodeWithServices {
	if n == nil || n.Node == nil {
		return &render.NodeWithServices{}
	}
	out := &render.NodeWithServices{Node: nodeInfo(n.Node)}
	for _, s := range n.Services {
		out.Services = append(out.Services, &render.NodeService{
			ID: s.ID, Service: s.Service, Tags: sortedTags(s.Tags), Meta: s.Meta, Port: s.Port, Address: s.Address, EnableTagOverride: s.EnableTagOverride,
		})
	}
	slices.SortFunc(out.Services, func(a, b *render.NodeService) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.ID, b.ID))
	})
	return out
}

// pairOf gives a key; in a list its name is what stands behind the prefix.
func pairOf(p *consul.KVPair, prefix string) *render.Pair {
	return &render.Pair{
		Path: p.Key, Key: strings.TrimPrefix(strings.TrimPrefix(p.Key, prefix), "/"), Value: string(p.Value),
		CreateIndex: p.CreateIndex, ModifyIndex: p.ModifyIndex, LockIndex: p.LockIndex, Flags: p.Flags, Session: p.Session,
	}
}
