package endpoint

import (
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/store"
)

// topics is what a read of q depends on.
func topics(q *Query) []store.Topic {
	switch q.Kind {
	case Nodes:
		return []store.Topic{store.TopicNodes()}
	case Services:
		if len(q.NodeMeta) > 0 {
			return []store.Topic{store.TopicServices(), store.TopicNodes()}
		}
		return []store.Topic{store.TopicServices()}
	case ServiceNodes, HealthService, HealthChecks:
		return []store.Topic{store.TopicService(q.Name)}
	case NodeServices, NodeList, HealthNode:
		return []store.Topic{store.TopicNode(q.Name)}
	case HealthState:
		return []store.Topic{store.TopicState(q.Name)}
	case KVGet:
		return []store.Topic{store.TopicKey(q.Name)}
	case KVList, KVKeys:
		return []store.Topic{store.TopicPrefix(q.Name)}
	}
	return nil
}

// evaluate reads q from a state. The answer's Meta has the index only.
func evaluate(q *Query, st *store.State) (*Answer, store.Mark, error) {
	keep, err := newFilter(q)
	if err != nil {
		return nil, store.Mark{}, err
	}
	var a *Answer
	var m store.Mark
	switch q.Kind {
	case Nodes:
		var rows []*store.Node
		rows, m = st.Nodes()
		a = nodes(rows, keep)
	case Services:
		a, m = serviceNames(q, st, keep)
	case ServiceNodes:
		var rows []store.Instance
		rows, m = st.Instances(q.Name)
		a = serviceNodes(rows, keep)
	case HealthService:
		var rows []store.Instance
		rows, m = st.Instances(q.Name)
		a = instances(rows, q.Passing, keep)
	case NodeServices, NodeList:
		var node *store.Node
		var rows []*store.Service
		node, rows, m = st.NodeServices(q.Name)
		a = nodeServices(q.Kind, node, rows, keep)
	case HealthNode:
		var rows []*store.Check
		rows, m = st.NodeChecks(q.Name)
		a = checks(rows, st, keep)
	case HealthChecks:
		var rows []*store.Check
		rows, m = st.ServiceChecks(q.Name)
		a = checks(rows, st, keep)
	case HealthState:
		var rows []*store.Check
		rows, m = st.ChecksInState(q.Name)
		a = checks(rows, st, keep)
	case KVGet:
		var row *store.Pair
		row, m = st.KVGet(q.Name)
		a = pairs(row)
	case KVList:
		var rows []*store.Pair
		rows, m = st.KVList(q.Name)
		a = pairs(rows...)
	case KVKeys:
		var rows []*store.Pair
		rows, m = st.KVList(q.Name)
		keys := fold(rows, q.Name, q.Separator)
		a = &Answer{Found: len(keys) > 0, Value: keys}
	default:
		return nil, m, api.Errorf(api.Invalid, "unknown query %q", q.Kind)
	}
	if keep.err != nil {
		return nil, m, keep.err
	}
	if a.body == nil {
		value := a.Value
		a.body = &body{encode: func() ([]byte, error) { return marshal(value) }}
	}
	a.Meta.Index = m.Index
	return a, m, nil
}

func nodes(rows []*store.Node, keep *filter) *Answer {
	out := make([]*api.Node, 0, len(rows))
	kept := make([]fragment, 0, len(rows))
	for _, n := range rows {
		if keep.meta(n.Meta) && keep.expr(&n.Node) {
			out = append(out, &n.Node)
			kept = append(kept, n)
		}
	}
	return &Answer{Found: true, Value: out, body: &body{encode: func() ([]byte, error) { return join(kept), nil }}}
}

// serviceNames gives names with the union of their tags. Only with conditions on nodes
// is it necessary to look at instances.
func serviceNames(q *Query, st *store.State, keep *filter) (*Answer, store.Mark) {
	names, m := st.Services()
	out := make(map[string][]string, len(names))
	for _, s := range names {
		tags := s.Tags
		if len(q.NodeMeta) > 0 || q.Filter != "" {
			rows, _ := st.Instances(s.Name)
			tags = nil
			any := false
			for _, r := range rows {
				if !keep.meta(r.Node.Meta) || !keep.expr(serviceNode(r)) {
					continue
				}
				any = true
				for _, t := range r.Service.Tags {
					if !slices.Contains(tags, t) {
						tags = append(tags, t)
					}
				}
			}
			if !any {
				continue
			}
		}
		if tags == nil {
			tags = []string{}
		}
		out[s.Name] = tags
	}
	return &Answer{Found: true, Value: out}, m
}

