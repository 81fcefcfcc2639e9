// Package fsm is the state machine behind the log: it applies each entry's commands to
// the store as one transaction, and writes and reads snapshots. It is deterministic:
// equal entries make equal states and equal answers on every server. consensus drives
// it, one call at a time; nobody else does.
package fsm

import (
	"log/slog"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// FSM implements raft.FSM on a store.
type FSM struct {
	store *store.Store
	log   *slog.Logger
}

var _ raft.FSM = (*FSM)(nil)

// New makes the state machine of a store.
func New(s *store.Store, log *slog.Logger) *FSM {
	return &FSM{store: s, log: log.With("room", "fsm")}
}

// Apply carries out an entry. It answers each of its commands with a *command.Result, in
// their order. An entry that cannot be read changes nothing, on any server.
func (f *FSM) Apply(entry *raft.Log) any {
	cmds, err := command.Decode(entry.Data)
	if err != nil {
		f.log.Error("entry not readable; written by a newer version?", "index", entry.Index, "err", err)
		return err
	}
	tx := f.store.Begin(entry.Index)
	tx.SetTime(entry.AppendedAt, entry.Term)
	answers, results := make([]any, len(cmds)), make([]command.Result, len(cmds))
	for i, c := range cmds {
		results[i] = apply(tx, c, entry.Index)
		answers[i] = &results[i]
	}
	tx.Commit()
	return answers
}

func apply(tx *store.Tx, c command.Command, index uint64) command.Result {
	r := command.Result{Index: index, OK: true}
	var err error
	switch c := c.(type) {
	case *command.Register:
		err = tx.Register(&c.Registration)
		r.Kept = tx.Alive(c.Node)
	case *command.Deregister:
		r.Kept = tx.Alive(c.Node)
		err = tx.Deregister(&c.Deregistration)
	case *command.KV:
		r.OK, err = keyValue(tx, c)
	case *command.Reap:
		tx.ReapTombstones(c.Index)
	case *command.Query:
		err = query(tx, c)
	case *command.Places:
		tx.SetPlaces(c.Entries)
	case *command.Autopilot:
		r.OK = tx.SetAutopilot(&c.Config, c.CAS)
	case *command.CreateSession:
		err = tx.CreateSession(&c.Session)
		r.ID = c.ID
	case *command.EndSession:
		tx.EndSession(c.ID, c.Reason)
	case *command.Txn:
		r.Txn = tx.Txn(c.Ops)
		r.OK = r.Txn.Errors == nil
	default:
		var known bool
		if known, err = applyACL(tx, c); !known {
			err = api.Errorf(api.Internal, "command %d is not one for the log", c.Op())
		}
	}
	if err != nil {
		return command.Result{Index: index, Err: api.AsError(err)}
	}
	return r
}

func keyValue(tx *store.Tx, c *command.KV) (bool, error) {
	switch c.Verb {
	case command.Set:
		tx.KVSet(&c.Pair)
	case command.CAS:
		return tx.KVCAS(&c.Pair, c.Pair.ModifyIndex), nil
	case command.Delete:
		tx.KVDelete(c.Pair.Key)
	case command.DeleteCAS:
		return tx.KVDeleteCAS(c.Pair.Key, c.Pair.ModifyIndex), nil
	case command.DeleteTree:
		tx.KVDeleteTree(c.Pair.Key)
	case command.Lock:
		return tx.KVLock(&c.Pair)
	case command.Unlock:
		return tx.KVUnlock(&c.Pair)
	default:
		return false, api.Errorf(api.Invalid, "KV verb %d is not known to this version", c.Verb)
	}
	return true, nil
}
