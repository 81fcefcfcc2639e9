package store

import (
	"bytes"

	"github.com/rollcall/rollcall/internal/api"
)

// KVSet writes a key; its indexes are the store's to set, its lock stays as it was. The
// same value, flags and lock again change nothing.
func (t *Tx) KVSet(p *api.KVPair) {
	if cur, ok := t.st.pairs.Get(&Pair{KVPair: *p}); ok {
		t.putPair(p, cur.LockIndex, cur.Session)
		return
	}
	t.putPair(p, 0, "")
}

// putPair writes a key with the lock it shall have.
func (t *Tx) putPair(p *api.KVPair, lockIndex uint64, session string) {
	next := &Pair{KVPair: *p}
	next.CreateIndex, next.ModifyIndex, next.LockIndex, next.Session = t.index, t.index, lockIndex, session
	if len(next.Value) == 0 {
		next.Value = nil
	}
	if cur, ok := t.st.pairs.Get(next); ok {
		next.CreateIndex = cur.CreateIndex
		if next.Flags == cur.Flags && next.LockIndex == cur.LockIndex && next.Session == cur.Session && bytes.Equal(next.Value, cur.Value) {
			return
		}
	}
	t.setPair(next)
}

// setPair puts a row in place of what is there.
func (t *Tx) setPair(next *Pair) {
	if old, ok := t.st.pairs.Set(next); ok && old.Session != "" {
		t.st.held.Delete(old)
	}
	if next.Session != "" {
		t.st.held.Set(next)
	}
	t.st.graves.Delete(&tombstone{key: next.Key})
	t.keyChanged(next.Key)
}

func (t *Tx) keyChanged(key string) {
	t.st.tables.KV = t.index
	t.touch(TopicKey(key))
}

// KVCAS writes a key if its ModifyIndex is index, where 0 means that there is no such
// key, and reports whether it was so.
func (t *Tx) KVCAS(p *api.KVPair, index uint64) bool {
	cur, ok := t.st.pairs.Get(&Pair{KVPair: *p})
	if ok != (index != 0) || ok && cur.ModifyIndex != index {
		return false
	}
	t.KVSet(p)
	return true
}

// KVDelete removes a key and leaves a tombstone, so that watchers of prefixes notice.
func (t *Tx) KVDelete(key string) {
	old, ok := t.st.pairs.Delete(&Pair{KVPair: api.KVPair{Key: key}})
	if !ok {
		return
	}
	if old.Session != "" {
		t.st.held.Delete(old)
	}
	t.st.graves.Set(&tombstone{key, t.index})
	t.keyChanged(key)
}

// KVDeleteCAS removes a key if its ModifyIndex is index, and reports whether it may: a
// key that is not there counts as removed.
func (t *Tx) KVDeleteCAS(key string, index uint64) bool {
	cur, ok := t.st.pairs.Get(&Pair{KVPair: api.KVPair{Key: key}})
	if !ok {
		return true
	}
	if cur.ModifyIndex != index {
		return false
	}
	t.KVDelete(key)
	return true
}

// KVDeleteTree removes all keys below a prefix.
func (t *Tx) KVDeleteTree(prefix string) {
	rows, _ := t.st.KVList(prefix)
	for _, p := range rows {
		t.KVDelete(p.Key)
	}
}

// ReapTombstones forgets keys deleted and sessions ended at or before an index. Nobody
// wakes.
func (t *Tx) ReapTombstones(upTo uint64) {
	t.reapSessions(upTo)
	var old []*tombstone
	t.st.graves.Scan(func(g *tombstone) bool {
		if g.index <= upTo {
			old = append(old, g)
		}
		return true
	})
	for _, g := range old {
		t.st.graves.Delete(g)
	}
}
