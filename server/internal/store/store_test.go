package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

// at runs one transaction.
func at(t testing.TB, s *Store, index uint64, do func(*Tx) error) error {
	t.Helper()
	tx := s.Begin(index)
	err := do(tx)
	tx.Commit()
	return err
}

// register is for registrations that have to succeed.
func register(t testing.TB, s *Store, index uint64, r api.Registration) {
	t.Helper()
	if err := at(t, s, index, func(tx *Tx) error { return tx.Register(&r) }); err != nil {
		t.Fatalf("register at %d: %v", index, err)
	}
}

// web is an instance of a service on a node.
func web(node, service, id string, tags ...string) api.Registration {
	return api.Registration{
		Node: node, Address: "10.0.0.1", Datacenter: "dc1",
		Service: &api.Service{ID: id, Service: service, Port: 80, Tags: tags, Weights: api.Weights{Passing: 1, Warning: 1}},
	}
}

func check(node, id, service, status, output string) api.Registration {
	return api.Registration{
		Node: node, SkipNodeUpdate: true,
		Checks: []*api.Check{{Node: node, CheckID: id, Name: id, ServiceID: service, Status: status, Output: output}},
	}
}

func woken(w *Watch) bool {
	select {
	case <-w.C:
		return true
	default:
		return false
	}
}

func TestS1StatesDoNotChange(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 1, web("n1", "web", "w1"))
	old := s.State()
	register(t, s, 2, web("n1", "web", "w2"))
	if err := at(t, s, 3, func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "N1", ServiceID: "w1"}) }); err != nil {
		t.Fatal(err)
	}
	rows, m := old.Instances("web")
	if len(rows) != 1 || rows[0].Service.ID != "w1" || m.Index != 1 {
		t.Errorf("the old state: %d instances, index %d", len(rows), m.Index)
	}
	if rows, _ := s.State().Instances("WEB"); len(rows) != 1 || rows[0].Service.ID != "w2" {
		t.Errorf("the new state: %v", rows)
	}
}

func TestS2SameAgain(t *testing.T) {
	t.Parallel()
	s := New()
	r := web("n1", "web", "w1", "a")
	r.Checks = []*api.Check{{Node: "n1", CheckID: "c1", ServiceID: "w1", Status: api.Passing}}
	register(t, s, 1, r)
	_ = at(t, s, 2, func(tx *Tx) error { tx.KVSet(&api.KVPair{Key: "k", Value: []byte("v"), Flags: 1}); return nil })
	all := s.Watch(TopicNodes(), TopicServices(), TopicService("web"), TopicNode("n1"), TopicState(api.Any), TopicPrefix(""))
	defer all.Stop()
	before := marks(s.State())
	register(t, s, 3, r)
	_ = at(t, s, 4, func(tx *Tx) error { tx.KVSet(&api.KVPair{Key: "k", Value: []byte("v"), Flags: 1}); return nil })
	if woken(all) {
		t.Error("the same content woke a watcher")
	}
	if d := cmp.Diff(marks(s.State()), before); d != "" {
		t.Errorf("marks: got (-) want (+):\n%s", d)
	}
}

// marks are the indexes and versions of a few answers.
func marks(st *State) map[string][2]uint64 {
	out := map[string][2]uint64{}
	put := func(name string, m Mark) { out[name] = [2]uint64{m.Index, m.Version} }
	_, m := st.Nodes()
	put("nodes", m)
	_, m = st.Services()
	put("services", m)
	_, m = st.Instances("web")
	put("web", m)
	_, m = st.Instances("none")
	put("none", m)
	_, m = st.NodeChecks("n1")
	put("n1", m)
	_, m = st.ChecksInState(api.Any)
	put("checks", m)
	_, m = st.KVList("")
	put("kv", m)
	_, m = st.KVGet("k")
	put("k", m)
	return out
}

