package store

import (
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// Record is one row of a snapshot; exactly one of its pointers is set. Age rows carry
// the ages of nodes and services, Head the indexes of tables; Head comes first.
type Record struct {
	Head    *Head          `codec:",omitempty"`
	Node    *api.Node      `codec:",omitempty"`
	Service *ServiceRecord `codec:",omitempty"`
	Check   *api.Check     `codec:",omitempty"`
	Pair    *api.KVPair    `codec:",omitempty"`
	Grave   *Grave         `codec:",omitempty"`
	Age     *Age           `codec:",omitempty"`
}

// Head is what belongs to the whole state.
type Head struct {
	Index  uint64
	Tables Tables
}

// ServiceRecord is a service with its node.
type ServiceRecord struct {
	Node    string
	Service api.Service
}

// Grave is a tombstone.
type Grave struct {
	Key   string
	Index uint64
}

// Age is when a node, or a service, last changed.
type Age struct {
	Node, Service  string // one of them
	Index, Version uint64
}

// Records gives every row of the state, in an order that a Builder takes, until yield
// returns false.
func (st *State) Records(yield func(*Record) bool) {
	if !yield(&Record{Head: &Head{st.index, st.tables}}) {
		return
	}
	more := true
	pass := func(r *Record) bool { more = more && yield(r); return more }
	st.nodes.Scan(func(n *Node) bool { return pass(&Record{Node: &n.Node}) })
	st.services.Scan(func(s *Service) bool {
		return more && pass(&Record{Service: &ServiceRecord{s.Node, s.Service}})
	})
	st.checks.Scan(func(c *Check) bool { return more && pass(&Record{Check: &c.Check}) })
	st.pairs.Scan(func(p *Pair) bool { return more && pass(&Record{Pair: &p.KVPair}) })
	st.graves.Scan(func(g *tombstone) bool { return more && pass(&Record{Grave: &Grave{g.key, g.index}}) })
	st.nodeAge.Scan(func(a *stamp) bool {
		return more && pass(&Record{Age: &Age{Node: a.key, Index: a.index, Version: a.version}})
	})
	st.names.Scan(func(a *stamp) bool {
		return more && pass(&Record{Age: &Age{Service: a.key, Index: a.index, Version: a.version}})
	})
}

// Builder makes a state from records.
type Builder struct {
	st *State
	tx *Tx // for the trees; its topics are not used
}

// NewBuilder begins with an empty state.
func NewBuilder() *Builder {
	st := newState()
	return &Builder{st: st, tx: &Tx{st: st, touched: map[Topic]struct{}{}}}
}

// Add takes one record. An error means that the records do not belong together.
func (b *Builder) Add(r *Record) error {
	st := b.st
	switch {
	case r.Head != nil:
		st.index, st.tables = r.Head.Index, r.Head.Tables
	case r.Node != nil:
		n := &Node{Node: *r.Node, key: strings.ToLower(r.Node.Node)}
		n.TaggedAddresses, n.Meta = orNone(n.TaggedAddresses), orNone(n.Meta)
		st.nodes.Set(n)
		if n.ID != "" {
			st.nodeIDs.Set(n)
		}
	case r.Service != nil:
		v := r.Service.Service
		s := &Service{Service: v, Node: r.Service.Node, node: strings.ToLower(r.Service.Node), name: strings.ToLower(v.Service)}
		s.Tags, s.Meta = orEmpty(s.Tags), orNone(s.Meta)
		if _, ok := st.nodes.Get(&Node{key: s.node}); !ok {
			return api.Errorf(api.Invalid, "service %q is on node %q, which is not in the snapshot", v.ID, s.Node)
		}
		st.services.Set(s)
		st.byName.Set(s)
		next := stamp{key: s.name, name: v.Service, count: 1}
		if a, ok := st.names.Get(&next); ok {
			next.count += a.count
		}
		st.names.Set(&next)
	case r.Check != nil:
		c := &Check{Check: *r.Check, node: strings.ToLower(r.Check.Node), name: strings.ToLower(r.Check.ServiceName)}
		c.ServiceTags = orEmpty(c.ServiceTags)
		if _, ok := st.nodes.Get(&Node{key: c.node}); !ok {
			return api.Errorf(api.Invalid, "check %q is on node %q, which is not in the snapshot", c.CheckID, c.Check.Node)
		}
		b.tx.setCheck(c)
	case r.Pair != nil:
		p := &Pair{KVPair: *r.Pair}
		if len(p.Value) == 0 {
			p.Value = nil
		}
		st.pairs.Set(p)
	case r.Grave != nil:
		st.graves.Set(&tombstone{r.Grave.Key, r.Grave.Index})
	case r.Age != nil && r.Age.Node != "":
		st.nodeAge.Set(&stamp{key: r.Age.Node, index: r.Age.Index, version: r.Age.Version})
	case r.Age != nil:
		if a, ok := st.names.Get(&stamp{key: r.Age.Service}); ok {
			next := *a
			next.index, next.version = r.Age.Index, r.Age.Version
			st.names.Set(&next)
		}
	}
	return nil
}

// State gives what was built.
func (b *Builder) State() *State { return b.st }
