package ui

import (
	"cmp"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// maintenance is the status of what somebody took out on purpose. It is worse than
// critical: nobody waits for it to come back by itself.
const maintenance = "maintenance"

// statuses in the order in which they are told, the worst first.
var statuses = []string{api.Critical, maintenance, api.Warning, api.Passing}

// catalog is one state of the catalog, arranged for looking at. It is never changed.
type catalog struct {
	Index     uint64
	Nodes     []*node              // by name
	Services  []*service           // by name
	Instances map[string]*instance // by key
	Counts    counts               // of instances
	Down      int                  // nodes whose own checks are critical
}

// node is a host with what runs on it.
type node struct {
	*api.NodeInfo
	Own       []*api.Check // of the node itself
	Instances []*instance  // by service, then id
	Status    string       // by its own checks
	Counts    counts
}

// service is a name with all its instances.
type service struct {
	Name      string
	Tags      []string
	Instances []*instance // by node, then id
	Counts    counts
	Hosts     int
}

// instance is a service on a node.
type instance struct {
	*api.Service
	On     *node
	Checks []*api.Check // its own, then its node's
	Status string       // the worst of them
}

// key tells instances apart: ids are unique on a node only.
func (i *instance) key() string { return i.On.Node + "\x00" + i.ID }

// At is where the instance is reached, host and port.
func (i *instance) At() string { return join(cmp.Or(i.Address, i.On.Address), i.Port) }

// counts is how many instances are in which state.
type counts struct{ Passing, Warning, Critical, Maintenance int }

func (c *counts) add(status string) {
	switch status {
	case api.Critical:
		c.Critical++
	case api.Warning:
		c.Warning++
	case maintenance:
		c.Maintenance++
	default:
		c.Passing++
	}
}

// Total is how many there are.
func (c counts) Total() int { return c.Passing + c.Warning + c.Critical + c.Maintenance }

// Of is how many are in a state.
func (c counts) Of(status string) int {
	switch status {
	case api.Critical:
		return c.Critical
	case api.Warning:
		return c.Warning
	case maintenance:
		return c.Maintenance
	}
	return c.Passing
}

// Worst is the worst state that one of them is in.
func (c counts) Worst() string {
	for _, s := range statuses {
		if c.Of(s) > 0 {
			return s
		}
	}
	return api.Passing
}

// newCatalog arranges what the catalog has.
func newCatalog(infos []*api.NodeInfo, index uint64) *catalog {
	c := &catalog{Index: index, Instances: map[string]*instance{}}
	services := map[string]*service{}
	for _, info := range infos {
		n := &node{NodeInfo: info}
		own := map[string][]*api.Check{} // checks by service id
		for _, k := range info.Checks {
			own[k.ServiceID] = append(own[k.ServiceID], k)
		}
		n.Own = own[""]
		n.Status = worst(n.Own)
		if n.Status == api.Critical {
			c.Down++
		}
		for _, s := range info.Services {
			i := &instance{Service: s, On: n, Checks: n.Own}
			if mine := own[s.ID]; len(mine) > 0 && s.ID != "" {
				i.Checks = slices.Concat(mine, n.Own)
			}
			i.Status = worst(i.Checks)
			n.Instances = append(n.Instances, i)
			n.Counts.add(i.Status)
			c.Counts.add(i.Status)
			c.Instances[i.key()] = i
			sv := services[s.Service]
			if sv == nil {
				sv = &service{Name: s.Service}
				services[s.Service] = sv
				c.Services = append(c.Services, sv)
			}
			sv.Instances = append(sv.Instances, i)
			sv.Counts.add(i.Status)
		}
		slices.SortFunc(n.Instances, func(a, b *instance) int {
			return cmp.Or(strings.Compare(a.Service.Service, b.Service.Service), strings.Compare(a.ID, b.ID))
		})
		c.Nodes = append(c.Nodes, n)
	}
	slices.SortFunc(c.Nodes, func(a, b *node) int { return strings.Compare(a.Node, b.Node) })
	slices.SortFunc(c.Services, func(a, b *service) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range c.Services {
		s.arrange()
	}
	return c
}

// arrange sorts the instances, gathers the tags and counts the hosts.
func (s *service) arrange() {
	slices.SortFunc(s.Instances, func(a, b *instance) int {
		return cmp.Or(strings.Compare(a.On.Node, b.On.Node), strings.Compare(a.ID, b.ID))
	})
	tags, last := map[string]bool{}, (*node)(nil)
	for _, i := range s.Instances {
		for _, t := range i.Tags {
			tags[t] = true
		}
		if i.On != last {
			s.Hosts, last = s.Hosts+1, i.On
		}
	}
	for t := range tags {
		s.Tags = append(s.Tags, t)
	}
	slices.Sort(s.Tags)
}

func (c *catalog) node(name string) *node {
	at, ok := slices.BinarySearchFunc(c.Nodes, name, func(n *node, name string) int { return strings.Compare(n.Node, name) })
	if !ok {
		return nil
	}
	return c.Nodes[at]
}

// serverAt is the node of the server at an address, "" if there is none.
func (c *catalog) serverAt(address string) string {
	if servers := c.service("consul"); servers != nil {
		for _, i := range servers.Instances {
			if i.At() == address {
				return i.On.Node
			}
		}
	}
	return ""
}

func (c *catalog) service(name string) *service {
	at, ok := slices.BinarySearchFunc(c.Services, name, func(s *service, name string) int { return strings.Compare(s.Name, name) })
	if !ok {
		return nil
	}
	return c.Services[at]
}

// worst is the worst state of some checks; what has none passes.
func worst(checks []*api.Check) string {
	out := api.Passing
	for _, c := range checks {
		switch {
		case api.IsMaintenance(c.CheckID):
			return maintenance
		case c.Status == api.Critical:
			out = api.Critical
		case c.Status == api.Warning && out == api.Passing:
			out = api.Warning
		}
	}
	return out
}

// culprit is the check that makes a state what it is, nil where all is well.
func culprit(checks []*api.Check, status string) *api.Check {
	for _, c := range checks {
		out := api.IsMaintenance(c.CheckID)
		if status == maintenance && out || status != maintenance && status != api.Passing && c.Status == status {
			return c
		}
	}
	return nil
}