func TestS3Wakes(t *testing.T) {
	t.Parallel()
	topics := map[string]Topic{
		"nodes": TopicNodes(), "n1": TopicNode("N1"), "n2": TopicNode("n2"), "services": TopicServices(), "web": TopicService("Web"), "db": TopicService("db"),
		"any": TopicState(api.Any), "passing": TopicState(api.Passing), "critical": TopicState(api.Critical),
		"key a/b": TopicKey("a/b"), "prefix a/": TopicPrefix("a/"), "prefix": TopicPrefix(""), "prefix z": TopicPrefix("z"),
	}
	for name, c := range map[string]struct {
		do   func(*Tx) error
		want []string
	}{
		"a service": {func(tx *Tx) error { r := web("n1", "web", "w9"); return tx.Register(&r) }, []string{"n1", "services", "web"}},
		"a port":    {func(tx *Tx) error { r := web("n1", "web", "w1"); r.Service.Port = 81; return tx.Register(&r) }, []string{"n1", "web"}},
		"an address": {func(tx *Tx) error { r := web("n1", "web", "w1"); r.Address = "10.9.9.9"; return tx.Register(&r) },
			[]string{"nodes", "n1", "web", "db"}},
		"a status": {func(tx *Tx) error { r := check("n1", "c1", "w1", api.Critical, ""); return tx.Register(&r) },
			[]string{"n1", "web", "any", "passing", "critical"}},
		"a node's check": {func(tx *Tx) error { r := check("n1", "disk", "", api.Critical, ""); return tx.Register(&r) },
			[]string{"n1", "web", "db", "any", "critical"}},
		"the last instance": {func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "n1", ServiceID: "d1"}) }, []string{"n1", "services", "db"}},
		"a key":             {func(tx *Tx) error { tx.KVSet(&api.KVPair{Key: "a/b"}); return nil }, []string{"key a/b", "prefix a/", "prefix"}},
		"another key":       {func(tx *Tx) error { tx.KVSet(&api.KVPair{Key: "a/c"}); return nil }, []string{"prefix a/", "prefix"}},
		"a whole node": {func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "n1"}) },
			[]string{"nodes", "n1", "services", "web", "db", "any", "passing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := New()
			r := web("n1", "web", "w1")
			r.Checks = []*api.Check{{Node: "n1", CheckID: "c1", ServiceID: "w1", Status: api.Passing}}
			register(t, s, 1, r)
			register(t, s, 2, web("n1", "db", "d1"))
			register(t, s, 3, web("n2", "other", "o1"))
			watches := map[string]*Watch{}
			for name, topic := range topics {
				watches[name] = s.Watch(topic)
				defer watches[name].Stop()
			}
			if err := at(t, s, 10, c.do); err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{}
			for _, w := range c.want {
				want[w] = true
			}
			for name, w := range watches {
				if got := woken(w); got != want[name] {
					t.Errorf("%s: woken %t, want %t", name, got, want[name])
				}
			}
		})
	}
}

func TestWatchStops(t *testing.T) {
	t.Parallel()
	s := New()
	w := s.Watch(TopicPrefix("a/"), TopicKey("a/b"), TopicNodes())
	w.Stop()
	w.Stop()
	if n, l := len(s.registry.watchers), len(s.registry.lengths); n != 0 || l != 0 {
		t.Errorf("after Stop: %d topics, %d lengths are left", n, l)
	}
	w = s.Watch(TopicPrefix("a/"), TopicKey("a/b"), TopicNodes())
	_ = at(t, s, 1, func(tx *Tx) error { tx.KVSet(&api.KVPair{Key: "a/b"}); return nil })
	if n, l := len(s.registry.watchers), len(s.registry.lengths); !woken(w) || n != 0 || l != 0 {
		t.Errorf("after firing: woken %t, %d topics, %d lengths are left", woken(w), n, l)
	}
}

