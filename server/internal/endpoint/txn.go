package endpoint

import (
	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// checkTxn fills in and refuses what can be told before a transaction is carried out. Its
// faults are part of an answer, not an error.
func checkTxn(ops []api.TxnOp, dc string) *api.TxnAnswer {
	var faults []api.TxnError
	for i := range ops {
		if err := checkOp(&ops[i], dc); err != nil {
			faults = append(faults, api.TxnError{OpIndex: i, What: err.Error()})
		}
	}
	if faults == nil {
		return nil
	}
	return &api.TxnAnswer{Errors: faults}
}

func checkOp(o *api.TxnOp, dc string) error {
	switch {
	case o.KV != nil:
		if o.KV.Key == "" && o.KV.Verb != api.TxnDeleteTree {
			return api.Errorf(api.Internal, "Must provide key")
		}
	case o.Node != nil:
		n := &o.Node.Node
		n.Datacenter = dc
		if o.Node.Verb == api.TxnSet || o.Node.Verb == api.TxnCAS {
			// other than a registration's, its address may be empty
			r := api.Registration{Node: n.Node, SkipNodeUpdate: true, NodeMeta: n.Meta}
			return registration(&r, dc)
		}
		if n.Node == "" && n.ID == "" {
			return api.Errorf(api.Internal, "Must provide node")
		}
	case o.Service != nil:
		if o.Service.Node == "" {
			return api.Errorf(api.Internal, "Must provide node")
		}
		s := &o.Service.Service
		if o.Service.Verb != api.TxnSet && o.Service.Verb != api.TxnCAS {
			if s.ID == "" {
				s.ID = s.Service
			}
			return nil
		}
		r := api.Registration{Node: o.Service.Node, SkipNodeUpdate: true, Service: s}
		return registration(&r, dc)
	case o.Check != nil:
		c := &o.Check.Check
		if c.Node == "" {
			return api.Errorf(api.Internal, "Must provide node")
		}
		if c.CheckID == "" {
			c.CheckID = c.Name
		}
		if c.CheckID == "" {
			return api.Errorf(api.Internal, "Must provide check name or id")
		}
	case o.Session != nil && o.Session.Verb == api.TxnDelete:
		return validUUID("session", o.Session.Session.ID)
	}
	return nil
}

// transact carries out a transaction's checks before it goes to the log: the answer if
// it needs to go no further.
func transact(c command.Command, dc string) *command.Result {
	t, ok := c.(*command.Txn)
	if !ok {
		return nil
	}
	if a := checkTxn(t.Ops, dc); a != nil {
		return &command.Result{Txn: a}
	}
	return nil
}

// txnRead answers a transaction that only reads.
func txnRead(q *Query, st *store.State, keep *filter) *Answer {
	a := checkTxn(q.Txn, "")
	if a == nil {
		a = keep.txn(st.TxnRead(q.Txn))
	}
	return &Answer{Found: a.Errors == nil, Value: a}
}
