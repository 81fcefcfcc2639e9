package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// Session is a session's row.
type Session struct {
	api.Session
	node string // in lower case
	fragment
}

// JSON gives the session as the HTTP API prints it. It is shared: do not change it.
func (s *Session) JSON() []byte { return s.encode(&s.Session) }

// delay keeps a key from being locked for a while after its holder's end.
type delay struct {
	key   string
	until int64 // Unix nanoseconds, by the log's clock
	index uint64
}

func bySession(a, b *Session) bool    { return a.ID < b.ID }
func byHome(a, b *Session) bool       { return compare2(a.node, b.node, a.ID, b.ID) < 0 }
func byHolder(a, b *Pair) bool        { return compare2(a.Session, b.Session, a.Key, b.Key) < 0 }
func byDelay(a, b *delay) bool        { return a.key < b.key }
func byEnd(a, b *api.SessionEnd) bool { return a.ID < b.ID }
func byTime(a, b *api.SessionEnd) bool {
	return cmp.Or(cmp.Compare(a.Index, b.Index), strings.Compare(a.ID, b.ID)) < 0
}

// endsKept bounds how many ends of sessions are remembered.
const endsKept = 4096

// SessionsMark is the mark of the list of sessions.
func (st *State) SessionsMark() Mark { return st.mark(st.tables.Sessions, st.tables.Sessions) }

// Sessions gives all sessions by id.
func (st *State) Sessions() ([]*Session, Mark) { return st.sessions.Items(), st.SessionsMark() }

// Session gives a session by id, nil if there is none. The mark of one that has ended is
// that of its end, as long as that is remembered.
func (st *State) Session(id string) (*Session, Mark) {
	if s, ok := st.sessions.Get(&Session{Session: api.Session{ID: id}}); ok {
		return s, st.mark(s.ModifyIndex, s.ModifyIndex)
	}
	if e := st.SessionEnd(id); e != nil {
		return nil, st.mark(e.Index, e.Index)
	}
	return nil, st.SessionsMark()
}

// NodeSessions gives the sessions of a node by id.
func (st *State) NodeSessions(node string) ([]*Session, Mark) {
	key := strings.ToLower(node)
	var out []*Session
	st.homes.Ascend(&Session{node: key}, func(s *Session) bool {
		if s.node != key {
			return false
		}
		out = append(out, s)
		return true
	})
	return out, st.SessionsMark()
}

// SessionEnd tells why a session is no more, nil if that is not known (any more).
func (st *State) SessionEnd(id string) *api.SessionEnd {
	e, _ := st.ends.Get(&api.SessionEnd{ID: id})
	return e
}

// SessionEnds gives the ends of sessions since an index, that one not included.
func (st *State) SessionEnds(since uint64) []*api.SessionEnd {
	var out []*api.SessionEnd
	st.endings.Ascend(&api.SessionEnd{Index: since + 1}, func(e *api.SessionEnd) bool {
		out = append(out, e)
		return true
	})
	return out
}

// Held gives the keys that a session holds.
func (st *State) Held(session string) []*Pair {
	var out []*Pair
	st.held.Ascend(&Pair{KVPair: api.KVPair{Session: session}}, func(p *Pair) bool {
		if p.Session != session {
			return false
		}
		out = append(out, p)
		return true
	})
	return out
}

// Clock is the time that lock delays are measured by. It goes with the clock of whoever
// leads: where another begins, whose clock may be hours off, it goes on from where it was. It
// never goes back.
type Clock struct {
	Term  uint64 // of the leader whose clock it goes with
	Ahead int64  // nanoseconds that it is ahead of that one
	Now   int64  // Unix nanoseconds at the last entry
}

// SetTime tells the transaction the time that the log has for it, and the term of the leader
// by whose clock that is. It decides alone, so that every server, and every replay, comes to
// the same answer.
func (t *Tx) SetTime(at time.Time, term uint64) {
	if at.IsZero() {
		return
	}
	c, leaders := &t.st.clock, at.UnixNano()
	if c.Term != term {
		if c.Term != 0 {
			c.Ahead = c.Now - leaders
		}
		c.Term = term
	}
	c.Now = max(c.Now, leaders+c.Ahead)
	t.now = c.Now
}

// CreateSession begins a session, whose node and checks must be there and well.
func (t *Tx) CreateSession(def *api.Session) error {
	s := &Session{Session: *def, node: strings.ToLower(def.Node)}
	s.CreateIndex, s.ModifyIndex = t.index, t.index
	if s.ID == "" {
		return api.Errorf(api.Internal, "Missing session ID")
	}
	if _, ok := t.st.sessions.Get(s); ok {
		return api.Errorf(api.Internal, "session %q exists already", s.ID)
	}
	if _, ok := t.st.nodes.Get(&Node{key: s.node}); !ok {
		return api.Errorf(api.Internal, "Missing node registration")
	}
	for _, id := range checksOf(&s.Session) {
		c, ok := t.st.checks.Get(&Check{Check: api.Check{CheckID: id}, node: s.node})
		if !ok {
			return api.Errorf(api.Internal, "Missing check '%s' registration", id)
		}
		if c.Status == api.Critical {
			return api.Errorf(api.Internal, "Check '%s' is in %s state", id, c.Status)
		}
	}
	if s.NodeChecks == nil {
		s.NodeChecks = []string{}
	}
	t.st.sessions.Set(s)
	t.st.homes.Set(s)
	t.sessionsChanged(s.ID)
	return nil
}

