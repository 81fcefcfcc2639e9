package api

import (
	"cmp"
	"encoding/json"
)

// The verbs of a transaction's operations on keys. Those of nodes, services and checks
// are get, set, cas, delete and delete-cas; that of sessions is delete.
const (
	TxnSet            = "set"
	TxnCAS            = "cas"
	TxnLock           = "lock"
	TxnUnlock         = "unlock"
	TxnGet            = "get"
	TxnGetOrEmpty     = "get-or-empty"
	TxnGetTree        = "get-tree"
	TxnCheckIndex     = "check-index"
	TxnCheckSession   = "check-session"
	TxnCheckNotExists = "check-not-exists"
	TxnDelete         = "delete"
	TxnDeleteTree     = "delete-tree"
	TxnDeleteCAS      = "delete-cas"
)

// TxnOp is one operation of a transaction: one of its fields is set.
type TxnOp struct {
	KV      *TxnKV      `json:",omitempty" codec:",omitempty"`
	Node    *TxnNode    `json:",omitempty" codec:",omitempty"`
	Service *TxnService `json:",omitempty" codec:",omitempty"`
	Check   *TxnCheck   `json:",omitempty" codec:",omitempty"`
	Session *TxnSession `json:",omitempty" codec:",omitempty"`
}

// TxnKV is an operation on a key.
type TxnKV struct {
	Verb    string
	Key     string
	Value   []byte
	Flags   uint64
	Index   uint64
	Session string
}

// TxnNode is an operation on a node.
type TxnNode struct {
	Verb string
	Node Node
}

// TxnService is an operation on a service of a node.
type TxnService struct {
	Verb    string
	Node    string
	Service Service
}

// TxnCheck is an operation on a check.
type TxnCheck struct {
	Verb  string
	Check Check
}

// UnmarshalJSON implements json.Unmarshaler. The times of a check's definition may be called as
// Consul's Go client calls them inside, and count then.
func (t *TxnCheck) UnmarshalJSON(b []byte) error {
	type plain TxnCheck
	if err := json.Unmarshal(b, (*plain)(t)); err != nil {
		return err
	}
	var inside struct {
		Check struct {
			Definition struct {
				IntervalDuration, TimeoutDuration, DeregisterCriticalServiceAfterDuration Duration
			}
		}
	}
	if err := json.Unmarshal(b, &inside); err != nil {
		return err
	}
	from, to := &inside.Check.Definition, &t.Check.Definition
	to.Interval = cmp.Or(from.IntervalDuration, to.Interval)
	to.Timeout = cmp.Or(from.TimeoutDuration, to.Timeout)
	to.DeregisterCriticalServiceAfter = cmp.Or(from.DeregisterCriticalServiceAfterDuration, to.DeregisterCriticalServiceAfter)
	return nil
}

// TxnSession is an operation on a session.
type TxnSession struct {
	Verb    string
	Session Session
}

// Reads reports whether the operation changes nothing.
func (o *TxnOp) Reads() bool {
	switch {
	case o.KV != nil:
		switch o.KV.Verb {
		case TxnSet, TxnCAS, TxnLock, TxnUnlock, TxnDelete, TxnDeleteTree, TxnDeleteCAS:
			return false
		}
		return true
	case o.Node != nil:
		return o.Node.Verb == TxnGet
	case o.Service != nil:
		return o.Service.Verb == TxnGet
	case o.Check != nil:
		return o.Check.Verb == TxnGet
	case o.Session != nil:
		return false
	}
	return true
}

// TxnResult is what one operation gave: one of its fields is set.
type TxnResult struct {
	KV      *KVPair  `json:",omitempty" codec:",omitempty"`
	Node    *Node    `json:",omitempty" codec:",omitempty"`
	Service *Service `json:",omitempty" codec:",omitempty"`
	Check   *Check   `json:",omitempty" codec:",omitempty"`
}

// TxnError is why one operation failed.
type TxnError struct {
	OpIndex int
	What    string
}

// TxnAnswer is the outcome of a transaction: results, or with any error nothing was
// changed. A nil list prints as null, as clients expect of the one that does not apply.
type TxnAnswer struct {
	Results []TxnResult
	Errors  []TxnError
}
