package store

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcall/rollcall/internal/api"
)

// TestMain makes rapid try as many sequences as the flag rapid.checks says, 500 where
// nobody says.
func TestMain(m *testing.M) {
	if !slices.ContainsFunc(os.Args, func(a string) bool { return strings.Contains(a, "rapid.checks") }) {
		os.Args = append(os.Args, "-rapid.checks=500")
	}
	os.Exit(m.Run())
}

// model is the catalog as plain maps.
type model struct {
	services map[string]api.Service // "node/id"
	checks   map[string]api.Check   // "node/id"
	kv       map[string]held
	sessions map[string]api.Session
	delays   map[string]int64
	nodes    map[string]bool
	now      int64
}

type held struct {
	value, session string
	lockIndex      uint64
}

func newModel() *model {
	return &model{
		map[string]api.Service{}, map[string]api.Check{}, map[string]held{}, map[string]api.Session{}, map[string]int64{}, map[string]bool{}, 0,
	}
}

func (m *model) clone() *model {
	return &model{
		maps.Clone(m.services), maps.Clone(m.checks), maps.Clone(m.kv), maps.Clone(m.sessions), maps.Clone(m.delays), maps.Clone(m.nodes), m.now,
	}
}

func on(key string) string { node, _, _ := strings.Cut(key, "/"); return node }

func (m *model) endSession(id string) {
	s, ok := m.sessions[id]
	if !ok {
		return
	}
	delete(m.sessions, id)
	for k, p := range m.kv {
		if p.session != id {
			continue
		}
		if s.Behavior == api.DeleteKeys {
			delete(m.kv, k)
		} else {
			p.session = ""
			m.kv[k] = p
		}
		if s.LockDelay > 0 {
			m.delays[k] = m.now + int64(s.LockDelay)
		}
	}
}

func (m *model) endSessionsOf(node, check string) {
	for id, s := range m.sessions {
		if s.Node == node && slices.Contains(s.NodeChecks, check) {
			m.endSession(id)
		}
	}
}

func (m *model) setCheck(c api.Check) {
	m.checks[c.Node+"/"+c.CheckID] = c
	if c.Status == api.Critical {
		m.endSessionsOf(c.Node, c.CheckID)
	}
}

func (m *model) dropCheck(key string) {
	if c, ok := m.checks[key]; ok {
		delete(m.checks, key)
		m.endSessionsOf(c.Node, c.CheckID)
	}
}

func (m *model) dropService(node, id string) {
	delete(m.services, node+"/"+id)
	for key, c := range m.checks {
		if on(key) == node && c.ServiceID == id {
			m.dropCheck(key)
		}
	}
}

func (m *model) dropNode(node string) {
	delete(m.nodes, node)
	for id, s := range m.sessions {
		if s.Node == node {
			m.endSession(id)
		}
	}
	maps.DeleteFunc(m.services, func(k string, _ api.Service) bool { return on(k) == node })
	maps.DeleteFunc(m.checks, func(k string, _ api.Check) bool { return on(k) == node })
}

func (m *model) lock(key, session, value string) (ok, known bool) {
	if _, known = m.sessions[session]; !known {
		return false, false
	}
	p := m.kv[key]
	if m.now < m.delays[key] || p.session != "" && p.session != session {
		return false, true
	}
	delete(m.delays, key)
	if p.session == "" {
		p.lockIndex++
	}
	m.kv[key] = held{value, session, p.lockIndex}
	return true, true
}

// operate carries out an operation of a transaction and reports whether it succeeds.
func (m *model) operate(o *api.TxnOp) bool {
	switch {
	case o.Session != nil:
		m.endSession(o.Session.Session.ID)
	case o.Node != nil:
		m.dropNode(o.Node.Node.Node)
	case o.Check != nil:
		if c := o.Check.Check; m.nodes[c.Node] {
			m.setCheck(c)
			return true
		}
		return false
	default:
		key, value := o.KV.Key, string(o.KV.Value)
		p, exists := m.kv[key]
		switch o.KV.Verb {
		case api.TxnSet:
			p.value = value
			m.kv[key] = p
		case api.TxnDelete:
			delete(m.kv, key)
		case api.TxnGet, api.TxnCheckNotExists:
			return exists == (o.KV.Verb == api.TxnGet)
		case api.TxnLock:
			ok, _ := m.lock(key, o.KV.Session, value)
			return ok
		case api.TxnUnlock:
			if !exists || p.session != o.KV.Session {
				return false
			}
			m.kv[key] = held{value, "", p.lockIndex}
		case api.TxnCheckSession:
			return exists && p.session == o.KV.Session
		}
	}
	return true
}

