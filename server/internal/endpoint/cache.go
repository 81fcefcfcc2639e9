package endpoint

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/store"
)

// cached bounds how many distinct queries are remembered.
const cached = 4096

// cache evaluates each distinct query once a state, whoever and however many ask. What
// it gives away is shared, and so is the encoded body inside.
type cache struct {
	mu      sync.Mutex
	entries map[string]*entry // guarded by mu
}

// entry is one query's latest answer. The first to ask of a new state evaluates, the
// others wait for it.
type entry struct {
	mu     sync.Mutex
	state  *store.State // of the answer; guarded by mu
	mark   store.Mark   // guarded by mu
	answer *Answer      // guarded by mu
}

func newCache() *cache { return &cache{entries: map[string]*entry{}} }

// evaluate answers q from st, as far as may sees it; nil sees all. Those who see the same
// share an answer. Single sessions are looked up each time: they are as many as there are
// rows, and those carry their JSON.
func (c *cache) evaluate(q *Query, st *store.State, may *acl.Authorizer) (*Answer, error) {
	if may != nil && may.View() == "" {
		may = nil
	}
	if q.Kind == SessionInfo || q.Kind == TxnRead {
		a, _, err := evaluate(q, st, may)
		return a, err
	}
	var room [128]byte
	id := appendIdentity(room[:0], q)
	if may != nil {
		id = append(append(id, "\x00v"...), may.View()...)
	}
	e := c.entry(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.answer != nil && e.state == st {
		return e.answer, nil
	}
	if m, ok := currentMark(q, st); ok && e.answer != nil && m == e.mark {
		e.state = st
		return e.answer, nil
	}
	a, m, err := evaluate(q, st, may)
	if err != nil {
		return nil, err
	}
	if e.answer != nil && m == e.mark {
		e.state = st
		return e.answer, nil
	}
	e.state, e.mark, e.answer = st, m, a
	return a, nil
}

func (c *cache) entry(id []byte) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[string(id)]
	if e == nil {
		if len(c.entries) >= cached { // an arbitrary one goes: whoever needs it makes it again
			for old := range c.entries {
				delete(c.entries, old)
				break
			}
		}
		e = &entry{}
		c.entries[string(id)] = e
	}
	return e
}

// appendIdentity appends what is equal for queries that ask the same, whatever their
// options.
func appendIdentity(b []byte, q *Query) []byte {
	b = append(append(b, q.Kind...), 0)
	b = append(b, strings.ToLower(q.Name)...)
	if q.Kind == KVList || q.Kind == KVKeys { // keys have a case
		b = append(append(b, 0), q.Name...)
	}
	if q.Passing {
		b = append(b, "\x00passing"...)
	}
	for _, t := range q.Tags {
		b = fmt.Appendf(b, "\x00t%q", t)
	}
	if len(q.NodeMeta) > 0 {
		for _, k := range slices.Sorted(maps.Keys(q.NodeMeta)) {
			b = fmt.Appendf(b, "\x00m%q=%q", k, q.NodeMeta[k])
		}
	}
	if q.Filter != "" || q.Separator != "" || q.Near != "" {
		b = fmt.Appendf(b, "\x00f%q\x00s%q\x00n%q", q.Filter, q.Separator, q.Near)
	}
	return b
}

// currentMark gives the mark that q's answer would have now, without evaluating it,
// where that is cheap.
func currentMark(q *Query, st *store.State) (store.Mark, bool) {
	if q.Near != "" { // places may change the order
		return store.Mark{}, false
	}
	switch q.Kind {
	case Nodes:
		return st.NodesMark(), true
	case ServiceNodes, HealthService, HealthChecks:
		if len(q.NodeMeta) == 0 { // checks by meta of nodes read more than their own rows
			return st.ServiceMark(q.Name), true
		}
	case NodeServices, NodeList, NodeAge, HealthNode:
		return st.NodeMark(q.Name), true
	case SessionList, SessionNode:
		return st.SessionsMark(), true
	}
	return store.Mark{}, false
}
