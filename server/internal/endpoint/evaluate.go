package endpoint

import (
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
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
	case InstancesAt: // nobody blocks on it: this wakes for new services only
		return []store.Topic{store.TopicServices()}
	case NodeServices, NodeList, NodeAge, HealthNode:
		return []store.Topic{store.TopicNode(q.Name)}
	case HealthState:
		return []store.Topic{store.TopicState(q.Name)}
	case KVGet:
		return []store.Topic{store.TopicKey(q.Name)}
	case KVList, KVKeys:
		return []store.Topic{store.TopicPrefix(q.Name)}
	case QueryList, QueryGet:
		return []store.Topic{store.TopicQueries()}
	case AutopilotConfig:
		return []store.Topic{store.TopicAutopilot()}
	case Usage, UINodes, UIServices, UIOverview:
		return []store.Topic{store.TopicCatalog()}
	case UINode:
		return []store.Topic{store.TopicNode(q.Name)}
	case CoordinateNodes, CoordinateNode:
		return []store.Topic{store.TopicPlaces()}
	case SessionList, SessionNode:
		return []store.Topic{store.TopicSessions()}
	case SessionInfo:
		return []store.Topic{store.TopicSession(q.Name)}
	}
	if aclReaders[q.Kind] != nil {
		return []store.Topic{store.TopicACL()}
	}
	return nil
}

// evaluate reads q from a state, as far as may sees it; nil sees all. The answer's Meta has
// the index, and whether something was left out.
func evaluate(q *Query, st *store.State, may *acl.Authorizer) (*Answer, store.Mark, error) {
	keep, err := newFilter(q, may)
	if err != nil {
		return nil, store.Mark{}, err
	}
	var a *Answer
	var m store.Mark
	switch q.Kind {
	case Nodes:
		var rows []*store.Node
		if q.Name != "" {
			rows, m = st.NodesAt(q.Name)
		} else {
			rows, m = st.Nodes()
		}
		a = nodes(byDistance(q, st, rows, nodeOfNode), keep)
	case Services:
		a, m = serviceNames(q, st, keep)
	case ServiceNodes:
		var rows []store.Instance
		rows, m = st.Instances(q.Name)
		a = serviceNodes(byDistance(q, st, rows, nodeOfInstance), keep)
	case InstancesAt:
		var rows []store.Instance
		rows, m = st.InstancesAt(q.Name)
		a = serviceNodes(rows, keep)
	case HealthService:
		var rows []store.Instance
		rows, m = st.Instances(q.Name)
		a = instances(byDistance(q, st, rows, nodeOfInstance), q.Passing, keep)
	case NodeServices, NodeList:
		var node *store.Node
		var rows []*store.Service
		node, rows, m = st.NodeServices(q.Name)
		if node != nil && !keep.node(node.Node.Node) {
			node = nil
		}
		a = nodeServices(q.Kind, node, rows, keep)
	case NodeAge:
		m = st.NodeMark(q.Name)
		a = &Answer{Found: true}
	case HealthNode:
		var rows []*store.Check
		rows, m = st.NodeChecks(q.Name)
		a = checks(rows, st, keep)
	case HealthChecks:
		var rows []*store.Check
		rows, m = st.ServiceChecks(q.Name)
		a = checks(byDistance(q, st, rows, nodeOfCheck), st, keep)
	case HealthState:
		var rows []*store.Check
		rows, m = st.ChecksInState(q.Name)
		a = checks(byDistance(q, st, rows, nodeOfCheck), st, keep)
	case KVList:
		var rows []*store.Pair
		rows, m = st.KVList(q.Name)
		a = pairs(keep.keys(rows)...)
	case KVKeys:
		var rows []*store.Pair
		rows, m = st.KVList(q.Name)
		keys := fold(keep.keys(rows), q.Name, q.Separator)
		a = &Answer{Found: len(keys) > 0, Value: keys}
	case QueryList, QueryGet:
		a, m = queries(q, st)
	case AutopilotConfig:
		a, m = autopilotConfig(st)
	case Usage:
		a, m = usage(st)
	case UINodes, UINode:
		a, m = nodeInfos(q, st, keep)
	case UIServices:
		a, m = summaries(st, keep)
	case UIOverview:
		a, m = overview(st, keep)
	case CoordinateNodes, CoordinateNode:
		a, m = places(q, st, keep)
	case SessionList:
		var rows []*store.Session
		rows, m = st.Sessions()
		a = sessions(keep.sessions(rows)...)
	case SessionNode:
		var rows []*store.Session
		rows, m = st.NodeSessions(q.Name)
		a = sessions(keep.sessions(rows)...)
	case SessionInfo:
		var row *store.Session
		row, m = st.Session(q.Name)
		a = sessions(keep.sessions([]*store.Session{row})...)
	case TxnRead:
		a = txnRead(q, st, keep)
	default:
		return nil, m, api.Errorf(api.Invalid, "unknown query %q", q.Kind)
	}
	if keep.err != nil {
		return nil, m, keep.err
	}
	if q.Near != "" {
		m = m.Near(st.PlacesMark())
	}
	if a.body == nil {
		value := a.Value
		a.body = &body{encode: func() ([]byte, error) { return marshal(value) }}
	}
	a.Meta.Index, a.Meta.Filtered = m.Index, keep.hidden
	return a, m, nil
}

