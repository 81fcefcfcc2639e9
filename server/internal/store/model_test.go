package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcall/rollcall/internal/api"
)

// model is the catalog as plain maps, and when each thing last changed.
type model struct {
	services map[string]api.Service // "node/id"
	checks   map[string]api.Check   // "node/id"
	kv       map[string]string
}

// answers are what readers see of a state, in a form that both can make.
func (m *model) answers() map[string][]string {
	out := map[string][]string{"kv": {}}
	for key, s := range m.services {
		node, _, _ := strings.Cut(key, "/")
		line := fmt.Sprintf("%s/%s:%d", node, s.ID, s.Port)
		var checks []string
		for ck, c := range m.checks {
			cnode, _, _ := strings.Cut(ck, "/")
			if cnode == node && (c.ServiceID == "" || c.ServiceID == s.ID) {
				checks = append(checks, c.CheckID+"="+c.Status+"("+c.Output+")")
			}
		}
		slices.Sort(checks)
		out[s.Service] = append(out[s.Service], line+fmt.Sprint(checks))
	}
	for k, v := range m.kv {
		out["kv"] = append(out["kv"], k+"="+v)
	}
	for k := range out {
		slices.Sort(out[k])
	}
	return out
}

func answers(st *State) map[string][]string {
	out := map[string][]string{"kv": {}}
	names, _ := st.Services()
	for _, n := range names {
		rows, _ := st.Instances(n.Name)
		for _, r := range rows {
			var checks []string
			for _, c := range r.Checks {
				checks = append(checks, c.CheckID+"="+c.Status+"("+c.Output+")")
			}
			slices.Sort(checks)
			out[n.Name] = append(out[n.Name], fmt.Sprintf("%s/%s:%d", r.Node.Node.Node, r.Service.ID, r.Service.Port)+fmt.Sprint(checks))
		}
	}
	pairs, _ := st.KVList("")
	for _, p := range pairs {
		out["kv"] = append(out["kv"], p.Key+"="+string(p.Value))
	}
	for k := range out {
		slices.Sort(out[k])
	}
	return out
}

// Any sequence of writes leaves store and model with the same answers; an answer whose
// mark did not change did not change (S11); who watches a service is woken when its
// answer changes by more than outputs (S3); and a copy made of records answers the same,
// with the same marks (S10).
func TestModel(t *testing.T) {
	t.Parallel()
	nodes, names, ids := []string{"n1", "n2", "n3"}, []string{"web", "db"}, []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		m := &model{map[string]api.Service{}, map[string]api.Check{}, map[string]string{}}
		pick := func(label string, of []string) string { return rapid.SampledFrom(of).Draw(t, label) }
		for index := uint64(1); index <= uint64(rapid.IntRange(1, 40).Draw(t, "steps")); index++ {
			before := s.State()
			watch := s.Watch(TopicService("web"))
			tx := s.Begin(index)
			node, id := pick("node", nodes), pick("id", ids)
			switch rapid.IntRange(0, 6).Draw(t, "op") {
			case 0, 1:
				r := web(node, pick("name", names), id)
				r.Service.Port = rapid.IntRange(1, 3).Draw(t, "port")
				if err := tx.Register(&r); err != nil {
					t.Fatal(err)
				}
				m.services[node+"/"+id] = *r.Service
			case 2:
				service := pick("of", append([]string{""}, ids...))
				r := check(node, "c"+service, service, pick("status", []string{api.Passing, api.Critical}), pick("output", []string{"x", "y"}))
				err := tx.Register(&r)
				_, has := m.services[node+"/"+service]
				if (err == nil) != (service == "" || has) {
					t.Fatalf("check of %q on %s: %v", service, node, err)
				}
				if err == nil {
					m.checks[node+"/c"+service] = *r.Checks[0]
				}
			case 3:
				_ = tx.Deregister(&api.Deregistration{Node: node, ServiceID: id})
				delete(m.services, node+"/"+id)
				delete(m.checks, node+"/c"+id)
			case 4:
				_ = tx.Deregister(&api.Deregistration{Node: node})
				for k := range m.services {
					if strings.HasPrefix(k, node+"/") {
						delete(m.services, k)
					}
				}
				for k := range m.checks {
					if strings.HasPrefix(k, node+"/") {
						delete(m.checks, k)
					}
				}
			case 5:
				tx.KVSet(&api.KVPair{Key: id, Value: []byte(node)})
				m.kv[id] = node
			case 6:
				tx.KVDelete(id)
				delete(m.kv, id)
			}
			tx.Commit()
			got := answers(s.State())
			if d := cmp.Diff(got, m.answers()); d != "" {
				t.Fatalf("step %d: store (-) model (+):\n%s", index, d)
			}
			was := answers(before)
			_, m1 := before.Instances("web")
			_, m2 := s.State().Instances("web")
			if changed := !slices.Equal(was["web"], got["web"]); m1 == m2 && changed {
				t.Fatalf("step %d: web changed and its mark did not: %v, then %v", index, was["web"], got["web"])
			}
			there := len(was["web"])+len(got["web"]) > 0 // without instances the index is the catalog's
			if there && m1.Index != m2.Index && !woken(watch) {
				t.Fatalf("step %d: the index of web moved and its watcher slept", index)
			}
			watch.Stop()
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
		if d := cmp.Diff(marks(copied.State()), marks(s.State())); d != "" {
			t.Fatalf("marks of restored (-) original (+):\n%s", d)
		}
		if _, mine := copied.State().Instances("web"); mine == (func() Mark { _, m := s.State().Instances("web"); return m })() {
			t.Fatal("marks are equal across a restore")
		}
	})
}
