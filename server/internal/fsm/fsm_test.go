package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

func apply1(t testing.TB, f *FSM, index uint64, cmds ...command.Command) []command.Result {
	t.Helper()
	entry := slices.Clone(command.Prefix)
	for _, c := range cmds {
		var err error
		if entry, err = command.Append(entry, c); err != nil {
			t.Fatal(err)
		}
	}
	list, ok := f.Apply(&raft.Log{Index: index, Data: entry}).([]any)
	if !ok || len(list) != len(cmds) {
		t.Fatalf("%d commands got %d answers", len(cmds), len(list))
	}
	out := make([]command.Result, len(list))
	for i, v := range list {
		out[i] = *v.(*command.Result)
	}
	return out
}

func kv(verb command.Verb, key, value string, index uint64) *command.KV {
	return &command.KV{Verb: verb, Pair: api.KVPair{Key: key, Value: []byte(value), ModifyIndex: index}}
}

func machine(t testing.TB) (*FSM, *store.Store) {
	t.Helper()
	s := store.New()
	return New(s, slogTo(t)), s
}

// One entry is one transaction; each of its commands has its own answer, and one that
// fails takes none of the others with it.
func TestEntry(t *testing.T) {
	t.Parallel()
	f, s := machine(t)
	got := apply1(t, f, 7,
		kv(command.Set, "a", "1", 0),
		&command.Register{Registration: api.Registration{Node: "n1", Address: "10.0.0.1", Service: &api.Service{ID: "w", Service: "web"}}},
		&command.Register{Registration: api.Registration{Node: "n2", Address: "10.0.0.2", Checks: []*api.Check{{Node: "n2", CheckID: "c", ServiceID: "none"}}}},
		kv(command.CAS, "b", "2", 3),
		kv(command.Verb(99), "c", "", 0),
		&command.Deregister{Deregistration: api.Deregistration{Node: "nobody"}},
	)
	want := []command.Result{
		{Index: 7, OK: true}, {Index: 7, OK: true}, {Index: 7, Err: api.Errorf(api.Internal, "Missing service registration")},
		{Index: 7}, {Index: 7, Err: api.Errorf(api.Invalid, "KV verb 99 is not known to this version")}, {Index: 7, OK: true},
	}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("answers: got (-) want (+):\n%s", d)
	}
	if n, _ := s.State().Node("n2"); n != nil {
		t.Error("the failed registration left its node")
	}
	if rows, m := s.State().Instances("web"); len(rows) != 1 || m.Index != 7 {
		t.Errorf("web: %d instances, index %d", len(rows), m.Index)
	}
}

// An entry that cannot be read changes nothing and ends nothing.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	f, s := machine(t)
	for _, data := range [][]byte{nil, {9}, {1, 3, 200}, {1, 77, 0}} {
		if err, ok := f.Apply(&raft.Log{Index: 1, Data: data}).(error); !ok || err == nil {
			t.Errorf("Apply(%x) gave no error", data)
		}
	}
	if i := s.State().Index(); i != 0 {
		t.Errorf("index %d after unreadable entries", i)
	}
}

type sink struct {
	bytes.Buffer
	closed, cancelled bool
	fail              bool
}

func (s *sink) ID() string    { return "1" }
func (s *sink) Close() error  { s.closed = true; return nil }
func (s *sink) Cancel() error { s.cancelled = true; return nil }
func (s *sink) Write(b []byte) (int, error) {
	if s.fail {
		return 0, errors.New("disk full")
	}
	return s.Buffer.Write(b)
}

func full(t testing.TB) (*FSM, *store.Store) {
	f, s := machine(t)
	for i := range uint64(200) {
		apply1(t, f, i+1, &command.Register{Registration: api.Registration{
			Node: fmt.Sprintf("n%d", i%7), ID: fmt.Sprintf("id%d", i%7), Address: "10.0.0.1",
			Service: &api.Service{ID: fmt.Sprint(i), Service: "web", Tags: []string{"a"}, Meta: map[string]string{"k": "v"}},
			Checks:  []*api.Check{{Node: fmt.Sprintf("n%d", i%7), CheckID: fmt.Sprint("c", i), ServiceID: fmt.Sprint(i), Status: api.Passing}},
		}}, kv(command.Set, fmt.Sprint("key", i), "value", 0))
	}
	apply1(t, f, 201, kv(command.Delete, "key7", "", 0))
	return f, s
}

func dump(st *store.State) []store.Record {
	var out []store.Record
	for r := range st.Records {
		out = append(out, *r)
	}
	return out
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	f, s := full(t)
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want := dump(s.State())
	apply1(t, f, 300, kv(command.Set, "later", "x", 0)) // goes on while it is written
	var out sink
	if err := snap.Persist(&out); err != nil || !out.closed {
		t.Fatalf("persist: %v, closed %t", err, out.closed)
	}
	whole := out.Bytes()
	g, copied := machine(t)
	if err := g.Restore(io.NopCloser(bytes.NewReader(whole))); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(dump(copied.State()), want); d != "" {
		t.Errorf("restored (-) original (+):\n%s", d)
	}
	before := copied.State()
	for _, cut := range []int{0, 5, len(magic), len(whole) / 2, len(whole) - 1} {
		if err := g.Restore(io.NopCloser(bytes.NewReader(whole[:cut]))); !errors.Is(err, ErrSnapshot) {
			t.Errorf("cut at %d: %v, want ErrSnapshot", cut, err)
		}
	}
	bad := slices.Clone(whole)
	copy(bad[len(magic):], []byte{0xff, 0xff, 0xff, 0xff})
	if err := g.Restore(io.NopCloser(bytes.NewReader(bad))); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a record of 4 GB: %v, want ErrSnapshot", err)
	}
	if copied.State() != before {
		t.Error("a failed restore changed the state")
	}
	broken := &sink{fail: true}
	if err := snap.Persist(broken); err == nil || !broken.cancelled {
		t.Errorf("a full disk: %v, cancelled %t", err, broken.cancelled)
	}
}

func FuzzRestore(f *testing.F) {
	m, _ := full(f)
	snap, _ := m.Snapshot()
	var out sink
	if err := snap.Persist(&out); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes()[:2000])
	f.Add([]byte(magic + "\x00\x00\x00\x00"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = read(bytes.NewReader(b)) // must not panic
	})
}
