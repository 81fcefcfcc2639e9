package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/btree"

	"github.com/rollcall/rollcall/internal/api"
)

// Tx is a transaction. Its methods are for one goroutine. A method that returns an
// error has changed nothing.
type Tx struct {
	store   *Store
	index   uint64
	st      *State
	touched map[Topic]struct{}
	ownACLs bool // the tables of ACLs are this transaction's own
	// ownQueries and ownPlaces say so of theirs.
	ownQueries, ownPlaces bool
	path                  btree.PathHint // to the key looked at last
	now                   int64          // Unix nanoseconds by the log's clock; 0 if it has none
}

func (t *Tx) touch(topic Topic) { t.touched[topic] = struct{}{} }

// Register writes a node, and at will a service and checks on it.
func (t *Tx) Register(r *api.Registration) error {
	key := strings.ToLower(r.Node)
	if key == "" {
		return api.Errorf(api.Invalid, "Missing node registration")
	}
	cur, _ := t.st.nodes.Get(&Node{key: key})
	renamed, err := t.claim(r, cur)
	if err != nil {
		return err
	}
	if s := r.Service; s != nil && (s.ID == "" || s.Service == "") {
		return api.Errorf(api.Invalid, "Must provide service name and ID")
	}
	checks := r.Checks
	if r.Check != nil {
		checks = append(slices.Clip(checks), r.Check)
	}
	for _, c := range checks {
		if err := t.checkable(r, key, c); err != nil {
			return err
		}
	}
	if renamed != nil {
		t.dropNode(renamed)
	}
	if cur == nil || !r.SkipNodeUpdate {
		cur = t.putNode(r, cur, key, renamed)
	}
	if r.Service != nil {
		t.putService(cur, r.Service)
	}
	for _, c := range checks {
		t.putCheck(cur, c)
	}
	return nil
}

// claim decides who may bear a name and an id. A node that is alive (its serfHealth
// passes) keeps both; one that is not gives them up. It returns the node that r renames.
func (t *Tx) claim(r *api.Registration, cur *Node) (renamed *Node, err error) {
	if r.ID == "" || cur != nil && r.SkipNodeUpdate {
		return nil, nil
	}
	if cur != nil && cur.ID != "" && !strings.EqualFold(cur.ID, r.ID) && t.alive(cur.key) {
		return nil, api.Errorf(api.Internal, "Node name %s is reserved by node %s with name %s (%s), which is alive: stop it or use another name",
			r.Node, cur.ID, cur.Node.Node, cur.Address)
	}
	other := t.st.NodeByID(r.ID)
	if other == nil || other.key == strings.ToLower(r.Node) {
		return nil, nil
	}
	if t.alive(other.key) {
		return nil, api.Errorf(api.Internal, "Node ID %s is already in use by node %s (%s), which is alive: give this node an id of its own",
			r.ID, other.Node.Node, other.Address)
	}
	return other, nil
}

// Alive tells whether a node has an agent that lives.
func (t *Tx) Alive(node string) bool { return t.alive(strings.ToLower(node)) }

func (t *Tx) alive(node string) bool {
	c, ok := t.st.checks.Get(&Check{Check: api.Check{CheckID: api.SerfHealth}, node: node})
	return ok && c.Status == api.Passing
}

// checkable refuses a check that names nothing, or a service that is not there.
func (t *Tx) checkable(r *api.Registration, node string, c *api.Check) error {
	if c.CheckID == "" {
		return api.Errorf(api.Invalid, "Must provide check id")
	}
	if c.Node != "" && !strings.EqualFold(c.Node, r.Node) {
		return api.Errorf(api.Invalid, "check %q names node %q, its registration node %q", c.CheckID, c.Node, r.Node)
	}
	if c.ServiceID == "" || r.Service != nil && r.Service.ID == c.ServiceID {
		return nil
	}
	if _, ok := t.st.services.Get(&Service{Service: api.Service{ID: c.ServiceID}, node: node}); !ok {
		return api.Errorf(api.Internal, "Missing service registration")
	}
	return nil
}

