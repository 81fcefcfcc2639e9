package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

// alive is a store with a living node n1 that has service w1 of web, checked by c1.
func alive(t testing.TB) *Store {
	t.Helper()
	s := New()
	register(t, s, 1, web("n1", "web", "w1"))
	register(t, s, 2, check("n1", api.SerfHealth, "", api.Passing, ""))
	register(t, s, 3, check("n1", "c1", "w1", api.Passing, ""))
	return s
}

func session(id string) *api.Session {
	return &api.Session{
		ID: id, Node: "n1", Behavior: api.ReleaseKeys, NodeChecks: []string{api.SerfHealth}, ServiceChecks: []api.SessionCheck{{ID: "c1"}},
	}
}

func TestS12SessionsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do     func(*Tx) error
		reason string // "" if it goes on
	}{
		"by request":           {func(tx *Tx) error { tx.EndSession("s1", "enough"); return nil }, "enough"},
		"another's end":        {func(tx *Tx) error { tx.EndSession("s2", "enough"); return nil }, ""},
		"node deregistered":    {func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "N1"}) }, `node "n1" was deregistered`},
		"check deregistered":   {func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "n1", CheckID: "c1"}) }, `check "c1" of node "n1" was deregistered`},
		"service deregistered": {func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "n1", ServiceID: "w1"}) }, `check "c1" of node "n1" was deregistered`},
		"check critical": {func(tx *Tx) error {
			r := check("n1", api.SerfHealth, "", api.Critical, "")
			return tx.Register(&r)
		}, `check "serfHealth" of node "n1" is critical`},
		"check warning": {func(tx *Tx) error {
			r := check("n1", "c1", "w1", api.Warning, "")
			return tx.Register(&r)
		}, ""},
		"another check critical": {func(tx *Tx) error {
			r := check("n1", "c2", "w1", api.Critical, "")
			return tx.Register(&r)
		}, ""},
	} {
		s := alive(t)
		for _, behavior := range []string{api.ReleaseKeys, api.DeleteKeys} {
			id := map[string]string{api.ReleaseKeys: "s1", api.DeleteKeys: "s3"}[behavior]
			if err := at(t, s, 5, func(tx *Tx) error {
				def := session(id)
				def.Behavior = behavior
				if err := tx.CreateSession(def); err != nil {
					return err
				}
				_, err := tx.KVLock(&api.KVPair{Key: behavior, Value: []byte("v"), Session: id})
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		watch := s.Watch(TopicSession("s1"))
		if err := at(t, s, 9, c.do); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		row, m := s.State().Session("s1")
		if (row == nil) != (c.reason != "") || woken(watch) != (c.reason != "") {
			t.Errorf("%s: session %v, watcher awake %t", name, row, woken(watch))
			continue
		}
		p, _ := s.State().KVGet(api.ReleaseKeys)
		if row != nil {
			if p.Session != "s1" || m.Index != 5 {
				t.Errorf("%s: key held by %q, index %d", name, p.Session, m.Index)
			}
			continue
		}
		e := s.State().SessionEnd("s1")
		if e == nil || e.Reason != c.reason || e.Index != 9 || m.Index != 9 {
			t.Errorf("%s: ended %+v, mark %v; want reason %q", name, e, m, c.reason)
		}
		if p.Session != "" || p.LockIndex != 1 || p.ModifyIndex != 9 || string(p.Value) != "v" {
			t.Errorf("%s: the key it held: %+v", name, p.KVPair)
		}
		if gone, _ := s.State().KVGet(api.DeleteKeys); gone != nil && name != "by request" {
			t.Errorf("%s: the key that shall be deleted: %+v", name, gone.KVPair)
		}
		if got := s.State().SessionEnds(8); len(got) == 0 || got[0].ID != "s1" || len(s.State().SessionEnds(9)) != 0 {
			t.Errorf("%s: ends since 8: %v", name, got)
		}
	}
}

func TestSessionRefused(t *testing.T) {
	t.Parallel()
	s := alive(t)
	register(t, s, 4, check("n1", "bad", "", api.Critical, ""))
	for name, c := range map[string]struct {
		change func(*api.Session)
		want   string
	}{
		"unknown node":   {func(d *api.Session) { d.Node = "n9" }, "Missing node registration"},
		"unknown check":  {func(d *api.Session) { d.NodeChecks = []string{"zz"} }, "Missing check 'zz' registration"},
		"critical check": {func(d *api.Session) { d.NodeChecks = []string{"bad"} }, "Check 'bad' is in critical state"},
		"no id":          {func(d *api.Session) { d.ID = "" }, "Missing session ID"},
	} {
		def := session("s1")
		c.change(def)
		err := at(t, s, 5, func(tx *Tx) error { return tx.CreateSession(def) })
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		if rows, _ := s.State().Sessions(); len(rows) != 0 {
			t.Errorf("%s: a session is there: %v", name, rows[0])
		}
	}
}

func TestS13Locks(t *testing.T) {
	t.Parallel()
	s := alive(t)
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	index := uint64(4)
	do := func(after time.Duration, f func(*Tx) (bool, error)) (ok bool, err error) {
		index++
		_ = at(t, s, index, func(tx *Tx) error {
			tx.SetTime(began.Add(after), 1)
			ok, err = f(tx)
			return nil
		})
		return ok, err
	}
	lock := func(session, value string) func(*Tx) (bool, error) {
		return func(tx *Tx) (bool, error) {
			return tx.KVLock(&api.KVPair{Key: "k", Value: []byte(value), Session: session})
		}
	}
	unlock := func(session string) func(*Tx) (bool, error) {
		return func(tx *Tx) (bool, error) {
			return tx.KVUnlock(&api.KVPair{Key: "k", Value: []byte("u"), Session: session})
		}
	}
	create := func(id string, delay time.Duration) func(*Tx) (bool, error) {
		return func(tx *Tx) (bool, error) {
			def := session(id)
			def.LockDelay = delay
			return true, tx.CreateSession(def)
		}
	}
	for i, c := range []struct {
		after  time.Duration
		do     func(*Tx) (bool, error)
		ok     bool
		err    string
		holder string
		locks  uint64
	}{
		{0, create("s1", 10*time.Second), true, "", "", 0},
		{0, create("s2", 0), true, "", "", 0},
		{0, lock("zz", "a"), false, `invalid session "zz"`, "", 0},
		{0, lock("", "a"), false, "missing session", "", 0},
		{0, lock("s1", "a"), true, "", "s1", 1},
		{0, lock("s1", "b"), true, "", "s1", 1}, // again, with another value
		{0, lock("s2", "c"), false, "", "s1", 1},
		{0, unlock("s2"), false, "", "s1", 1},
		{0, unlock("s1"), true, "", "", 1},
		{0, unlock("s1"), false, "", "", 1},
		{0, lock("s2", "c"), true, "", "s2", 2}, // let go by request: no delay
		{0, unlock("s2"), true, "", "", 2},
		{0, lock("s1", "d"), true, "", "s1", 3},
		{time.Second, func(tx *Tx) (bool, error) { tx.EndSession("s1", "test"); return true, nil }, true, "", "", 3},
		{10 * time.Second, lock("s2", "e"), false, "", "", 3}, // until 11 s
		{10 * time.Second, lock("s1", "e"), false, `invalid session "s1": it has ended: test`, "", 3},
		{10 * time.Second, func(tx *Tx) (bool, error) { tx.KVSet(&api.KVPair{Key: "k"}); return true, nil }, true, "", "", 3},
		{11 * time.Second, lock("s2", "e"), true, "", "s2", 4},
	} {
		ok, err := do(c.after, c.do)
		if ok != c.ok || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("step %d: %t, %v; want %t, %q", i, ok, err, c.ok, c.err)
		}
		p, _ := s.State().KVGet("k")
		holder, locks := "", uint64(0)
		if p != nil {
			holder, locks = p.Session, p.LockIndex
		}
		if holder != c.holder || locks != c.locks {
			t.Errorf("step %d: held by %q, lock index %d; want %q, %d", i, holder, locks, c.holder, c.locks)
		}
	}
	if n := s.State().delays.Len(); n != 0 {
		t.Errorf("%d delays are left behind a lock", n)
	}
}

// A lock delay lasts as long when another server leads whose clock is hours off, counted anew
// from its first entry at most; also on a server that has it from a snapshot.
func TestS13DelaysGoByAnyClock(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{0, time.Hour, -time.Hour} {
		s, index := alive(t), uint64(4)
		do := func(after time.Duration, term uint64, f func(*Tx) (bool, error)) bool {
			t.Helper()
			index++
			tx := s.Begin(index)
			defer tx.Commit()
			tx.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(after), term)
			ok, err := f(tx)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		lock := func(session string) func(*Tx) (bool, error) {
			return func(tx *Tx) (bool, error) { return tx.KVLock(&api.KVPair{Key: "k", Session: session}) }
		}
		for _, id := range []string{"s1", "s2"} {
			do(0, 1, func(tx *Tx) (bool, error) {
				def := session(id)
				def.LockDelay = 10 * time.Second
				return true, tx.CreateSession(def)
			})
		}
		do(0, 1, lock("s1"))
		do(time.Second, 1, func(tx *Tx) (bool, error) { tx.EndSession("s1", "test"); return true, nil })
		do(3*time.Second+off, 2, lock("s2")) // the other clock begins

		b := NewBuilder()
		for r := range s.State().Records {
			if err := b.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		copied := New()
		copied.Restore(b.State())
		s = copied
		for _, c := range []struct {
			after time.Duration
			want  bool
		}{{12 * time.Second, false}, {5 * time.Second, false}, {12900 * time.Millisecond, false}, {13 * time.Second, true}} {
			if got := do(c.after+off, 2, lock("s2")); got != c.want {
				t.Errorf("a clock that is %s off: after %s locked: %t, want %t", off, c.after, got, c.want)
			}
		}
	}
}

func TestReapForgetsEndsAndDelays(t *testing.T) {
	t.Parallel()
	s := alive(t)
	for i, id := range []string{"a", "b"} {
		_ = at(t, s, uint64(5+i), func(tx *Tx) error {
			def := session(id)
			def.LockDelay = time.Second
			if err := tx.CreateSession(def); err != nil {
				return err
			}
			_, err := tx.KVLock(&api.KVPair{Key: id, Session: id})
			tx.EndSession(id, "test")
			return err
		})
	}
	_ = at(t, s, 9, func(tx *Tx) error { tx.ReapTombstones(5); return nil })
	if st := s.State(); st.SessionEnd("a") != nil || st.SessionEnd("b") == nil || st.delays.Len() != 1 || st.Tombstones() != 2 {
		t.Errorf("after reaping: a %v, b %v, %d delays", st.SessionEnd("a"), st.SessionEnd("b"), st.delays.Len())
	}
}

func TestEndsAreBounded(t *testing.T) {
	t.Parallel()
	s := alive(t)
	_ = at(t, s, 5, func(tx *Tx) error {
		for i := range endsKept + 10 {
			id := strings.Repeat("x", i+1)
			if err := tx.CreateSession(session(id)); err != nil {
				return err
			}
			tx.EndSession(id, "test")
		}
		return nil
	})
	if a, b := s.State().ends.Len(), s.State().endings.Len(); a != endsKept || b != endsKept {
		t.Errorf("%d and %d ends are kept, want %d", a, b, endsKept)
	}
}

func TestS14Txn(t *testing.T) {
	t.Parallel()
	s := alive(t)
	_ = at(t, s, 5, func(tx *Tx) error {
		tx.KVSet(&api.KVPair{Key: "a", Value: []byte("1")})
		return tx.CreateSession(session("s1"))
	})
	kv := func(verb, key string) api.TxnOp {
		return api.TxnOp{KV: &api.TxnKV{Verb: verb, Key: key, Value: []byte("v"), Session: "s1", Index: 5}}
	}
	service := func(verb, id string, index uint64) api.TxnOp {
		return api.TxnOp{Service: &api.TxnService{Verb: verb, Node: "n1", Service: api.Service{ID: id, Service: "web", ModifyIndex: index}}}
	}
	node := func(verb, name string, index uint64) api.TxnOp {
		return api.TxnOp{Node: &api.TxnNode{Verb: verb, Node: api.Node{Node: name, Address: "10.0.0.9", ModifyIndex: index}}}
	}
	chk := func(verb, id string, index uint64) api.TxnOp {
		return api.TxnOp{Check: &api.TxnCheck{Verb: verb, Check: api.Check{Node: "n1", CheckID: id, Status: api.Passing, ModifyIndex: index}}}
	}
	for _, c := range []struct {
		ops    []api.TxnOp
		errors []string // of each that fails
		what   string   // kind and key of each result
	}{
		{[]api.TxnOp{kv("set", "b"), kv("get", "b"), kv("cas", "a"), kv("check-index", "a")}, []string{`failed index check for key "a", current modify index 6 != 5`}, ""},
		{[]api.TxnOp{kv("set", "b"), kv("get", "b"), kv("delete", "b"), kv("check-not-exists", "b")}, nil, "b b=v"},
		{[]api.TxnOp{kv("get", "zz"), kv("get-or-empty", "zz"), kv("foo", "a")}, []string{`key "zz" doesn't exist`, `unknown KV verb "foo"`}, ""},
		{[]api.TxnOp{kv("get-tree", ""), kv("get-or-empty", "zz")}, nil, "a=1 zz"},
		{[]api.TxnOp{kv("lock", "l"), kv("check-session", "l"), kv("unlock", "l"), kv("unlock", "l")}, []string{`failed to unlock key "l", lock isn't held, or is held by another session`}, ""},
		{[]api.TxnOp{kv("lock", "l"), kv("check-session", "l"), kv("unlock", "l")}, nil, "l l l"},
		{[]api.TxnOp{kv("delete-cas", "l")}, []string{`failed to delete key "l", index is stale`}, ""},
		{[]api.TxnOp{node("set", "n2", 0), node("get", "n2", 0), service("get", "w1", 0), service("cas", "w1", 1), chk("get", "c1", 0)}, nil, "n2 n2 w1 w1 c1"},
		{[]api.TxnOp{node("cas", "n1", 99), service("cas", "w9", 3), chk("delete-cas", "c1", 99), service("get", "w9", 0), node("get", "n9", 0), chk("get", "c9", 0), chk("bar", "c1", 0), service("bar", "w1", 0), node("bar", "n1", 0)}, []string{
			`failed to set node "n1", index is stale`, `failed to set service "w9" on node "n1", index is stale`, `failed to delete check "c1" on node "n1", index is stale`,
			`service "w9" on node "n1" doesn't exist`, `node "n9" doesn't exist`, `check "c9" on node "n1" doesn't exist`,
			`unknown Check verb "bar"`, `unknown Service verb "bar"`, `unknown Node verb "bar"`,
		}, ""},
		{[]api.TxnOp{kv("set", "c"), {Session: &api.TxnSession{Verb: "delete", Session: api.Session{ID: "s1"}}}, kv("lock", "l")}, []string{`invalid session "s1": it has ended: ended by a transaction`}, ""},
		{[]api.TxnOp{service("delete", "w1", 0), chk("get", "c1", 0)}, []string{`check "c1" on node "n1" doesn't exist`}, ""},
		{[]api.TxnOp{service("delete", "zz", 0), chk("delete", "zz", 0), node("delete", "zz", 0), node("delete-cas", "zz", 3)}, nil, ""},
		{[]api.TxnOp{{}}, nil, ""},
	} {
		before := s.State()
		watch := s.Watch(TopicPrefix(""), TopicNodes(), TopicSessions())
		var a *api.TxnAnswer
		_ = at(t, s, 6, func(tx *Tx) error { a = tx.Txn(c.ops); return nil })
		var errors []string
		for _, e := range a.Errors {
			errors = append(errors, e.What)
		}
		if d := cmp.Diff(c.errors, errors); d != "" {
			t.Errorf("errors (-want +got):\n%s", d)
		}
		var what []string
		for _, r := range a.Results {
			switch {
			case r.KV != nil && r.KV.Value != nil:
				what = append(what, r.KV.Key+"="+string(r.KV.Value))
			case r.KV != nil:
				what = append(what, r.KV.Key)
			case r.Node != nil:
				what = append(what, r.Node.Node)
			case r.Service != nil:
				what = append(what, r.Service.ID)
			case r.Check != nil:
				what = append(what, r.Check.CheckID)
			}
		}
		if got := strings.Join(what, " "); got != c.what {
			t.Errorf("results: got %q, want %q", got, c.what)
		}
		if c.errors != nil {
			if woken(watch) {
				t.Error("a transaction that failed woke somebody")
			}
			if d := cmp.Diff(marks(before), marks(s.State())); d != "" {
				t.Errorf("a transaction that failed changed indexes: %s", d)
			}
			if d := cmp.Diff(answers(before), answers(s.State())); d != "" {
				t.Errorf("a transaction that failed changed the state: %s", d)
			}
		}
		watch.Stop()
	}
}

// An id that comes again and ends again has one end, its last, whatever is reaped between.
func TestEndsOfAnIDThatCameAgain(t *testing.T) {
	t.Parallel()
	s := alive(t)
	for _, index := range []uint64{5, 9} {
		if err := at(t, s, index, func(tx *Tx) error {
			err := tx.CreateSession(session("a"))
			tx.EndSession("a", fmt.Sprint("at ", index))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	_ = at(t, s, 10, func(tx *Tx) error { tx.ReapTombstones(6); return nil })
	if e := s.State().SessionEnd("a"); e == nil || e.Reason != "at 9" || len(s.State().SessionEnds(0)) != 1 {
		t.Errorf("ended %+v, %d ends; want the last one alone", e, len(s.State().SessionEnds(0)))
	}
}
