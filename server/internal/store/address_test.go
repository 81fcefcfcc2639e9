package store

import (
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

// What has an address follows every change: a new address, a deregistration, a restore.
func TestAddressesFollow(t *testing.T) {
	t.Parallel()
	s := New()
	index := uint64(0)
	do := func(f func(*Tx) error) {
		t.Helper()
		index++
		tx := s.Begin(index)
		if err := f(tx); err != nil {
			t.Fatal(err)
		}
		tx.Commit()
	}
	register := func(node, addr, id, at string) {
		t.Helper()
		do(func(tx *Tx) error {
			return tx.Register(&api.Registration{Node: node, Address: addr, Service: &api.Service{ID: id, Service: id, Address: at}})
		})
	}
	want := func(step, addr string, nodes, instances int) {
		t.Helper()
		n, _ := s.State().NodesAt(addr)
		i, _ := s.State().InstancesAt(addr)
		if len(n) != nodes || len(i) != instances {
			t.Errorf("%s: %s has %d nodes and %d instances, want %d and %d", step, addr, len(n), len(i), nodes, instances)
		}
	}
	register("n1", "10.0.0.1", "web", "FD00:0::1")
	register("n2", "10.0.0.1", "web", "fd00::1")
	want("registered", "10.0.0.1", 2, 0)
	want("registered", "fd00::1", 0, 2)
	register("n2", "10.0.0.2", "web", "fd00::2")
	want("moved", "10.0.0.1", 1, 0)
	want("moved", "10.0.0.2", 1, 0)
	want("moved", "fd00::1", 0, 1)
	want("moved", "fd00::2", 0, 1)
	register("n2", "10.0.0.2", "web", "")
	want("without an address of its own", "fd00::2", 0, 0)
	register("n2", "10.0.0.2", "web", "fd00::2")
	b := NewBuilder()
	for r := range s.State().Records {
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	s.Restore(b.State())
	want("restored", "10.0.0.2", 1, 0)
	want("restored", "fd00::2", 0, 1)
	do(func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "n2"}) })
	want("gone", "10.0.0.2", 0, 0)
	want("gone", "fd00::2", 0, 0)
	want("gone", "fd00::1", 0, 1)
}

func TestInstancesAt(t *testing.T) {
	t.Parallel()
	s := New()
	put := func(index uint64, node, id, addr string) {
		tx := s.Begin(index)
		if err := tx.Register(&api.Registration{Node: node, Address: "10.0.0.1", Service: &api.Service{ID: id, Service: id, Address: addr}}); err != nil {
			t.Fatal(err)
		}
		tx.Commit()
	}
	put(1, "n1", "web", "192.168.0.1")
	put(2, "n2", "web", "192.168.0.1")
	put(3, "n2", "six", "fd00:0::6")
	put(4, "n2", "bare", "")
	for addr, want := range map[string]int{"192.168.0.1": 2, "fd00::6": 1, "10.0.0.1": 0, "": 0} {
		got, m := s.State().InstancesAt(addr)
		if len(got) != want || m.Index != 4 {
			t.Errorf("InstancesAt(%q): %d instances at index %d, want %d at 4", addr, len(got), m.Index, want)
		}
		for _, i := range got {
			if i.Node == nil {
				t.Errorf("InstancesAt(%q): instance without its node", addr)
			}
		}
	}
}
