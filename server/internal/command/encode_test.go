package command

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func examples() []Command {
	return []Command{
		&Register{api.Registration{
			Datacenter: "dc1", ID: "id1", Node: "n1", Address: "10.0.0.1", NodeMeta: map[string]string{"b": "2", "a": "1"},
			TaggedAddresses: map[string]string{"lan": "10.0.0.1"},
			Service:         &api.Service{ID: "w1", Service: "web", Tags: []string{"x"}, Port: 80, Weights: api.Weights{Passing: 1, Warning: 1}},
			Checks:          []*api.Check{{Node: "n1", CheckID: "c1", Name: "C", Status: api.Passing, ServiceID: "w1", Output: "ok"}},
		}},
		&Deregister{api.Deregistration{Datacenter: "dc1", Node: "n1", ServiceID: "w1"}},
		&KV{Verb: CAS, Pair: api.KVPair{Key: "a/b", Value: []byte{0, 255}, Flags: 1 << 63, ModifyIndex: 7}},
		&Reap{Index: 99},
		&CreateSession{api.Session{
			ID: "s1", Name: "lock", Node: "n1", LockDelay: 15e9, Behavior: api.ReleaseKeys, TTL: "10s",
			NodeChecks: []string{"serfHealth"}, ServiceChecks: []api.SessionCheck{{ID: "c1"}},
		}},
		&EndSession{ID: "s1", Reason: "ended by request"},
		&Txn{Ops: []api.TxnOp{
			{KV: &api.TxnKV{Verb: api.TxnSet, Key: "a", Value: []byte{1}, Flags: 3}},
			{Node: &api.TxnNode{Verb: api.TxnGet, Node: api.Node{Node: "N1"}}},
			{Service: &api.TxnService{Verb: api.TxnGet, Node: "N1", Service: api.Service{ID: "w1"}}},
			{Check: &api.TxnCheck{Verb: api.TxnSet, Check: api.Check{Node: "n1", CheckID: "c1"}}},
			{Session: &api.TxnSession{Verb: api.TxnDelete, Session: api.Session{ID: "s1"}}},
		}},
	}
}

// The bytes of an entry are a promise to every log on disk.
func TestGolden(t *testing.T) {
	t.Parallel()
	entry := append([]byte{}, Prefix...)
	for _, c := range examples() {
		var err error
		if entry, err = Append(entry, c); err != nil {
			t.Fatal(err)
		}
	}
	const path = "testdata/entry.hex"
	got := hex.Dump(entry)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, string(want)); d != "" {
		t.Errorf("entry: got (-) want (+):\n%s", d)
	}
	back, err := Decode(entry)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(back, examples()); d != "" {
		t.Errorf("decoded: got (-) want (+):\n%s", d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entry []byte
		want  error
	}{
		"empty":           {nil, ErrFormat},
		"another version": {[]byte{9, 1, 0}, ErrFormat},
		"cut":             {[]byte{1, 3, 200}, ErrCorrupt},
		"unknown op":      {[]byte{1, 77, 1, 0x80}, ErrCorrupt},
		"no map":          {[]byte{1, 3, 1, 0xc1}, ErrCorrupt},
		"length too long": {append([]byte{1, 3}, []byte(strings.Repeat("\xff", 10))...), ErrCorrupt},
	} {
		if _, err := Decode(c.entry); !errors.Is(err, c.want) {
			t.Errorf("%s: Decode(%x) = %v, want %v", name, c.entry, err, c.want)
		}
	}
}

// Two commands share a key exactly where they may write the same row.
func TestKeys(t *testing.T) {
	t.Parallel()
	got := map[string][]string{}
	for i, c := range examples() {
		got[string(rune('a'+i))] = c.Keys()
	}
	want := map[string][]string{"a": {"service/n1/w1", "check/n1/c1"}, "b": {"check/n1/"}, "c": {"kv/a/b"}, "d": nil,
		"e": {"session/s1"}, "f": {"session/s1"},
		"g": {"kv/a", "node/n1", "service/n1/w1", "check/n1/c1", "session/s1"}}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("keys: got (-) want (+):\n%s", d)
	}
}

func FuzzDecode(f *testing.F) {
	entry := append([]byte{}, Prefix...)
	for _, c := range examples() {
		entry, _ = Append(entry, c)
	}
	f.Add(entry)
	f.Add([]byte{1, 3, 1, 0xc1})
	f.Fuzz(func(t *testing.T, b []byte) {
		cmds, err := Decode(b)
		if err != nil {
			return
		}
		again := append([]byte{}, Prefix...)
		for _, c := range cmds {
			if again, err = Append(again, c); err != nil {
				t.Fatalf("Append of what was decoded: %v", err)
			}
		}
		if _, err := Decode(again); err != nil {
			t.Fatalf("Decode of what was encoded: %v", err)
		}
	})
}