func TestS4OutputAlone(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 1, web("n1", "web", "w1"))
	register(t, s, 2, check("n1", "c1", "w1", api.Passing, "one"))
	before := s.State()
	_, m1 := before.Instances("web")
	w := s.Watch(TopicService("web"), TopicNode("n1"), TopicState(api.Any), TopicState(api.Passing))
	defer w.Stop()
	register(t, s, 3, check("n1", "c1", "w1", api.Passing, "two"))
	rows, m2 := s.State().Instances("web")
	if woken(w) {
		t.Error("an output woke a watcher")
	}
	if m1.Index != m2.Index || m1.Version == m2.Version {
		t.Errorf("marks: %+v, then %+v; want the same index and another version", m1, m2)
	}
	if got := rows[0].Checks[0].Output; got != "two" {
		t.Errorf("output: got %q, want two", got)
	}
	_, c1 := before.ChecksInState(api.Passing)
	_, c2 := s.State().ChecksInState(api.Passing)
	if c1.Index != c2.Index || c1.Version == c2.Version {
		t.Errorf("marks of the state list: %+v, then %+v", c1, c2)
	}
}

func TestS5ServiceIndex(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 1, web("n1", "web", "w1"))
	register(t, s, 2, web("n2", "db", "d1"))
	register(t, s, 3, check("n2", "disk", "", api.Passing, ""))
	if _, m := s.State().Instances("web"); m.Index != 1 {
		t.Errorf("index of web: %d, want 1: nothing of it changed", m.Index)
	}
	if _, m := s.State().Instances("db"); m.Index != 3 {
		t.Errorf("index of db: %d, want 3: its node's check appeared", m.Index)
	}
}

func TestS6ServiceWithoutInstances(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 4, web("n1", "web", "w1"))
	if _, m := s.State().Instances("none"); m.Index != 4 {
		t.Errorf("no name has vanished: index %d, want the catalog's, 4", m.Index)
	}
	_ = at(t, s, 7, func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "n1", ServiceID: "w1"}) })
	register(t, s, 9, web("n1", "db", "d1"))
	for _, name := range []string{"web", "none"} {
		if _, m := s.State().Instances(name); m.Index != 7 {
			t.Errorf("%s: index %d, want 7", name, m.Index)
		}
	}
}

func TestS7Tombstones(t *testing.T) {
	t.Parallel()
	s := New()
	set := func(i uint64, k string) {
		_ = at(t, s, i, func(tx *Tx) error { tx.KVSet(&api.KVPair{Key: k, Value: []byte{1}}); return nil })
	}
	set(1, "a/1")
	set(2, "a/2")
	set(3, "b")
	_ = at(t, s, 5, func(tx *Tx) error { tx.KVDelete("a/2"); return nil })
	set(6, "c")
	if rows, m := s.State().KVList("a/"); len(rows) != 1 || m.Index != 5 {
		t.Errorf("a/: %d keys, index %d; want 1 and 5", len(rows), m.Index)
	}
	if _, m := s.State().KVList("none"); m.Index != 6 {
		t.Errorf("none: index %d, want the table's, 6", m.Index)
	}
	_ = at(t, s, 8, func(tx *Tx) error { tx.ReapTombstones(5); return nil })
	if _, m := s.State().KVList("a/"); m.Index != 1 || s.State().Tombstones() != 0 {
		t.Errorf("a/ after reaping: index %d with %d tombstones; want 1 and 0", m.Index, s.State().Tombstones())
	}
	set(9, "a/2") // a key that comes back has no tombstone
	_ = at(t, s, 10, func(tx *Tx) error { tx.KVDeleteTree("a/"); return nil })
	if rows, m := s.State().KVList("a/"); len(rows) != 0 || m.Index != 10 || s.State().Tombstones() != 2 {
		t.Errorf("a/ after the tree: %d keys, index %d, %d tombstones", len(rows), m.Index, s.State().Tombstones())
	}
}

func TestKVConditions(t *testing.T) {
	t.Parallel()
	s := New()
	var got []bool
	_ = at(t, s, 1, func(tx *Tx) error {
		got = append(got, tx.KVCAS(&api.KVPair{Key: "a"}, 5), tx.KVCAS(&api.KVPair{Key: "a", Value: []byte("1")}, 0), tx.KVCAS(&api.KVPair{Key: "a"}, 0))
		got = append(got, tx.KVDeleteCAS("none", 3), tx.KVDeleteCAS("a", 0))
		return nil
	})
	_ = at(t, s, 2, func(tx *Tx) error {
		got = append(got, tx.KVCAS(&api.KVPair{Key: "a", Value: []byte("2")}, 1), tx.KVDeleteCAS("a", 1), tx.KVDeleteCAS("a", 2))
		return nil
	})
	if d := cmp.Diff(got, []bool{false, true, false, true, false, true, false, true}); d != "" {
		t.Errorf("cas, create, create again, delete missing, delete 0, cas, delete stale, delete: got (-) want (+):\n%s", d)
	}
}