func (t *Tx) putNode(r *api.Registration, cur *Node, key string, renamed *Node) *Node {
	n := &Node{key: key, at: api.CanonicalAddress(r.Address), Node: api.Node{
		ID: r.ID, Node: r.Node, Address: r.Address, Datacenter: r.Datacenter,
		TaggedAddresses: orNone(r.TaggedAddresses), Meta: orNone(r.NodeMeta), CreateIndex: t.index, ModifyIndex: t.index,
	}}
	if renamed != nil {
		n.CreateIndex = renamed.CreateIndex
	}
	if cur != nil {
		n.CreateIndex = cur.CreateIndex
		if n.ID == "" {
			n.ID = cur.ID
		}
		if sameNode(&n.Node, &cur.Node) {
			return cur
		}
		if cur.ID != "" && cur.ID != n.ID {
			t.st.nodeIDs.Delete(cur)
		}
		t.st.nodeAt.Delete(cur)
	}
	t.st.nodes.Set(n)
	t.st.nodeAt.Set(n)
	if n.ID != "" {
		t.st.nodeIDs.Set(n)
	}
	t.st.tables.Nodes = t.index
	t.touch(TopicNodes())
	t.nodeChanged(key)
	if cur != nil { // every instance there shows the node
		for _, s := range t.st.onNode(key) {
			t.serviceChanged(s.name)
		}
	}
	return n
}

// nodeChanged moves a node's age; serviceChanged a service's.
func (t *Tx) nodeChanged(key string) {
	t.st.nodeAge.Set(&stamp{key: key, index: t.index, version: t.index})
	t.touch(TopicNode(key))
	t.catalogChanged()
}

func (t *Tx) serviceChanged(name string) {
	if a, ok := t.st.names.Get(&stamp{key: name}); ok {
		next := *a
		next.index, next.version = t.index, t.index
		t.st.names.Set(&next)
	}
	t.touch(TopicService(name))
}

// outputChanged moves versions only: the answers differ, and nobody wakes.
func (t *Tx) outputChanged(c *Check) {
	if a, ok := t.st.nodeAge.Get(&stamp{key: c.node}); ok {
		next := *a
		next.version = t.index
		t.st.nodeAge.Set(&next)
	}
	t.st.tables.Output = t.index
	for _, name := range t.bears(c) {
		if a, ok := t.st.names.Get(&stamp{key: name}); ok {
			next := *a
			next.version = t.index
			t.st.names.Set(&next)
		}
	}
}

// bears names the services whose health a check is part of.
func (t *Tx) bears(c *Check) []string {
	if c.ServiceID != "" {
		return []string{c.name}
	}
	var names []string
	for _, s := range t.st.onNode(c.node) {
		names = append(names, s.name)
	}
	return names
}

func (t *Tx) putService(n *Node, def *api.Service) {
	s := &Service{Service: *def, Node: n.Node.Node, node: n.key, name: strings.ToLower(def.Service), at: api.CanonicalAddress(def.Address)}
	s.CreateIndex, s.ModifyIndex = t.index, t.index
	s.Tags, s.Meta = orEmpty(s.Tags), orNone(s.Meta)
	cur, exists := t.st.services.Get(s)
	if exists {
		s.CreateIndex = cur.CreateIndex
		if s.Service.Equal(&cur.Service) {
			return
		}
		if cur.name != s.name {
			t.forgetName(cur)
		}
	}
	t.st.services.Set(s)
	t.st.byName.Set(s)
	if exists && cur.at != s.at {
		t.st.serviceAt.Delete(cur)
	}
	if s.at != "" {
		t.st.serviceAt.Set(s)
	}
	if !exists || cur.name != s.name {
		a, ok := t.st.names.Get(&stamp{key: s.name})
		next := stamp{key: s.name, name: def.Service, count: 1}
		if ok {
			next.count = a.count + 1
		}
		t.st.names.Set(&next)
	}
	if !exists || cur.Service.Service != s.Service.Service || !slices.Equal(cur.Tags, s.Tags) {
		t.listChanged()
	}
	t.serviceChanged(s.name)
	t.nodeChanged(n.key)
	if exists && (cur.Service.Service != s.Service.Service || !slices.Equal(cur.Tags, s.Tags)) {
		for _, c := range t.st.owned(n.key, s.ID, nil) { // checks show name and tags
			again := c.Check
			t.putCheck(n, &again)
		}
	}
}

// listChanged: the names, or their tags, are others.
func (t *Tx) listChanged() {
	t.st.tables.Services = t.index
	t.touch(TopicServices())
}

// forgetName takes an instance out of its service.
func (t *Tx) forgetName(s *Service) {
	t.st.byName.Delete(s)
	a, ok := t.st.names.Get(&stamp{key: s.name})
	if !ok {
		return
	}
	t.serviceChanged(s.name)
	t.listChanged()
	if a.count <= 1 {
		t.st.names.Delete(a)
		t.st.tables.Extinct = t.index
		return
	}
	next := *a
	next.count--
	next.index, next.version = t.index, t.index
	t.st.names.Set(&next)
}

