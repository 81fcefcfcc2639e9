package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// hash is of the whole state, as a snapshot has it.
func hash(t interface{ Fatal(...any) }, f *FSM) [sha256.Size]byte {
	var b bytes.Buffer
	if err := write(&b, f.store.State()); err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b.Bytes())
}

// anyCommand draws a command of any kind, on few names, so that they meet.
func anyCommand(t *rapid.T) command.Command {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	node, id, key := pick("node", "n1", "N1", "n2"), pick("id", "a", "b"), pick("key", "k", "k/1", "k/2", "l")
	status := pick("status", api.Passing, api.Warning, api.Critical)
	number := func(label string) uint64 { return rapid.Uint64Range(0, 40).Draw(t, label) }
	switch rapid.IntRange(0, 11).Draw(t, "command") {
	case 0, 1:
		return &command.Register{Registration: api.Registration{
			Datacenter: "dc1", Node: node, ID: pick("node id", "", "", "id1", "id2"), Address: pick("address", "10.0.0.1", "10.0.0.2"),
			Service: &api.Service{ID: id, Service: pick("service", "web", "db"), Port: int(number("port")), Tags: []string{pick("tag", "x", "y")}},
			Checks:  []*api.Check{{Node: node, CheckID: "c" + id, ServiceID: id, Status: status, Output: pick("output", "1", "2")}},
		}}
	case 2:
		return &command.Register{Registration: api.Registration{
			Datacenter: "dc1", Node: node, Address: "10.0.0.1", Checks: []*api.Check{{Node: node, CheckID: api.SerfHealth, Status: status}},
		}}
	case 3:
		return &command.Deregister{Deregistration: api.Deregistration{
			Node: node, ServiceID: pick("of service", "", "a", "b"), CheckID: pick("of check", "", "ca", api.SerfHealth),
		}}
	case 4, 5, 6:
		return &command.KV{Verb: command.Verb(rapid.IntRange(1, 7).Draw(t, "verb")), Pair: api.KVPair{
			Key: key, Value: []byte(pick("value", "", "1", "2")), Flags: number("flags"), ModifyIndex: number("index"), Session: pick("session", "s1", "s2"),
		}}
	case 7:
		return &command.CreateSession{Session: api.Session{
			ID: pick("session", "s1", "s2"), Node: node, Behavior: pick("behavior", api.ReleaseKeys, api.DeleteKeys),
			LockDelay: time.Duration(number("delay")) * time.Second, TTL: "10s", NodeChecks: []string{api.SerfHealth},
		}}
	case 8:
		return &command.EndSession{ID: pick("session", "s1", "s2"), Reason: "test"}
	case 9:
		return &command.Reap{Index: number("reap")}
	case 10:
		return &command.Query{Verb: command.QueryVerb(rapid.IntRange(1, 3).Draw(t, "query verb")), Query: api.PreparedQuery{
			ID: pick("query", "q1", "q2"), Name: pick("name", "", "a", "b"), Session: pick("bound", "", "s1"), Service: api.ServiceQuery{Service: "web"},
		}}
	}
	ops := make([]api.TxnOp, rapid.IntRange(1, 4).Draw(t, "ops"))
	for i := range ops {
		switch rapid.IntRange(0, 3).Draw(t, "op") {
		case 0:
			ops[i].Service = &api.TxnService{Verb: pick("verb", "set", "delete", "cas"), Node: node, Service: api.Service{ID: id, Service: "web", ModifyIndex: number("index")}}
		case 1:
			ops[i].Node = &api.TxnNode{Verb: pick("verb", "set", "delete", "get"), Node: api.Node{Node: node, Address: "10.0.0.3"}}
		case 2:
			ops[i].Session = &api.TxnSession{Verb: "delete", Session: api.Session{ID: pick("session", "s1", "s2")}}
		default:
			ops[i].KV = &api.TxnKV{Verb: pick("verb", "set", "delete", "lock", "unlock", "delete-tree", "check-not-exists"), Key: key, Value: []byte("t"), Session: "s1"}
		}
	}
	return &command.Txn{Ops: ops}
}

// Whatever was written: a server that replays the whole log, and one that restores a
// snapshot taken anywhere in it and replays the rest, have the same state, to the byte.
func TestReplayAndRestoreAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var entries []*raft.Log
		began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		for i := range rapid.IntRange(1, 40).Draw(t, "entries") {
			data := slices.Clone(command.Prefix)
			for range rapid.IntRange(1, 3).Draw(t, "commands") {
				var err error
				if data, err = command.Append(data, anyCommand(t)); err != nil {
					t.Fatal(err)
				}
			}
			entries = append(entries, &raft.Log{Index: uint64(i + 1), Data: data, AppendedAt: began.Add(time.Duration(i) * time.Second)})
		}
		cut := rapid.IntRange(0, len(entries)).Draw(t, "snapshot after")
		whole, _ := quiet()
		var image bytes.Buffer
		for i, e := range entries {
			if i == cut {
				if err := write(&image, whole.store.State()); err != nil {
					t.Fatal(err)
				}
			}
			if answers, ok := whole.Apply(e).([]any); !ok {
				t.Fatalf("entry %d: %v", i, answers)
			}
		}
		if cut == len(entries) {
			if err := write(&image, whole.store.State()); err != nil {
				t.Fatal(err)
			}
		}
		again, _ := quiet()
		for _, e := range entries {
			again.Apply(e)
		}
		if hash(t, again) != hash(t, whole) {
			t.Fatal("two replays of one log differ")
		}
		restored, _ := quiet()
		if err := restored.Restore(io.NopCloser(&image)); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries[cut:] {
			restored.Apply(e)
		}
		if hash(t, restored) != hash(t, whole) {
			t.Fatalf("a snapshot after %d of %d entries and the rest make another state:\n%s\nwant\n%s", cut, len(entries), rowsOf(restored), rowsOf(whole))
		}
	})
}

// rowsOf prints a state's records, for people.
func rowsOf(f *FSM) string {
	var b bytes.Buffer
	for r := range f.store.State().Records {
		fmt.Fprintf(&b, "%+v\n", *r)
	}
	return b.String()
}

func quiet() (*FSM, *store.Store) {
	s := store.New()
	return New(s, slog.New(slog.DiscardHandler)), s
}