func TestS8Errors(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 1, web("n1", "web", "w1"))
	bad := check("n1", "c", "nobody", api.Passing, "")
	bad.SkipNodeUpdate, bad.Address = false, "10.7.7.7"
	var err error
	_ = at(t, s, 2, func(tx *Tx) error {
		err = tx.Register(&bad)
		tx.KVSet(&api.KVPair{Key: "k"})
		return nil
	})
	var e *api.Error
	if !errors.As(err, &e) || e.Text != "Missing service registration" {
		t.Errorf("a check of no service: %v", err)
	}
	if n, _ := s.State().Node("n1"); n.Address != "10.0.0.1" {
		t.Errorf("the failed registration moved the node to %s", n.Address)
	}
	if p, _ := s.State().KVGet("k"); p == nil {
		t.Error("the other write of the transaction is gone")
	}
}

func TestS9Names(t *testing.T) {
	t.Parallel()
	s := New()
	node := func(name, id, status string) api.Registration {
		return api.Registration{Node: name, ID: id, Address: "10.0.0.1", Checks: []*api.Check{{Node: name, CheckID: api.SerfHealth, Status: status}}}
	}
	register(t, s, 1, node("n1", "id1", api.Passing))
	other := node("N1", "id2", api.Passing)
	if err := at(t, s, 2, func(tx *Tx) error { return tx.Register(&other) }); err == nil {
		t.Error("a living node's name was taken")
	}
	renamed := node("n2", "id1", api.Passing)
	if err := at(t, s, 3, func(tx *Tx) error { return tx.Register(&renamed) }); err == nil {
		t.Error("a living node's id was taken")
	}
	register(t, s, 4, check("n1", api.SerfHealth, "", api.Critical, ""))
	register(t, s, 5, other)
	if n := s.State().NodeByID("id2"); n == nil || n.Node.Node != "N1" || s.State().NodeByID("id1") != nil {
		t.Errorf("after the name was given up: %v, %v", n, s.State().NodeByID("id1"))
	}
	register(t, s, 6, check("n1", api.SerfHealth, "", api.Critical, ""))
	register(t, s, 7, node("n3", "ID2", api.Passing)) // letters of either case are the same id
	if n, _ := s.State().Node("n1"); n != nil {
		t.Errorf("after its id was renamed, n1 is still there")
	}
	if n, _ := s.State().Node("n3"); n == nil || n.CreateIndex != 1 || n.ModifyIndex != 7 {
		t.Errorf("the node renamed: %+v, want it made at 1 and changed at 7", n)
	}
}

// fill writes n instances on n/10 nodes.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		r := web(fmt.Sprintf("node%d", i/10), fmt.Sprintf("svc%d", i%100), fmt.Sprintf("id%d", i), "a", "b")
		r.Checks = []*api.Check{{Node: r.Node, CheckID: fmt.Sprintf("c%d", i), ServiceID: r.Service.ID, Status: api.Passing}}
		register(t, s, uint64(i+1), r)
	}
}

func BenchmarkStoreRegister(b *testing.B) {
	for _, n := range []int{1000, 20000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := New()
			fill(b, s, n)
			index := uint64(n)
			b.ReportAllocs()
			for b.Loop() {
				index++
				r := web(fmt.Sprintf("node%d", index%uint64(n/10)), "svc1", "one more")
				r.Service.Port = int(index % 60000)
				register(b, s, index, r)
			}
		})
	}
}

func BenchmarkStoreInstances(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := New()
			fill(b, s, n*100)
			b.ReportAllocs()
			for b.Loop() {
				if rows, _ := s.State().Instances("svc1"); len(rows) != n {
					b.Fatal(len(rows))
				}
			}
		})
	}
}