// answers are what readers see of a state, in a form that both can make.
func (m *model) answers() map[string][]string {
	out := map[string][]string{}
	for key, s := range m.services {
		var checks []string
		for ck, c := range m.checks {
			if on(ck) == on(key) && (c.ServiceID == "" || c.ServiceID == s.ID) {
				checks = append(checks, c.CheckID+"="+c.Status+"("+c.Output+")")
			}
		}
		slices.Sort(checks)
		out[s.Service] = append(out[s.Service], fmt.Sprintf("%s:%d%v", key, s.Port, checks))
	}
	for k, p := range m.kv {
		out["kv"] = append(out["kv"], fmt.Sprintf("%s=%s by %q %d", k, p.value, p.session, p.lockIndex))
	}
	for id, s := range m.sessions {
		out["session"] = append(out["session"], id+" on "+s.Node)
	}
	for k := range out {
		slices.Sort(out[k])
	}
	return out
}

func answers(st *State) map[string][]string {
	out := map[string][]string{}
	names, _ := st.Services()
	for _, n := range names {
		rows, _ := st.Instances(n.Name)
		for _, r := range rows {
			var checks []string
			for _, c := range r.Checks {
				checks = append(checks, c.CheckID+"="+c.Status+"("+c.Output+")")
			}
			slices.Sort(checks)
			out[n.Name] = append(out[n.Name], fmt.Sprintf("%s/%s:%d%v", r.Node.Node.Node, r.Service.ID, r.Service.Port, checks))
		}
	}
	pairs, _ := st.KVList("")
	for _, p := range pairs {
		out["kv"] = append(out["kv"], fmt.Sprintf("%s=%s by %q %d", p.Key, p.Value, p.Session, p.LockIndex))
	}
	sessions, _ := st.Sessions()
	for _, s := range sessions {
		out["session"] = append(out["session"], s.ID+" on "+s.Session.Node)
	}
	for k := range out {
		slices.Sort(out[k])
	}
	return out
}

// question is something that can be read, and watched.
type question struct {
	topic Topic
	// read gives the rows as text, "" if there are none, and the mark.
	read func(*State) (string, Mark)
}

func questions() map[string]question {
	out := map[string]question{
		"sessions": {TopicSessions(), func(st *State) (string, Mark) {
			rows, m := st.Sessions()
			return text(rows), m
		}},
		"services": {TopicServices(), func(st *State) (string, Mark) {
			rows, m := st.Services()
			for _, r := range rows {
				slices.Sort(r.Tags)
			}
			return fmt.Sprint(rows), m
		}},
		"critical": {TopicState(api.Critical), func(st *State) (string, Mark) {
			rows, m := st.ChecksInState(api.Critical)
			return text(rows), m
		}},
	}
	for _, name := range []string{"web", "db"} {
		out["service "+name] = question{TopicService(name), func(st *State) (string, Mark) {
			rows, m := st.Instances(name)
			var all strings.Builder
			for _, r := range rows {
				all.WriteString(text([]*Node{r.Node}) + text([]*Service{r.Service}) + text(r.Checks))
			}
			return all.String(), m
		}}
	}
	for _, name := range []string{"n1", "n2"} {
		out["node "+name] = question{TopicNode(name), func(st *State) (string, Mark) {
			n, services, m := st.NodeServices(name)
			if n == nil {
				return "", m
			}
			checks, _ := st.NodeChecks(name)
			return text([]*Node{n}) + text(services) + text(checks), m
		}}
	}
	for _, prefix := range []string{"a", "b/", ""} {
		out["prefix "+prefix] = question{TopicPrefix(prefix), func(st *State) (string, Mark) {
			rows, m := st.KVList(prefix)
			return text(rows), m
		}}
	}
	out["key a"] = question{TopicKey("a"), func(st *State) (string, Mark) {
		row, m := st.KVGet("a")
		if row == nil {
			return "", m
		}
		return text([]*Pair{row}), m
	}}
	return out
}

