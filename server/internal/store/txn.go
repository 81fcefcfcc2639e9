package store

import (
	"maps"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// Txn carries out all operations in their order, each seeing what those before it did.
// If any fails, none has changed anything, and the errors of all that would fail are
// given.
func (t *Tx) Txn(ops []api.TxnOp) *api.TxnAnswer {
	before, touched := t.st, t.touched
	t.st, t.touched = before.next(t.index), maps.Clone(touched)
	a := t.run(ops)
	if a.Errors != nil {
		t.st, t.touched = before, touched
	}
	return a
}

// TxnRead carries out operations that change nothing.
func (st *State) TxnRead(ops []api.TxnOp) *api.TxnAnswer {
	t := &Tx{st: st}
	return t.run(ops)
}

func (t *Tx) run(ops []api.TxnOp) *api.TxnAnswer {
	a := &api.TxnAnswer{Results: []api.TxnResult{}}
	for i := range ops {
		got, err := t.operate(&ops[i])
		if err != nil {
			a.Errors = append(a.Errors, api.TxnError{OpIndex: i, What: err.Error()})
		}
		a.Results = append(a.Results, got...)
	}
	if a.Errors != nil {
		a.Results = nil
	}
	return a
}

func (t *Tx) operate(o *api.TxnOp) ([]api.TxnResult, error) {
	switch {
	case o.KV != nil:
		return t.onKey(o.KV)
	case o.Node != nil:
		return t.onNode(o.Node)
	case o.Service != nil:
		return t.onService(o.Service)
	case o.Check != nil:
		return t.onCheck(o.Check)
	case o.Session != nil:
		if o.Session.Verb != api.TxnDelete {
			return nil, unknownVerb("Session", o.Session.Verb)
		}
		t.EndSession(o.Session.Session.ID, "ended by a transaction")
	}
	return nil, nil
}

func unknownVerb(kind, verb string) error {
	return api.Errorf(api.Internal, "unknown %s verb %q", kind, verb)
}

// onKey carries out an operation on a key. What is written is given back without its
// value; what is read, with it.
func (t *Tx) onKey(o *api.TxnKV) ([]api.TxnResult, error) {
	p := &api.KVPair{Key: o.Key, Value: o.Value, Flags: o.Flags, Session: o.Session}
	cur, _ := t.st.KVGet(o.Key)
	ok := true
	var err error
	switch o.Verb {
	case api.TxnGet:
		if cur == nil {
			return nil, api.Errorf(api.Internal, "key %q doesn't exist", o.Key)
		}
		return []api.TxnResult{{KV: &cur.KVPair}}, nil
	case api.TxnGetOrEmpty:
		if cur == nil {
			return []api.TxnResult{{KV: &api.KVPair{Key: o.Key}}}, nil
		}
		return []api.TxnResult{{KV: &cur.KVPair}}, nil
	case api.TxnGetTree:
		rows, _ := t.st.KVList(o.Key)
		out := make([]api.TxnResult, len(rows))
		for i, r := range rows {
			out[i].KV = &r.KVPair
		}
		return out, nil
	case api.TxnSet:
		t.KVSet(p)
	case api.TxnCAS:
		if !t.KVCAS(p, o.Index) {
			return nil, api.Errorf(api.Internal, "failed to set key %q, index is stale", o.Key)
		}
	case api.TxnLock:
		if ok, err = t.KVLock(p); err == nil && !ok {
			err = api.Errorf(api.Internal, "failed to lock key %q, lock is already held", o.Key)
			if t.delayed(o.Key) {
				err = api.Errorf(api.Internal, "failed to lock key %q due to lock delay", o.Key)
			}
		}
	case api.TxnUnlock:
		if ok, err = t.KVUnlock(p); err == nil && !ok {
			err = api.Errorf(api.Internal, "failed to unlock key %q, lock isn't held, or is held by another session", o.Key)
		}
	case api.TxnDelete:
		t.KVDelete(o.Key)
		return nil, nil
	case api.TxnDeleteTree:
		t.KVDeleteTree(o.Key)
		return nil, nil
	case api.TxnDeleteCAS:
		if !t.KVDeleteCAS(o.Key, o.Index) {
			return nil, api.Errorf(api.Internal, "failed to delete key %q, index is stale", o.Key)
		}
		return nil, nil
	case api.TxnCheckIndex:
		switch {
		case cur == nil:
			err = api.Errorf(api.Internal, "failed to check index, key %q doesn't exist", o.Key)
		case cur.ModifyIndex != o.Index:
			err = api.Errorf(api.Internal, "failed index check for key %q, current modify index %d != %d", o.Key, cur.ModifyIndex, o.Index)
		}
	case api.TxnCheckSession:
		switch {
		case cur == nil:
			err = api.Errorf(api.Internal, "failed to check session, key %q doesn't exist", o.Key)
		case cur.Session != o.Session:
			err = api.Errorf(api.Internal, "failed session check for key %q, current session %q != %q", o.Key, cur.Session, o.Session)
		}
	case api.TxnCheckNotExists:
		if cur != nil {
			err = api.Errorf(api.Internal, "key %q exists", o.Key)
		}
		return nil, err
	default:
		return nil, unknownVerb("KV", o.Verb)
	}
	if err != nil {
		return nil, err
	}
	now, _ := t.st.KVGet(o.Key)
	shown := now.KVPair
	shown.Value = nil
	return []api.TxnResult{{KV: &shown}}, nil
}

func (t *Tx) onNode(o *api.TxnNode) ([]api.TxnResult, error) {
	name := o.Node.Node
	cur, _ := t.st.Node(name)
	if cur == nil && o.Node.ID != "" {
		cur = t.st.NodeByID(o.Node.ID)
	}
	stale := cur == nil && o.Node.ModifyIndex != 0 || cur != nil && cur.ModifyIndex != o.Node.ModifyIndex
	switch o.Verb {
	case api.TxnGet:
		if cur == nil {
			return nil, api.Errorf(api.Internal, "node %q doesn't exist", name)
		}
		return []api.TxnResult{{Node: &cur.Node}}, nil
	case api.TxnCAS:
		if stale {
			return nil, api.Errorf(api.Internal, "failed to set node %q, index is stale", name)
		}
		fallthrough
	case api.TxnSet:
		n := o.Node
		r := api.Registration{
			Datacenter: n.Datacenter, ID: n.ID, Node: n.Node, Address: n.Address, TaggedAddresses: n.TaggedAddresses, NodeMeta: n.Meta,
		}
		if err := t.Register(&r); err != nil {
			return nil, err
		}
		cur, _ = t.st.Node(name)
		return []api.TxnResult{{Node: &cur.Node}}, nil
	case api.TxnDeleteCAS:
		if cur == nil {
			return nil, nil
		}
		if stale {
			return nil, api.Errorf(api.Internal, "failed to delete node %q, index is stale", name)
		}
		fallthrough
	case api.TxnDelete:
		if cur != nil {
			t.dropNode(cur)
		}
		return nil, nil
	}
	return nil, unknownVerb("Node", o.Verb)
}

func (t *Tx) onService(o *api.TxnService) ([]api.TxnResult, error) {
	key := &Service{Service: api.Service{ID: o.Service.ID}, node: strings.ToLower(o.Node)}
	cur, ok := t.st.services.Get(key)
	stale := !ok && o.Service.ModifyIndex != 0 || ok && cur.ModifyIndex != o.Service.ModifyIndex
	switch o.Verb {
	case api.TxnGet:
		if !ok {
			return nil, api.Errorf(api.Internal, "service %q on node %q doesn't exist", o.Service.ID, o.Node)
		}
		return []api.TxnResult{{Service: &cur.Service}}, nil
	case api.TxnCAS:
		if stale {
			return nil, api.Errorf(api.Internal, "failed to set service %q on node %q, index is stale", o.Service.ID, o.Node)
		}
		fallthrough
	case api.TxnSet:
		n, _ := t.st.Node(o.Node)
		if n == nil {
			return nil, api.Errorf(api.Internal, "Missing node registration")
		}
		s := o.Service
		t.putService(n, &s)
		cur, _ = t.st.services.Get(key)
		return []api.TxnResult{{Service: &cur.Service}}, nil
	case api.TxnDeleteCAS:
		if ok && stale {
			return nil, api.Errorf(api.Internal, "failed to delete service %q on node %q, index is stale", o.Service.ID, o.Node)
		}
		fallthrough
	case api.TxnDelete:
		if ok {
			t.dropService(cur)
		}
		return nil, nil
	}
	return nil, unknownVerb("Service", o.Verb)
}

func (t *Tx) onCheck(o *api.TxnCheck) ([]api.TxnResult, error) {
	c := o.Check
	key := &Check{Check: api.Check{CheckID: c.CheckID}, node: strings.ToLower(c.Node)}
	cur, ok := t.st.checks.Get(key)
	stale := !ok && c.ModifyIndex != 0 || ok && cur.ModifyIndex != c.ModifyIndex
	switch o.Verb {
	case api.TxnGet:
		if !ok {
			return nil, api.Errorf(api.Internal, "check %q on node %q doesn't exist", c.CheckID, c.Node)
		}
		return []api.TxnResult{{Check: &cur.Check}}, nil
	case api.TxnCAS:
		if stale {
			return nil, api.Errorf(api.Internal, "failed to set check %q on node %q, index is stale", c.CheckID, c.Node)
		}
		fallthrough
	case api.TxnSet:
		n, _ := t.st.Node(c.Node)
		if n == nil {
			return nil, api.Errorf(api.Internal, "Missing node registration")
		}
		if err := t.checkable(&api.Registration{Node: c.Node}, n.key, &c); err != nil {
			return nil, err
		}
		t.putCheck(n, &c)
		cur, _ = t.st.checks.Get(key)
		return []api.TxnResult{{Check: &cur.Check}}, nil
	case api.TxnDeleteCAS:
		if ok && stale {
			return nil, api.Errorf(api.Internal, "failed to delete check %q on node %q, index is stale", c.CheckID, c.Node)
		}
		fallthrough
	case api.TxnDelete:
		if ok {
			t.dropCheck(cur)
		}
		return nil, nil
	}
	return nil, unknownVerb("Check", o.Verb)
}
