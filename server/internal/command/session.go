package command

import (
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// CreateSession begins a session. Its id is chosen before it comes to the log.
type CreateSession struct{ api.Session }

// Op is OpCreateSession.
func (*CreateSession) Op() Op { return OpCreateSession }

// Exclusive is false.
func (*CreateSession) Exclusive() bool { return false }

// Keys is the session.
func (s *CreateSession) Keys() []string { return []string{"session/" + s.ID} }

// EndSession ends a session, for a reason that is kept. Its keys are let go.
type EndSession struct{ ID, Reason string }

// Op is OpEndSession.
func (*EndSession) Op() Op { return OpEndSession }

// Exclusive is true: it changes keys that it cannot name.
func (*EndSession) Exclusive() bool { return true }

// Keys is the session.
func (s *EndSession) Keys() []string { return []string{"session/" + s.ID} }

// Txn carries out all of its operations, or none.
type Txn struct{ Ops []api.TxnOp }

// Op is OpTxn.
func (*Txn) Op() Op { return OpTxn }

// Exclusive is true where an operation changes more rows than it names.
func (t *Txn) Exclusive() bool {
	for _, o := range t.Ops {
		switch {
		case o.KV != nil && o.KV.Verb == api.TxnDeleteTree, o.Session != nil && !o.Reads(),
			o.Node != nil && !o.Reads(), o.Service != nil && !o.Reads():
			return true
		}
	}
	return false
}

// Keys are those that are read as well: what a transaction saw must be what it changed.
func (t *Txn) Keys() []string {
	var keys []string
	for _, o := range t.Ops {
		switch {
		case o.KV != nil:
			keys = append(keys, "kv/"+o.KV.Key)
		case o.Node != nil:
			keys = append(keys, "node/"+strings.ToLower(o.Node.Node.Node))
		case o.Service != nil:
			keys = append(keys, "service/"+strings.ToLower(o.Service.Node)+"/"+o.Service.Service.ID)
		case o.Check != nil:
			keys = append(keys, "check/"+strings.ToLower(o.Check.Check.Node)+"/"+o.Check.Check.CheckID)
		case o.Session != nil:
			keys = append(keys, "session/"+o.Session.Session.ID)
		}
	}
	return keys
}