func text[R interface{ JSON() []byte }](rows []R) string {
	var b strings.Builder
	for _, r := range rows {
		b.Write(r.JSON())
		b.WriteByte('\n')
	}
	return b.String()
}

// outputs takes the outputs of checks out of a text.
var outputs = strings.NewReplacer(`"Output":"x"`, "", `"Output":"y"`, "")

// Any sequence of writes leaves store and model with the same answers. Of each question:
// an answer that changed by more than outputs moved its index and woke its watcher, one
// that did not change did neither (S2, S3, S4, S5); equal marks mean equal answers (S11).
// A copy made of records answers the same, with the same marks (S10).
func TestModel(t *testing.T) {
	t.Parallel()
	nodes, names, ids, keys := []string{"n1", "n2", "n3"}, []string{"web", "db"}, []string{"a", "b", "c"}, []string{"a", "ab", "b/1", "b/2"}
	ask := questions()
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		m := newModel()
		pick := func(label string, of []string) string { return rapid.SampledFrom(of).Draw(t, label) }
		newCheck := func(node string) api.Check {
			service := pick("of", append([]string{""}, ids...))
			r := check(node, "c"+service, service, pick("status", []string{api.Passing, api.Critical}), pick("output", []string{"x", "y"}))
			return *r.Checks[0]
		}
		operation := func(node string) api.TxnOp {
			switch rapid.IntRange(0, 8).Draw(t, "kind") {
			case 0:
				return api.TxnOp{Session: &api.TxnSession{Verb: api.TxnDelete, Session: api.Session{ID: pick("session", ids)}}}
			case 1:
				return api.TxnOp{Node: &api.TxnNode{Verb: api.TxnDelete, Node: api.Node{Node: node}}}
			case 2:
				c := newCheck(node)
				c.ServiceID = ""
				return api.TxnOp{Check: &api.TxnCheck{Verb: api.TxnSet, Check: c}}
			}
			return api.TxnOp{KV: &api.TxnKV{
				Verb: pick("verb", []string{api.TxnSet, api.TxnDelete, api.TxnGet, api.TxnCheckNotExists, api.TxnLock, api.TxnUnlock, api.TxnCheckSession}),
				Key:  pick("key", keys), Value: []byte(pick("value", nodes)), Session: pick("session", ids),
			}}
		}
		steps := uint64(rapid.IntRange(1, 40).Draw(t, "steps"))
		for index := uint64(1); index <= steps; index++ {
			before := s.State()
			watches := map[string]*Watch{}
			for name, q := range ask {
				watches[name] = s.Watch(q.topic)
			}
			tx := s.Begin(index)
			m.now += int64(time.Second)
			tx.SetTime(time.Unix(0, m.now), 1)
			node, id := pick("node", nodes), pick("id", ids)
			backAndForth := false // a transaction may undo what it did: that may wake
			switch rapid.IntRange(0, 11).Draw(t, "op") {
			case 0, 1:
				r := web(node, pick("name", names), id)
				r.Service.Port = rapid.IntRange(1, 3).Draw(t, "port")
				if err := tx.Register(&r); err != nil {
					t.Fatal(err)
				}
				m.nodes[node] = true
				m.services[node+"/"+id] = *r.Service
			case 2, 3:
				c := newCheck(node)
				r := api.Registration{Node: node, Address: "10.0.0.1", Datacenter: "dc1", Checks: []*api.Check{&c}}
				err := tx.Register(&r)
				_, has := m.services[node+"/"+c.ServiceID]
				if (err == nil) != (c.ServiceID == "" || has) {
					t.Fatalf("check of %q on %s: %v", c.ServiceID, node, err)
				}
				if err == nil {
					m.nodes[node] = true
					m.setCheck(c)
				}
			case 4:
				_ = tx.Deregister(&api.Deregistration{Node: node, ServiceID: id})
				m.dropService(node, id)
			case 5:
				_ = tx.Deregister(&api.Deregistration{Node: node})
				m.dropNode(node)
			case 6:
				key := pick("key", keys)
				tx.KVSet(&api.KVPair{Key: key, Value: []byte(node)})
				p := m.kv[key]
				p.value = node
				m.kv[key] = p
			case 7:
				prefix := pick("prefix", []string{"a", "b/", "ab", "x"})
				tx.KVDeleteTree(prefix)
				maps.DeleteFunc(m.kv, func(k string, _ held) bool { return strings.HasPrefix(k, prefix) })
			case 8:
				def := api.Session{
					ID: id, Node: node, Behavior: pick("behavior", []string{api.ReleaseKeys, api.DeleteKeys}),
					LockDelay: time.Duration(rapid.IntRange(0, 3).Draw(t, "delay")) * time.Second, NodeChecks: []string{"c"},
				}
				c, well := m.checks[node+"/c"]
				_, taken := m.sessions[id]
				well = well && c.Status != api.Critical && m.nodes[node] && !taken
				if err := tx.CreateSession(&def); (err == nil) != well {
					t.Fatalf("session on %s, which is well: %t: %v", node, well, err)
				}
				if well {
					m.sessions[id] = def
				}
			case 9:
				key := pick("key", keys)
				got, err := tx.KVLock(&api.KVPair{Key: key, Value: []byte(node), Session: id})
				want, known := m.lock(key, id, node)
				if got != want || (err == nil) != known {
					t.Fatalf("lock of %s by %s: %t, %v; want %t, session known %t", key, id, got, err, want, known)
				}
			case 10, 11:
				backAndForth = true
				ops := make([]api.TxnOp, rapid.IntRange(1, 4).Draw(t, "ops"))
				next, wrong := m.clone(), 0
				for i := range ops {
					ops[i] = operation(node)
					if !next.operate(&ops[i]) {
						wrong++
					}
				}
				a := tx.Txn(ops)
				if len(a.Errors) != wrong || (a.Results == nil) != (wrong > 0) {
					t.Fatalf("transaction: %d errors, results %v; want %d errors", len(a.Errors), a.Results, wrong)
				}
				if wrong == 0 {
					m = next
				}
			}
			tx.Commit()
			if d := cmp.Diff(answers(s.State()), m.answers()); d != "" {
				t.Fatalf("step %d: store (-) model (+):\n%s", index, d)
			}
			for name, q := range ask {
				was, m1 := q.read(before)
				is, m2 := q.read(s.State())
				if m1 == m2 && was != is {
					t.Fatalf("step %d: %s changed and its mark did not: %v, then %v", index, name, was, is)
				}
				changed := outputs.Replace(was) != outputs.Replace(is)
				awake := woken(watches[name])
				watches[name].Stop()
				// The list of services also answers by the meta of nodes, and so moves with each
				// instance; checks in a state have the index of all checks.
				if name == "services" {
					continue
				}
				table := name == "critical"
				there := was != "" && is != "" && !backAndForth
				switch {
				case changed && (!awake || m2.Index <= m1.Index):
					t.Fatalf("step %d: %s changed; watcher awake: %t; index %d, then %d: %v, then %v", index, name, awake, m1.Index, m2.Index, was, is)
				case !changed && there && awake:
					t.Fatalf("step %d: %s did not change and its watcher woke: %v", index, name, is)
				case !changed && there && m2.Index != m1.Index && !table:
					t.Fatalf("step %d: %s did not change and its index moved from %d to %d: %v", index, name, m1.Index, m2.Index, is)
				}
			}
		}
		copied := New()
		b := NewBuilder()
		for r := range s.State().Records {
			if err := b.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		all := copied.Watch(TopicKey("nothing"))
		copied.Restore(b.State())
		if !woken(all) || !all.Restored() {
			t.Fatal("a restore did not wake a watcher, or did not say so")
		}
		if d := cmp.Diff(answers(copied.State()), answers(s.State())); d != "" {
			t.Fatalf("restored (-) original (+):\n%s", d)
		}
		for name, q := range ask {
			was, m1 := q.read(s.State())
			is, m2 := q.read(copied.State())
			if was != is || m1.Index != m2.Index || m1.Version != m2.Version {
				t.Fatalf("%s restored: %v %v, was %v %v", name, is, m2, was, m1)
			}
			if m1 == m2 {
				t.Fatalf("%s: marks are equal across a restore", name)
			}
		}
		if copied.State().held.Len() != s.State().held.Len() || copied.State().delays.Len() != s.State().delays.Len() || copied.State().ends.Len() != s.State().ends.Len() {
			t.Fatal("locks, delays or ends of sessions were lost in a restore")
		}
	})
}
