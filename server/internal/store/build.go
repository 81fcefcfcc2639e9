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
	ACL     *ACLRecord     `codec:",omitempty"`

	Query      *api.PreparedQuery   `codec:",omitempty"`
	Place      *api.CoordinateEntry `codec:",omitempty"`
	Pilot      *api.AutopilotConfig `codec:",omitempty"`
	Session    *api.Session         `codec:",omitempty"`
	SessionEnd *api.SessionEnd      `codec:",omitempty"`
	Delay      *Delay               `codec:",omitempty"`
}

// Head is what belongs to the whole state.
type Head struct {
	Index  uint64
	Tables Tables
	Clock  *Clock `codec:",omitempty"` // nil before the first entry with a time
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

// Delay keeps a key from being locked.
type Delay struct {
	Key   string
	Until int64
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
	head := &Head{Index: st.index, Tables: st.tables}
	if st.clock != (Clock{}) {
		head.Clock = &st.clock
	}
	if !yield(&Record{Head: head}) {
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
	st.acl.records(func(r *Record) bool { return more && pass(r) })
	st.queries.byID.Scan(func(q *Query) bool { return more && pass(&Record{Query: &q.PreparedQuery}) })
	if st.pilot != nil {
		pass(&Record{Pilot: st.pilot})
	}
	st.places.Scan(func(p *Place) bool { return more && pass(&Record{Place: &p.CoordinateEntry}) })
	st.sessions.Scan(func(s *Session) bool { return more && pass(&Record{Session: &s.Session}) })
	st.ends.Scan(func(e *api.SessionEnd) bool { return more && pass(&Record{SessionEnd: e}) })
	st.delays.Scan(func(d *delay) bool { return more && pass(&Record{Delay: &Delay{d.key, d.until, d.index}}) })
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
		if r.Head.Clock != nil {
			st.clock = *r.Head.Clock
		}
	case r.Node != nil:
		n := &Node{Node: *r.Node, key: strings.ToLower(r.Node.Node), at: api.CanonicalAddress(r.Node.Address)}
		n.TaggedAddresses, n.Meta = orNone(n.TaggedAddresses), orNone(n.Meta)
		st.nodes.Set(n)
		st.nodeAt.Set(n)
		if n.ID != "" {
			st.nodeIDs.Set(n)
		}
	case r.Service != nil:
		v := r.Service.Service
		s := &Service{Service: v, Node: r.Service.Node, node: strings.ToLower(r.Service.Node), name: strings.ToLower(v.Service), at: api.CanonicalAddress(v.Address)}
		s.Tags, s.Meta = orEmpty(s.Tags), orNone(s.Meta)
		if _, ok := st.nodes.Get(&Node{key: s.node}); !ok {
			return api.Errorf(api.Invalid, "service %q is on node %q, which is not in the snapshot", v.ID, s.Node)
		}
		st.services.Set(s)
		if s.at != "" {
			st.serviceAt.Set(s)
		}
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
		if p.Session != "" {
			st.held.Set(p)
		}
	case r.Session != nil:
		s := &Session{Session: *r.Session, node: strings.ToLower(r.Session.Node)}
		if _, ok := st.nodes.Get(&Node{key: s.node}); !ok {
			return api.Errorf(api.Invalid, "session %q is on node %q, which is not in the snapshot", s.ID, s.Session.Node)
		}
		if s.NodeChecks == nil {
			s.NodeChecks = []string{}
		}
		st.sessions.Set(s)
		st.homes.Set(s)
	case r.SessionEnd != nil:
		st.ends.Set(r.SessionEnd)
		st.endings.Set(r.SessionEnd)
	case r.Delay != nil:
		st.delays.Set(&delay{r.Delay.Key, r.Delay.Until, r.Delay.Index})
	case r.Grave != nil:
		st.graves.Set(&tombstone{r.Grave.Key, r.Grave.Index})
	case r.ACL != nil:
		b.addACL(r.ACL)
	case r.Query != nil:
		st.queries.set(newQuery(r.Query))
	case r.Place != nil:
		st.places.Set(newPlace(r.Place))
	case r.Pilot != nil:
		st.pilot = r.Pilot
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