func nodes(rows []*store.Node, keep *filter) *Answer {
	out := make([]*api.Node, 0, len(rows))
	kept := make([]fragment, 0, len(rows))
	for _, n := range rows {
		if keep.node(n.Node.Node) && keep.meta(n.Meta) && keep.expr(&n.Node) {
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
		if !keep.service(s.Name) {
			continue
		}
		tags := s.Tags
		if len(q.NodeMeta) > 0 || q.Filter != "" {
			rows, _ := st.Instances(s.Name)
			tags = nil
			any := false
			for _, r := range rows {
				if !keep.node(r.Node.Node.Node) || !keep.meta(r.Node.Meta) || !keep.expr(serviceNode(r)) {
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
		if !keep.instance(r) || passing && !allPass(r.Checks) || !keep.meta(r.Node.Meta) || !keep.tags(r.Service.Tags) {
			continue
		}
		if v := instanceOf(r); keep.expr(v) {
			out = append(out, v)
			kept = append(kept, r)
		}
	}
	return &Answer{Found: true, Value: out, body: &body{encode: func() ([]byte, error) { return joinInstances(kept), nil }}}
}

func instanceOf(r store.Instance) *api.Instance {
	v := &api.Instance{Node: &r.Node.Node, Service: &r.Service.Service, Checks: make([]*api.Check, len(r.Checks))}
	for i, c := range r.Checks {
		v.Checks[i] = &c.Check
	}
	return v
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
		if !keep.instance(r) || !keep.meta(r.Node.Meta) || !keep.tags(r.Service.Tags) {
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
		ServicePort: s.Port, ServiceEnableTagOverride: s.EnableTagOverride, ServiceSocketPath: s.SocketPath, ServiceLocality: s.Locality,
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
		if keep.service(s.Service.Service) && keep.expr(&s.Service) {
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
		if !keep.check(&c.Check) {
			continue
		}
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
	out := make([]*api.KVPair, len(rows))
	for i, p := range rows {
		out[i] = &p.KVPair
	}
	return &Answer{Found: len(rows) > 0, Value: out, body: &body{encode: func() ([]byte, error) { return join(rows), nil }}}
}

// key answers with a single key.
func key(name string, st *store.State) *Answer {
	row, m := st.KVGet(name)
	one := &struct {
		answer Answer
		body   body
		list   [1]*api.KVPair
	}{}
	a := &one.answer
	a.body, a.Meta.Index = &one.body, m.Index
	if row == nil {
		a.Value, one.body.bytes = []*api.KVPair{}, []byte("[]")
		return a
	}
	one.list[0] = &row.KVPair
	a.Found, a.Value, one.body.bytes = true, one.list[:], row.List()
	return a
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
