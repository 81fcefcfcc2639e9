// Package command says what a log entry is: the writes of the catalog as values, and
// their encoding. The encoding is a promise to every log and snapshot on disk; golden
// tests hold its bytes. A batch of commands travels as one Raft entry and is applied
// as one state transaction.
package command

import (
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// Op numbers a kind of command in the log. Numbers are never reused.
type Op uint8

// The kinds of command.
const (
	OpRegister   Op = 1
	OpDeregister Op = 2
	OpKV         Op = 3
	OpReap       Op = 4 // drop tombstones

	OpCreateSession Op = 5
	OpEndSession    Op = 6
	OpTxn           Op = 7
)

// A Command is one write. Keys names what it writes ("service/n1/web", "kv/a"): two
// commands that share a key never travel in one entry, so that each row changes at
// most once at an index. An Exclusive command touches rows that it cannot name and
// travels alone.
type Command interface {
	Op() Op
	Keys() []string
	Exclusive() bool
}

// Register writes a node, and with it a service and checks, in one step.
type Register struct{ api.Registration }

// Op is OpRegister.
func (*Register) Op() Op { return OpRegister }

// Exclusive is false.
func (*Register) Exclusive() bool { return false }

// Keys are the service and the checks; the node too where it is all there is.
func (r *Register) Keys() []string {
	node := strings.ToLower(r.Node)
	var keys []string
	if r.Service != nil {
		keys = append(keys, "service/"+node+"/"+r.Service.ID)
	}
	if r.Check != nil {
		keys = append(keys, "check/"+node+"/"+r.Check.CheckID)
	}
	for _, c := range r.Checks {
		keys = append(keys, "check/"+node+"/"+c.CheckID)
	}
	if len(keys) == 0 {
		keys = append(keys, "node/"+node)
	}
	return keys
}

// Deregister removes a service, a check or a node.
type Deregister struct{ api.Deregistration }

// Op is OpDeregister.
func (*Deregister) Op() Op { return OpDeregister }

// Exclusive is true for a whole node and for a service (whose checks go with it).
func (d *Deregister) Exclusive() bool { return d.CheckID == "" }

// Keys is the check.
func (d *Deregister) Keys() []string {
	return []string{"check/" + strings.ToLower(d.Node) + "/" + d.CheckID}
}

// Verb is what a KV command does.
type Verb uint8

// The verbs of KV.
const (
	Set        Verb = 1
	CAS        Verb = 2 // set if ModifyIndex equals the pair's; 0 means create only
	Delete     Verb = 3
	DeleteCAS  Verb = 4
	DeleteTree Verb = 5
	Lock       Verb = 6
	Unlock     Verb = 7
)

// KV changes one key, or with DeleteTree all keys below Pair.Key.
type KV struct {
	Verb Verb
	Pair api.KVPair
}

// Op is OpKV.
func (*KV) Op() Op { return OpKV }

// Exclusive is true for DeleteTree.
func (k *KV) Exclusive() bool { return k.Verb == DeleteTree }

// Keys is the key.
func (k *KV) Keys() []string { return []string{"kv/" + k.Pair.Key} }

// Reap forgets the tombstones of keys deleted at or before Index.
type Reap struct{ Index uint64 }

// Op is OpReap.
func (*Reap) Op() Op { return OpReap }

// Exclusive is true.
func (*Reap) Exclusive() bool { return true }

// Keys is empty.
func (*Reap) Keys() []string { return nil }

// Result answers one command.
type Result struct {
	// Index at which the command was applied.
	Index uint64
	// OK is false when a condition (CAS) did not hold: an answer, not an error.
	OK bool
	// Err says why the command changed nothing, else nil.
	Err *api.Error `codec:",omitempty"`
	// ID is that of what was created, where the server chose it.
	ID string `codec:",omitempty"`
	// Kept says of a write to the catalog that the node's agent lives, and will write back
	// what it knows better.
	Kept bool `codec:",omitempty"`
	// Txn is the outcome of a transaction.
	Txn *api.TxnAnswer `codec:",omitempty"`
	// Keyring is what gossip pools said of their keys.
	Keyring []*api.KeyringAnswer `codec:",omitempty"`
}