func (t *Tx) putCheck(n *Node, def *api.Check) {
	c := &Check{Check: *def, node: n.key}
	c.Node, c.CreateIndex, c.ModifyIndex = n.Node.Node, t.index, t.index
	if c.Status == "" {
		c.Status = api.Critical
	}
	c.ServiceName, c.ServiceTags = "", []string{}
	if c.ServiceID != "" {
		s, _ := t.st.services.Get(&Service{Service: api.Service{ID: c.ServiceID}, node: n.key})
		c.ServiceName, c.ServiceTags, c.name = s.Service.Service, s.Tags, s.name
	}
	cur, exists := t.st.checks.Get(c)
	if exists {
		c.CreateIndex = cur.CreateIndex
		if sameCheck(&c.Check, &cur.Check) {
			if c.Output == cur.Output {
				return
			}
			c.ModifyIndex = cur.ModifyIndex
			t.setCheck(c)
			t.outputChanged(c)
			return
		}
		t.unsetCheck(cur)
		if cur.ServiceID != c.ServiceID {
			t.checkChanged(cur)
		}
		t.touch(TopicState(cur.Status))
	}
	t.setCheck(c)
	t.checkChanged(c)
	if c.Status == api.Critical {
		t.endSessionsOf(c, "is critical")
	}
}

func (t *Tx) setCheck(c *Check) {
	t.st.checks.Set(c)
	t.st.byOwner.Set(c)
	t.st.byStatus.Set(c)
	if c.name != "" {
		t.st.byService.Set(c)
	}
}

func (t *Tx) unsetCheck(c *Check) {
	t.st.checks.Delete(c)
	t.st.byOwner.Delete(c)
	t.st.byStatus.Delete(c)
	if c.name != "" {
		t.st.byService.Delete(c)
	}
}

// checkChanged wakes all whose answers show the check.
func (t *Tx) checkChanged(c *Check) {
	t.st.tables.Checks = t.index
	t.touch(TopicState(c.Status))
	t.touch(TopicState(api.Any))
	t.nodeChanged(c.node)
	for _, name := range t.bears(c) {
		t.serviceChanged(name)
	}
}

// Deregister removes a check, a service with its checks, or a node with all it has.
// What is not there is no error.
func (t *Tx) Deregister(d *api.Deregistration) error {
	key := strings.ToLower(d.Node)
	n, ok := t.st.nodes.Get(&Node{key: key})
	if !ok {
		return nil
	}
	switch {
	case d.ServiceID != "":
		if s, ok := t.st.services.Get(&Service{Service: api.Service{ID: d.ServiceID}, node: key}); ok {
			t.dropService(s)
		}
	case d.CheckID != "":
		if c, ok := t.st.checks.Get(&Check{Check: api.Check{CheckID: d.CheckID}, node: key}); ok {
			t.dropCheck(c)
		}
	default:
		t.dropNode(n)
	}
	return nil
}

func (t *Tx) dropCheck(c *Check) {
	t.unsetCheck(c)
	t.checkChanged(c)
	t.endSessionsOf(c, "was deregistered")
}

func (t *Tx) dropService(s *Service) {
	for _, c := range t.st.owned(s.node, s.ID, nil) {
		t.dropCheck(c)
	}
	t.st.services.Delete(s)
	t.st.serviceAt.Delete(s)
	t.forgetName(s)
	t.nodeChanged(s.node)
}

func (t *Tx) dropNode(n *Node) {
	sessions, _ := t.st.NodeSessions(n.key)
	for _, s := range sessions {
		t.EndSession(s.ID, fmt.Sprintf("node %q was deregistered", s.Node))
	}
	for _, s := range t.st.onNode(n.key) {
		t.dropService(s)
	}
	checks, _ := t.st.NodeChecks(n.key)
	for _, c := range checks {
		t.dropCheck(c)
	}
	t.st.nodes.Delete(n)
	t.st.nodeAt.Delete(n)
	if n.ID != "" {
		t.st.nodeIDs.Delete(n)
	}
	t.st.tables.Nodes = t.index
	t.touch(TopicNodes())
	t.touch(TopicNode(n.key))
	t.catalogChanged()
	t.st.nodeAge.Delete(&stamp{key: n.key})
	t.dropPlace(n.key)
}
