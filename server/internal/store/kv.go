package store

import (
	"bytes"

	"github.com/rollcall/rollcall/internal/api"
)

// KVSet writes a key; its indexes are the store's to set, its lock stays as it was. The
// same value, flags and lock again change nothing.
func (t *Tx) KVSet(p *api.KVPair) {
	next := &Pair{KVPair: *p}
	t.putValue(next, t.pair(next))
}

// putValue writes a row in place of cur, with the lock that cur has.
func (t *Tx) putValue(next, cur *Pair) {
	next.LockIndex, next.Session = 0, ""
	if cur != nil {
		next.LockIndex, next.Session = cur.LockIndex, cur.Session
	}
	t.putPair(next, cur)
}

// pair gives the row of a pair's key, nil if there is none. It remembers the way there, for
// setPair.
func (t *Tx) pair(p *Pair) *Pair {
	cur, _ := t.st.pairs.GetHint(p, &t.path)
	return cur
}

// putPair writes a row, with the lock that it has, in place of cur.
func (t *Tx) putPair(next, cur *Pair) {
	next.CreateIndex, next.ModifyIndex = t.index, t.index
	if len(next.Value) == 0 {
		next.Value = nil
	}
	if cur != nil {
		next.CreateIndex = cur.CreateIndex
		if next.Flags == cur.Flags && next.LockIndex == cur.LockIndex && next.Session == cur.Session && bytes.Equal(next.Value, cur.Value) {
			return
		}
	}
	t.setPair(next)
}

// setPair puts a row in place of what is there.
func (t *Tx) setPair(next *Pair) {
	if old, ok := t.st.pairs.SetHint(next, &t.path); ok && old.Session != "" {
		t.st.held.Delete(old)
	}
	if next.Session != "" {
		t.st.held.Set(next)
	}
	if t.st.graves.Len() > 0 {
		t.st.graves.Delete(&tombstone{key: next.Key})
	}
	t.keyChanged(next.Key)
}

func (t *Tx) keyChanged(key string) {
	t.st.tables.KV = t.index
	t.touch(TopicKey(key))
}

// KVCAS writes a key if its ModifyIndex is index, where 0 means that there is no such
// key, and reports whether it was so.
func (t *Tx) KVCAS(p *api.KVPair, index uint64) bool {
	next := &Pair{KVPair: *p}
	cur := t.pair(next)
	if (cur != nil) != (index != 0) || cur != nil && cur.ModifyIndex != index {
		return false
	}
	t.putValue(next, cur)
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
