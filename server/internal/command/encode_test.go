package command

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/msgpack"
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

// What is spelled out for writes of keys is what msgpack makes of them, and is read as msgpack
// reads it; what it does not know is left to msgpack.
func TestKeyBytes(t *testing.T) {
	t.Parallel()
	number := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 300), rapid.SampledFrom([]uint64{127, 128, 1 << 16, 1<<16 - 1, 1 << 32, 1<<32 - 1}))
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat("x", 1<<16), "\xff\x00"}))
	rapid.Check(t, func(t *rapid.T) {
		k := &KV{Verb: Verb(rapid.Uint8().Draw(t, "verb")), Pair: api.KVPair{
			Key: text.Draw(t, "key"), Session: text.Draw(t, "session"), Flags: number.Draw(t, "flags"), LockIndex: number.Draw(t, "lock"),
			CreateIndex: number.Draw(t, "create"), ModifyIndex: number.Draw(t, "modify"),
		}}
		if rapid.Bool().Draw(t, "has value") {
			k.Pair.Value = []byte(text.Draw(t, "value"))
		}
		body, err := msgpack.Encode(k)
		if err != nil {
			t.Fatal(err)
		}
		item, err := Append([]byte{9}, k)
		if want := append(binary.AppendUvarint([]byte{9, byte(OpKV)}, uint64(len(body))), body...); err != nil || !bytes.Equal(item, want) {
			t.Fatalf("%x, %v, msgpack makes %x", item, err, want)
		}
		var read, want KV
		if err := msgpack.Decode(body, &want); err != nil || !read.read(body) {
			t.Fatalf("not read: %v", err)
		}
		if d := cmp.Diff(read, want); d != "" {
			t.Errorf("got (-), msgpack reads (+):\n%s", d)
		}
		clear(body)
		if d := cmp.Diff(read, want); d != "" {
			t.Errorf("it kept a part of what it was read from: %s", d)
		}
	})
	newer := struct {
		Verb, More int
		Pair       struct{ Key, More string }
	}{Verb: 1}
	newer.Pair.Key = "k"
	body, err := msgpack.Encode(newer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeOne(append([]byte{byte(OpKV), byte(len(body))}, body...))
	if d := cmp.Diff(got, Command(&KV{Verb: Set, Pair: api.KVPair{Key: "k"}})); err != nil || d != "" {
		t.Errorf("of a newer version: %v %s", err, d)
	}
}
