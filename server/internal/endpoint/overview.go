package endpoint

import (
	"cmp"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/store"
)

// usage counts what the catalog holds.
func usage(st *store.State) (*Answer, store.Mark) {
	n, m := st.Counts()
	return &Answer{Found: true, Value: &api.DatacenterUsage{
		Nodes: n.Nodes, Services: n.Services, ServiceInstances: n.Instances, BillableServiceInstances: n.Instances - n.Servers,
		ConnectServiceInstances: map[string]int{
			"api-gateway": 0, "connect-native": 0, "connect-proxy": 0, "ingress-gateway": 0, "mesh-gateway": 0, "terminating-gateway": 0,
		},
	}}, m
}

// nodeInfos answers nodes with all that is on them: all, or with UINode the one named.
func nodeInfos(q *Query, st *store.State, keep *filter) (*Answer, store.Mark) {
	m := st.CatalogMark()
	var rows []*store.Node
	if q.Kind == UINodes {
		rows, _ = st.Nodes()
		rows = byDistance(q, st, rows, nodeOfNode)
	} else if n, mark := st.Node(q.Name); n != nil {
		rows, m = []*store.Node{n}, mark
	}
	out := make([]*api.NodeInfo, 0, len(rows))
	for _, n := range rows {
		if !keep.node(n.Node.Node) || !keep.meta(n.Meta) {
			continue
		}
		if info := nodeInfo(n, st, keep); keep.expr(info) {
			out = append(out, info)
		}
	}
	return &Answer{Found: q.Kind == UINodes || len(out) > 0, Value: out}, m
}

func nodeInfo(n *store.Node, st *store.State, keep *filter) *api.NodeInfo {
	info := &api.NodeInfo{
		ID: n.ID, Node: n.Node.Node, Address: n.Address, TaggedAddresses: n.TaggedAddresses, Meta: n.Meta,
		Services: []*api.Service{}, Checks: []*api.Check{},
	}
	_, services, _ := st.NodeServices(n.Node.Node)
	for _, s := range services {
		if keep.service(s.Service.Service) {
			info.Services = append(info.Services, &s.Service)
		}
	}
	checks, _ := st.NodeChecks(n.Node.Node)
	for _, c := range checks {
		if keep.check(&c.Check) {
			info.Checks = append(info.Checks, &c.Check)
		}
	}
	return info
}

// summaries answers each service with how many instances it has and how they are.
func summaries(st *store.State, keep *filter) (*Answer, store.Mark) {
	names, _ := st.Services()
	out := make([]*api.ServiceSummary, 0, len(names))
	for _, s := range names {
		rows, _ := st.Instances(s.Name)
		if sum := summary(s.Name, rows, keep); sum.InstanceCount > 0 {
			out = append(out, sum)
		}
	}
	slices.SortFunc(out, func(a, b *api.ServiceSummary) int { return cmp.Compare(a.Name, b.Name) })
	return &Answer{Found: true, Value: out}, st.CatalogMark()
}

// summary counts a service's checks, those of a node once.
func summary(name string, rows []store.Instance, keep *filter) *api.ServiceSummary {
	sum := &api.ServiceSummary{Name: name, Nodes: []string{}, Tags: []string{}, ExternalSources: []string{}}
	counted := map[*store.Check]bool{}
	for _, r := range rows {
		if !keep.instance(r) || !keep.meta(r.Node.Meta) || keep.eval != nil && !keep.expr(instanceOf(r)) {
			continue
		}
		sum.InstanceCount++
		addNew(&sum.Nodes, r.Node.Node.Node)
		for _, t := range r.Service.Tags {
			addNew(&sum.Tags, t)
		}
		if source := r.Service.Meta["external-source"]; source != "" {
			addNew(&sum.ExternalSources, source)
		}
		for _, c := range r.Checks {
			if counted[c] {
				continue
			}
			counted[c] = true
			switch c.Status {
			case api.Passing:
				sum.ChecksPassing++
			case api.Warning:
				sum.ChecksWarning++
			case api.Critical:
				sum.ChecksCritical++
			}
		}
	}
	slices.Sort(sum.Tags)
	slices.Sort(sum.ExternalSources)
	return sum
}

func addNew(to *[]string, s string) {
	if !slices.Contains(*to, s) {
		*to = append(*to, s)
	}
}

// overview answers how many nodes, services and checks there are in which state. A thing
// is as its worst check is; without checks it passes.
func overview(st *store.State, keep *filter) (*Answer, store.Mark) {
	var nodes api.HealthCount
	services, checks := map[string]*api.HealthCount{}, map[string]*api.HealthCount{}
	rows, _ := st.Nodes()
	for _, n := range rows {
		if !keep.node(n.Node.Node) {
			continue
		}
		list, _ := st.NodeChecks(n.Node.Node)
		worst := api.Passing
		for _, c := range list {
			if !keep.check(&c.Check) {
				continue
			}
			count(checks, c.Name).Add(c.Status)
			if c.ServiceID == "" {
				worst = worse(worst, c.Status)
			}
		}
		nodes.Add(worst)
	}
	names, _ := st.Services()
	for _, s := range names {
		instances, _ := st.Instances(s.Name)
		for _, r := range instances {
			if !keep.instance(r) {
				continue
			}
			worst := api.Passing
			for _, c := range r.Checks {
				worst = worse(worst, c.Status)
			}
			count(services, s.Name).Add(worst)
		}
	}
	return &Answer{Found: true, Value: &api.CatalogOverview{
		Nodes: []*api.HealthCount{&nodes}, Services: counts(services), Checks: counts(checks),
	}}, st.CatalogMark()
}

func count(of map[string]*api.HealthCount, name string) *api.HealthCount {
	c := of[name]
	if c == nil {
		c = &api.HealthCount{Name: name}
		of[name] = c
	}
	return c
}

func counts(of map[string]*api.HealthCount) []*api.HealthCount {
	out := make([]*api.HealthCount, 0, len(of))
	for _, c := range of {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *api.HealthCount) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// worse gives the worse of two states.
func worse(a, b string) string {
	rank := func(s string) int { return slices.Index([]string{api.Passing, api.Warning, api.Critical}, s) }
	if rank(b) > rank(a) {
		return b
	}
	return a
}
