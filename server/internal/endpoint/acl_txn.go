package endpoint

import (
	"context"
	"slices"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// transactAs commits a transaction where ACLs are on. What its asker may not do is told by
// operation, as other faults of a transaction are; what the asker may not see is left out
// of the results.
func (l *Local) transactAs(ctx context.Context, token string, t *command.Txn) (*command.Result, error) {
	h, err := l.holder(token)
	if err != nil {
		return nil, err
	}
	st := l.cfg.Store.State()
	var faults []api.TxnError
	for i := range t.Ops {
		if err := mayOperate(h, &t.Ops[i], st); err != nil {
			faults = append(faults, api.TxnError{OpIndex: i, What: err.Error()})
		}
	}
	if faults != nil {
		return &command.Result{Txn: &api.TxnAnswer{Errors: faults}}, nil
	}
	res, err := l.apply(ctx, t)
	if err != nil || res.Txn == nil {
		return res, err
	}
	next := *res
	next.Txn = (&filter{may: h.Authorizer}).txn(res.Txn)
	return &next, nil
}

// mayOperate says whether h may carry out one operation. Reads of nodes, services, checks and
// trees are not refused: what may not be seen is left out of their results.
func mayOperate(h *acl.Holder, o *api.TxnOp, st *store.State) error {
	switch {
	case o.KV != nil:
		switch {
		case o.KV.Verb == api.TxnGetTree:
			return nil
		case o.KV.Verb == api.TxnDeleteTree:
			return h.RequireTree(acl.Key, o.KV.Key, acl.Write)
		case o.Reads():
			return h.Require(acl.Key, o.KV.Key, acl.Read)
		}
		return h.Require(acl.Key, o.KV.Key, acl.Write)
	case o.Reads():
		return nil
	case o.Node != nil:
		return mayNode(h, o.Node.Node.Node, o.Node.Node.ID, st)
	case o.Service != nil:
		_, services, _ := st.NodeServices(o.Service.Node)
		for _, name := range []string{o.Service.Service.Service, named(services, o.Service.Service.ID)} {
			if name != "" {
				if err := h.Require(acl.Service, name, acl.Write); err != nil {
					return err
				}
			}
		}
		return nil
	case o.Check != nil:
		return mayOperateCheck(h, &o.Check.Check, st)
	case o.Session != nil:
		return mayEnd(h, o.Session.Session.ID, st)
	}
	return api.Errorf(api.Forbidden, "Permission denied: an operation without content")
}

// mayOperateCheck asks for what the check is about now, and for what it shall be about.
func mayOperateCheck(h *acl.Holder, c *api.Check, st *store.State) error {
	_, services, _ := st.NodeServices(c.Node)
	have, _ := st.NodeChecks(c.Node)
	found := false
	for _, was := range have {
		if was.CheckID == c.CheckID {
			found = true
			if err := mayCheck(h, c.Node, was.ServiceName, acl.Write); err != nil {
				return err
			}
		}
	}
	if name := named(services, c.ServiceID); name != "" || !found {
		return mayCheck(h, c.Node, name, acl.Write)
	}
	return nil
}

// mayEnd: a session is its node's matter. One that is not there is nobody's.
func mayEnd(h *acl.Holder, id string, st *store.State) error {
	if s, _ := st.Session(id); s != nil {
		return h.Require(acl.Session, s.Node, acl.Write)
	}
	return nil
}

// mayRenew says whether who asks q may renew the session that it names.
func (l *Local) mayRenew(q *Query) error {
	h, err := l.mayRead(q)
	if err != nil || h == nil {
		return err
	}
	return mayEnd(h, q.Name, l.cfg.Store.State())
}

// txn leaves out of an answer what may not be seen.
func (f *filter) txn(a *api.TxnAnswer) *api.TxnAnswer {
	if f.may == nil || a.Results == nil {
		return a
	}
	next := *a
	next.Results = slices.DeleteFunc(slices.Clone(a.Results), func(r api.TxnResult) bool {
		switch {
		case r.KV != nil:
			return !f.sees(acl.Key, r.KV.Key)
		case r.Node != nil:
			return !f.node(r.Node.Node)
		case r.Service != nil:
			return !f.service(r.Service.Service)
		case r.Check != nil:
			return !f.check(r.Check)
		}
		return false
	})
	return &next
}

// sessions leaves out what may not be seen, and rows that are none.
func (f *filter) sessions(rows []*store.Session) []*store.Session {
	return slices.DeleteFunc(slices.Clone(rows), func(s *store.Session) bool { return s == nil || !f.sees(acl.Session, s.Node) })
}
