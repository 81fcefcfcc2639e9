package store

import (
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/btree"

	"github.com/rollcall/rollcall/internal/api"
)

// State is the whole catalog at one index. It is immutable: all methods are reads, and
// rows they give are shared.
type State struct {
	index uint64
	epoch uint64 // of restores; part of every Mark

	nodes     *btree.BTreeG[*Node]
	nodeIDs   *btree.BTreeG[*Node]
	nodeAt    *btree.BTreeG[*Node]  // by address
	nodeAge   *btree.BTreeG[*stamp] // a node with all that is on it
	services  *btree.BTreeG[*Service]
	byName    *btree.BTreeG[*Service]
	serviceAt *btree.BTreeG[*Service] // those with an address of their own, by it
	names     *btree.BTreeG[*stamp]   // a service with its nodes and checks
	checks    *btree.BTreeG[*Check]
	byOwner   *btree.BTreeG[*Check]
	byService *btree.BTreeG[*Check]
	byStatus  *btree.BTreeG[*Check]
	pairs     *btree.BTreeG[*Pair]
	graves    *btree.BTreeG[*tombstone]
	acl       *acls                // copied by the first write of a transaction to it
	held      *btree.BTreeG[*Pair] // by the session that holds it

	sessions *btree.BTreeG[*Session]
	homes    *btree.BTreeG[*Session]        // by node
	ends     *btree.BTreeG[*api.SessionEnd] // by id
	endings  *btree.BTreeG[*api.SessionEnd] // by index
	delays   *btree.BTreeG[*delay]
	clock    Clock

	queries *queries              // copied by the first write of a transaction to it
	places  *btree.BTreeG[*Place] // likewise
	pilot   *api.AutopilotConfig  // nil: never written

	tables Tables
}

// Tables are the indexes of whole tables. Services and Checks move when the lists that
// clients see do; Output moves with the output of checks; Extinct is when a service
// name last vanished.
type Tables struct {
	Nodes, Services, Checks, Output, Extinct, KV, Sessions uint64
	Queries, Places, Catalog                               uint64
}

func tree[T any](less func(a, b T) bool) *btree.BTreeG[T] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
}

func newState() *State {
	return &State{
		nodes: tree(byNodeKey), nodeIDs: tree(byNodeID), nodeAt: tree(byNodeAt), nodeAge: tree(byStamp),
		services: tree(byInstance), byName: tree(byName), serviceAt: tree(byServiceAt), names: tree(byStamp),
		checks: tree(byCheck), byOwner: tree(byOwner), byService: tree(byCheckedName), byStatus: tree(byStatus),
		queries: newQueries(), places: tree(byPlace),
		acl:   newACLs(),
		pairs: tree(byPair), graves: tree(byGrave), held: tree(byHolder),
		sessions: tree(bySession), homes: tree(byHome), ends: tree(byEnd), endings: tree(byTime), delays: tree(byDelay),
	}
}

// next gives a state that the writer may change without touching st.
func (st *State) next(index uint64) *State {
	n := *st
	n.index = max(index, st.index)
	n.nodes, n.nodeIDs, n.nodeAt, n.nodeAge = st.nodes.Copy(), st.nodeIDs.Copy(), st.nodeAt.Copy(), st.nodeAge.Copy()
	n.services, n.byName, n.serviceAt, n.names = st.services.Copy(), st.byName.Copy(), st.serviceAt.Copy(), st.names.Copy()
	n.checks, n.byOwner, n.byService, n.byStatus = st.checks.Copy(), st.byOwner.Copy(), st.byService.Copy(), st.byStatus.Copy()
	n.pairs, n.graves, n.held = st.pairs.Copy(), st.graves.Copy(), st.held.Copy()
	n.sessions, n.homes, n.ends, n.endings, n.delays = st.sessions.Copy(), st.homes.Copy(), st.ends.Copy(), st.endings.Copy(), st.delays.Copy()
	return &n
}

func (st *State) mark(index, version uint64) Mark { return Mark{index, version, st.epoch} }

// Index is the last one applied.
func (st *State) Index() uint64 { return st.index }

// catalog is the index of all of nodes, services and checks.
func (t Tables) catalog() uint64 { return max(t.Nodes, t.Services, t.Checks) }

// Node gives a node by name, in any case; nil if there is none.
func (st *State) Node(name string) (*Node, Mark) {
	n, _ := st.nodes.Get(&Node{key: strings.ToLower(name)})
	return n, st.NodeMark(name)
}

// NodeByID gives a node by its id, nil if there is none.
func (st *State) NodeByID(id string) *Node {
	if id == "" {
		return nil
	}
	n, _ := st.nodeIDs.Get(&Node{Node: api.Node{ID: id}})
	return n
}

// NodeMark is the mark of one node with its services and checks.
func (st *State) NodeMark(name string) Mark {
	if a, ok := st.nodeAge.Get(&stamp{key: strings.ToLower(name)}); ok {
		return st.mark(a.index, a.version)
	}
	return st.mark(st.tables.catalog(), st.tables.catalog())
}

// ServiceMark is the mark of one service, also of one without instances.
func (st *State) ServiceMark(name string) Mark {
	if a, ok := st.names.Get(&stamp{key: strings.ToLower(name)}); ok {
		return st.mark(a.index, a.version)
	}
	if st.tables.Extinct > 0 {
		return st.mark(st.tables.Extinct, st.tables.Extinct)
	}
	return st.mark(st.tables.catalog(), st.tables.catalog())
}

// NodesMark is the mark of the list of nodes.
func (st *State) NodesMark() Mark { return st.mark(st.tables.Nodes, st.tables.Nodes) }