func instances(rows []store.Instance, passing bool, keep *filter) *Answer {
	out := make([]*api.Instance, 0, len(rows))
	kept := make([]store.Instance, 0, len(rows))
	for _, r := range rows {
		if passing && !allPass(r.Checks) || !keep.meta(r.Node.Meta) || !keep.tags(r.Service.Tags) {
			continue
		}
		v := &api.Instance{Node: &r.Node.Node, Service: &r.Service.Service, Checks: make([]*api.Check, len(r.Checks))}
		for i, c := range r.Checks {
			v.Checks[i] = &c.Check
		}
		if keep.expr(v) {
			out = append(out, v)
			kept = append(kept, r)
		}
	}
	return &Answer{Found: true, Value: out, body: &body{encode: func() ([]byte, error) { return joinInstances(kept), nil }}}
}

func allPass(checks []*store.Check) bool {
	for _, c := range checks {
		if c.Status != api.Passing {
			return false
		}
	}
	return true
}

func serviceNodes(rows []store.Instance, keep *filter) *Answer {
	out := make([]*api.ServiceNode, 0, len(rows))
	for _, r := range rows {
		if !keep.meta(r.Node.Meta) || !keep.tags(r.Service.Tags) {
			continue
		}
		if v := serviceNode(r); keep.expr(v) {
			out = append(out, v)
		}
	}
	return &Answer{Found: true, Value: out}
}

func serviceNode(r store.Instance) *api.ServiceNode {
	n, s := r.Node, r.Service
	return &api.ServiceNode{
		ID: n.ID, Node: n.Node.Node, Address: n.Address, Datacenter: n.Datacenter,
		TaggedAddresses: n.TaggedAddresses, NodeMeta: n.Meta,
		ServiceID: s.ID, ServiceName: s.Service.Service, ServiceTags: s.Tags, ServiceAddress: s.Address,
		ServiceTaggedAddresses: s.TaggedAddresses, ServiceWeights: s.Weights, ServiceMeta: s.Meta,
		ServicePort: s.Port, ServiceEnableTagOverride: s.EnableTagOverride,
		CreateIndex: s.CreateIndex, ModifyIndex: s.ModifyIndex,
	}
}

func nodeServices(kind Kind, node *store.Node, rows []*store.Service, keep *filter) *Answer {
	if node == nil {
		if kind == NodeList {
			return &Answer{Value: &NodeServiceList{}} // both null, as Consul has it
		}
		return &Answer{Value: (*api.NodeServices)(nil)}
	}
	list := make([]*api.Service, 0, len(rows))
	for _, s := range rows {
		if keep.expr(&s.Service) {
			list = append(list, &s.Service)
		}
	}
	if kind == NodeList {
		return &Answer{Found: true, Value: &NodeServiceList{Node: &node.Node, Services: list}}
	}
	byID := make(map[string]*api.Service, len(list))
	for _, s := range list {
		byID[s.ID] = s
	}
	return &Answer{Found: true, Value: &api.NodeServices{Node: &node.Node, Services: byID}}
}

func checks(rows []*store.Check, st *store.State, keep *filter) *Answer {
	out := make([]*api.Check, 0, len(rows))
	kept := make([]fragment, 0, len(rows))
	for _, c := range rows {
		if keep.wantsMeta() {
			n, _ := st.Node(c.Node)
			if n == nil || !keep.meta(n.Meta) {
				continue
			}
		}
		if keep.expr(&c.Check) {
			out = append(out, &c.Check)
			kept = append(kept, c)
		}
	}
	return &Answer{Found: true, Value: out, body: &body{encode: func() ([]byte, error) { return join(kept), nil }}}
}

func pairs(rows ...*store.Pair) *Answer {
	if len(rows) == 1 && rows[0] == nil {
		rows = nil
	}
	out := make([]*api.KVPair, len(rows))
	for i, p := range rows {
		out[i] = &p.KVPair
	}
	return &Answer{Found: len(rows) > 0, Value: out, body: &body{encode: func() ([]byte, error) { return join(rows), nil }}}
}

// fold lists keys, those that go on behind sep after the prefix cut there, each once.
func fold(rows []*store.Pair, prefix, sep string) []string {
	out := make([]string, 0, len(rows))
	for _, p := range rows {
		key := p.Key
		if sep != "" {
			if i := strings.Index(key[len(prefix):], sep); i >= 0 {
				key = key[:len(prefix)+i+len(sep)]
			}
		}
		if len(out) == 0 || out[len(out)-1] != key {
			out = append(out, key)
		}
	}
	return out
}