func checksOf(s *api.Session) []string {
	out := slices.Clone(s.NodeChecks)
	for _, c := range s.ServiceChecks {
		out = append(out, c.ID)
	}
	return out
}

func (t *Tx) sessionsChanged(id string) {
	t.st.tables.Sessions = t.index
	t.touch(TopicSessions())
	t.touch(TopicSession(id))
}

// EndSession ends a session, lets go of its keys, and removes the prepared queries that
// are bound to it. One that is not there is no error.
func (t *Tx) EndSession(id, reason string) {
	s, ok := t.st.sessions.Get(&Session{Session: api.Session{ID: id}})
	if !ok {
		return
	}
	t.st.sessions.Delete(s)
	t.st.homes.Delete(s)
	e := &api.SessionEnd{ID: id, Node: s.Node, Reason: reason, Index: t.index}
	if before, had := t.st.ends.Set(e); had { // an id that came again
		t.st.endings.Delete(before)
	}
	t.st.endings.Set(e)
	if t.st.endings.Len() > endsKept {
		oldest, _ := t.st.endings.PopMin()
		t.st.ends.Delete(oldest)
	}
	for _, p := range t.st.Held(id) {
		if s.Behavior == api.DeleteKeys {
			t.KVDelete(p.Key)
		} else {
			free := &Pair{KVPair: p.KVPair}
			free.Session, free.ModifyIndex = "", t.index
			t.setPair(free)
		}
		if s.LockDelay > 0 {
			t.st.delays.Set(&delay{p.Key, t.now + int64(s.LockDelay), t.index})
		}
	}
	t.dropQueriesOf(id)
	t.sessionsChanged(id)
}

// sessionExists reports whether a session lives.
func (t *Tx) sessionExists(id string) bool {
	s, _ := t.st.Session(id)
	return s != nil
}

// endSessionsOf ends the sessions that a check keeps alive.
func (t *Tx) endSessionsOf(c *Check, what string) {
	rows, _ := t.st.NodeSessions(c.node)
	for _, s := range rows {
		if slices.Contains(checksOf(&s.Session), c.CheckID) {
			t.EndSession(s.ID, fmt.Sprintf("check %q of node %q %s", c.CheckID, s.Node, what))
		}
	}
}

// KVLock writes a key and has a session hold it. It reports false while another session
// does, or while the delay after a holder's end is not over.
func (t *Tx) KVLock(p *api.KVPair) (bool, error) {
	if !t.sessionExists(p.Session) {
		if p.Session == "" {
			return false, api.Errorf(api.Internal, "missing session")
		}
		why := ""
		if e := t.st.SessionEnd(p.Session); e != nil {
			why = ": it has ended: " + e.Reason
		}
		return false, api.Errorf(api.Internal, "invalid session %q%s", p.Session, why)
	}
	if t.delayed(p.Key) {
		return false, nil
	}
	next := &Pair{KVPair: *p}
	next.LockIndex = 1
	cur := t.pair(next)
	if cur != nil {
		if cur.Session != "" && cur.Session != p.Session {
			return false, nil
		}
		next.LockIndex = cur.LockIndex
		if cur.Session == "" {
			next.LockIndex++
		}
	}
	t.st.delays.Delete(&delay{key: p.Key})
	t.putPair(next, cur)
	return true, nil
}

// delayed reports whether a key may not be locked yet.
func (t *Tx) delayed(key string) bool {
	d, ok := t.st.delays.Get(&delay{key: key})
	return ok && t.now < d.until
}

// KVUnlock writes a key and lets go of it; false if the session does not hold it.
func (t *Tx) KVUnlock(p *api.KVPair) (bool, error) {
	if p.Session == "" {
		return false, api.Errorf(api.Internal, "missing session")
	}
	next := &Pair{KVPair: *p}
	cur := t.pair(next)
	if cur == nil || cur.Session != p.Session {
		return false, nil
	}
	next.LockIndex, next.Session = cur.LockIndex, ""
	t.putPair(next, cur)
	return true, nil
}

// reapSessions forgets old ends and delays.
func (t *Tx) reapSessions(upTo uint64) {
	var old []*api.SessionEnd
	t.st.endings.Scan(func(e *api.SessionEnd) bool {
		if e.Index > upTo {
			return false
		}
		old = append(old, e)
		return true
	})
	for _, e := range old {
		t.st.ends.Delete(e)
		t.st.endings.Delete(e)
	}
	var over []*delay
	t.st.delays.Scan(func(d *delay) bool {
		if d.index <= upTo {
			over = append(over, d)
		}
		return true
	})
	for _, d := range over {
		t.st.delays.Delete(d)
	}
}