// ServicesMark is the mark of the list of service names.
func (st *State) ServicesMark() Mark { return st.mark(st.tables.Services, st.tables.Services) }

// ChecksMark is the mark of the lists of checks by state.
func (st *State) ChecksMark() Mark {
	return st.mark(st.tables.Checks, max(st.tables.Checks, st.tables.Output))
}

// Nodes gives all nodes by name.
func (st *State) Nodes() ([]*Node, Mark) { return st.nodes.Items(), st.NodesMark() }

// Services gives all service names with their tags.
func (st *State) Services() ([]ServiceName, Mark) {
	out := make([]ServiceName, 0, st.names.Len())
	st.byName.Scan(func(s *Service) bool {
		if n := len(out); n == 0 || strings.ToLower(out[n-1].Name) != s.name {
			out = append(out, ServiceName{Name: s.Service.Service})
		}
		last := &out[len(out)-1]
		for _, t := range s.Tags {
			if !slices.Contains(last.Tags, t) {
				last.Tags = append(last.Tags, t)
			}
		}
		return true
	})
	return out, st.ServicesMark()
}

// Instances gives a service's instances by node and id.
func (st *State) Instances(service string) ([]Instance, Mark) {
	name := strings.ToLower(service)
	var out []Instance
	if a, ok := st.names.Get(&stamp{key: name}); ok {
		out = make([]Instance, 0, a.count)
	}
	var node *Node
	var shared []*Check // the node's own checks
	st.byName.Ascend(&Service{name: name}, func(s *Service) bool {
		if s.name != name {
			return false
		}
		if node == nil || node.key != s.node {
			node, _ = st.nodes.Get(&Node{key: s.node})
			shared = st.owned(s.node, "", nil)
		}
		checks := st.owned(s.node, s.ID, slices.Clip(shared))
		out = append(out, Instance{Node: node, Service: s, Checks: checks})
		return true
	})
	return out, st.ServiceMark(service)
}

// owned appends the checks of a node's service, or with service "" the node's own.
func (st *State) owned(node, service string, to []*Check) []*Check {
	st.byOwner.Ascend(&Check{Check: api.Check{ServiceID: service}, node: node}, func(c *Check) bool {
		if c.node != node || c.ServiceID != service {
			return false
		}
		to = append(to, c)
		return true
	})
	return to
}

// NodeServices gives a node, nil if unknown, with its services by id.
func (st *State) NodeServices(name string) (*Node, []*Service, Mark) {
	n, m := st.Node(name)
	if n == nil {
		return nil, nil, m
	}
	return n, st.onNode(n.key), m
}

func (st *State) onNode(key string) []*Service {
	var out []*Service
	st.services.Ascend(&Service{node: key}, func(s *Service) bool {
		if s.node != key {
			return false
		}
		out = append(out, s)
		return true
	})
	return out
}

// NodeChecks gives all checks on a node by id.
func (st *State) NodeChecks(name string) ([]*Check, Mark) {
	key := strings.ToLower(name)
	var out []*Check
	st.checks.Ascend(&Check{node: key}, func(c *Check) bool {
		if c.node != key {
			return false
		}
		out = append(out, c)
		return true
	})
	return out, st.NodeMark(name)
}

// ServiceChecks gives the checks of a service's instances, those of nodes left out.
func (st *State) ServiceChecks(service string) ([]*Check, Mark) {
	name := strings.ToLower(service)
	var out []*Check
	st.byService.Ascend(&Check{name: name}, func(c *Check) bool {
		if c.name != name {
			return false
		}
		out = append(out, c)
		return true
	})
	return out, st.ServiceMark(service)
}

// ChecksInState gives the checks in a state, api.Any for all.
func (st *State) ChecksInState(state string) ([]*Check, Mark) {
	if state == api.Any || state == "" {
		return st.checks.Items(), st.ChecksMark()
	}
	var out []*Check
	st.byStatus.Ascend(&Check{Check: api.Check{Status: state}}, func(c *Check) bool {
		if c.Status != state {
			return false
		}
		out = append(out, c)
		return true
	})
	return out, st.ChecksMark()
}

// pivots are pairs to look others up by.
var pivots = sync.Pool{New: func() any { return new(Pair) }}

// KVGet gives a key, nil if there is none; then the mark is that of the whole table.
func (st *State) KVGet(key string) (*Pair, Mark) {
	like := pivots.Get().(*Pair)
	like.Key = key
	p, ok := st.pairs.Get(like)
	like.Key = ""
	pivots.Put(like)
	if ok {
		return p, st.mark(p.ModifyIndex, p.ModifyIndex)
	}
	return nil, st.mark(st.tables.KV, st.tables.KV)
}

// KVList gives the keys below a prefix, in order.
func (st *State) KVList(prefix string) ([]*Pair, Mark) {
	if prefix == "" {
		return st.pairs.Items(), st.mark(st.tables.KV, st.tables.KV)
	}
	var out []*Pair
	var index uint64
	st.pairs.Ascend(&Pair{KVPair: api.KVPair{Key: prefix}}, func(p *Pair) bool {
		if !strings.HasPrefix(p.Key, prefix) {
			return false
		}
		out = append(out, p)
		index = max(index, p.ModifyIndex)
		return true
	})
	st.graves.Ascend(&tombstone{key: prefix}, func(g *tombstone) bool {
		if !strings.HasPrefix(g.key, prefix) {
			return false
		}
		index = max(index, g.index)
		return true
	})
	if index == 0 {
		index = st.tables.KV
	}
	return out, st.mark(index, index)
}

// Tombstones is how much is remembered of what is gone: keys, sessions, locks.
func (st *State) Tombstones() int { return st.graves.Len() + st.ends.Len() + st.delays.Len() }
