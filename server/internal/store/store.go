// Package store is the catalog's state: nodes, services, checks and keys as
// copy-on-write B-trees. There is one writer at a time (the state machine); readers take
// the root, an immutable State, without a lock, and keep it as long as they like. A
// commit publishes the next root and then wakes who watches what it touched, by topic:
// its cost follows the watchers, not the rows.
//
// The store knows no time, no log and no network. The numbered invariants stand in
// DESIGN.md. fsm writes; endpoint and leader read.
package store

import (
	"sync"
	"sync/atomic"
)

// Store holds the present state. Its methods may be called concurrently.
type Store struct {
	root     atomic.Pointer[State]
	writing  sync.Mutex         // held from Begin to Commit or Abort
	epoch    uint64             // guarded by writing; counts restores
	touched  map[Topic]struct{} // guarded by writing; empty between transactions
	registry registry
}

// New makes an empty store.
func New() *Store {
	s := &Store{touched: map[Topic]struct{}{}}
	s.root.Store(newState())
	s.registry.init()
	return s
}

// State gives the present state.
func (s *Store) State() *State { return s.root.Load() }

// Restore replaces the state by st, which must come from a Builder, and wakes everybody.
func (s *Store) Restore(st *State) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.epoch++
	st.epoch = s.epoch
	s.root.Store(st)
	s.registry.fireAll()
}

// Begin starts a transaction whose changes carry index. It waits for the one before to
// end; Commit or Abort must follow.
func (s *Store) Begin(index uint64) *Tx {
	s.writing.Lock()
	return &Tx{store: s, index: index, st: s.State().next(index), touched: s.touched}
}

// Commit publishes the transaction's state, then wakes the watchers of what changed.
func (t *Tx) Commit() {
	t.store.root.Store(t.st)
	t.store.registry.fire(t.touched)
	t.end()
}

// Abort forgets the transaction.
func (t *Tx) Abort() { t.end() }

// manyTouched is up to how many topics the map of them is used again.
const manyTouched = 4096

func (t *Tx) end() {
	if len(t.touched) > manyTouched {
		t.touched = map[Topic]struct{}{}
	}
	clear(t.touched)
	t.store.touched = t.touched
	t.store.writing.Unlock()
}

// Watch gives a watch on topics. Take it before State: then no change is missed.
func (s *Store) Watch(topics ...Topic) *Watch { return s.registry.watch(topics) }
