package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

func named(id, name, service string) *api.PreparedQuery {
	return &api.PreparedQuery{ID: id, Name: name, Service: api.ServiceQuery{Service: service}}
}

func templateOf(id, name, service string) *api.PreparedQuery {
	q := named(id, name, service)
	q.Template.Type = api.TemplatePrefixMatch
	return q
}

func setQuery(t testing.TB, s *Store, index uint64, q *api.PreparedQuery) error {
	t.Helper()
	return at(t, s, index, func(tx *Tx) error { return tx.SetQuery(q) })
}

// found gives the id of the query that answers, or the error's text.
func foundQuery(st *State, idOrName string) string {
	q, err := st.FindQuery(idOrName)
	switch {
	case err != nil:
		return err.Error()
	case q == nil:
		return ""
	}
	return q.ID
}

func TestS15FindQuery(t *testing.T) {
	t.Parallel()
	s := New()
	for i, q := range []*api.PreparedQuery{
		named("1", "Web", "web"), templateOf("2", "geo-", "a"), templateOf("3", "geo-db-", "b"), named("4", "geo-db-exact", "c"),
	} {
		if err := setQuery(t, s, uint64(i+1), q); err != nil {
			t.Fatal(err)
		}
	}
	const byID = "prepared query templates can only be resolved up by name, not by ID"
	for asked, want := range map[string]string{
		"1": "1", "web": "1", "WEB": "1", "webs": "", "": "", "geo": "", "geo-": "2", "GEO-x": "2", "geo-db": "2", "geo-db-": "3", "geo-db-x": "3",
		"geo-db-exact": "4", "geo-db-exactly": "3", "2": byID,
	} {
		if got := foundQuery(s.State(), asked); got != want {
			t.Errorf("%q is answered by %q, want %q", asked, got, want)
		}
	}
	if err := setQuery(t, s, 9, templateOf("5", "", "all")); err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{"anything": "5", "": "5", "geo-x": "2"} {
		if got := foundQuery(s.State(), asked); got != want {
			t.Errorf("with a template for all names %q is answered by %q, want %q", asked, got, want)
		}
	}
}

// No query may hide another; what is refused changes nothing (S8).
func TestS15SetQueryRefuses(t *testing.T) {
	t.Parallel()
	const uuid = "f1575ee8-92f1-4ba1-9eb9-2f4fcc3d7da0"
	s := New()
	for i, q := range []*api.PreparedQuery{named(uuid, "web", "web"), templateOf("2", "", "all")} {
		if err := setQuery(t, s, uint64(i+1), q); err != nil {
			t.Fatal(err)
		}
	}
	bound := named("3", "x", "web")
	bound.Session = "adf4238a-882b-9ddc-4a9d-5b6758e4159e"
	before := s.State()
	for want, q := range map[string]*api.PreparedQuery{
		"name 'WEB' aliases an existing query name":              named("3", "WEB", "web"),
		"name '" + uuid + "' aliases an existing query ID":       named("3", uuid, "web"),
		"a query template with an empty name already exists":     templateOf("3", "", "web"),
		`invalid session "adf4238a-882b-9ddc-4a9d-5b6758e4159e"`: bound,
		"name 'web' aliases an existing query name":              templateOf("3", "web", "web"),
	} {
		if err := setQuery(t, s, 5, q); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if d := cmp.Diff(defs(before), defs(s.State())); d != "" {
		t.Errorf("refused ones left a trace:\n%s", d)
	}
}

func defs(st *State) []api.PreparedQuery {
	rows, _ := st.Queries()
	out := make([]api.PreparedQuery, len(rows))
	for i, r := range rows {
		out[i] = r.PreparedQuery
	}
	return out
}

// A query that is renamed answers to the new name only; the same again moves nothing
// (S2); each change wakes who watches (S3).
func TestQueryChanges(t *testing.T) {
	t.Parallel()
	s := New()
	change := func(index uint64, wakes bool, do func(*Tx) error) {
		t.Helper()
		w := s.Watch(TopicQueries())
		defer w.Stop()
		_, was := s.State().Queries()
		if err := at(t, s, index, do); err != nil {
			t.Fatal(err)
		}
		_, is := s.State().Queries()
		if woken(w) != wakes || (is != was) != wakes {
			t.Errorf("at %d: woken %v, mark from %v to %v, want a change: %v", index, woken(w), was, is, wakes)
		}
	}
	change(1, true, func(tx *Tx) error { return tx.SetQuery(named("1", "a", "web")) })
	change(2, false, func(tx *Tx) error { return tx.SetQuery(named("1", "a", "web")) })
	change(3, true, func(tx *Tx) error { return tx.SetQuery(named("1", "b", "web")) })
	if got := [2]string{foundQuery(s.State(), "a"), foundQuery(s.State(), "b")}; got != [2]string{"", "1"} {
		t.Errorf("after a new name a and b are answered by %q", got)
	}
	q, _ := s.State().Query("1")
	if q.CreateIndex != 1 || q.ModifyIndex != 3 {
		t.Errorf("created at %d, changed at %d", q.CreateIndex, q.ModifyIndex)
	}
	change(4, true, func(tx *Tx) error { tx.DeleteQuery("1"); return nil })
	change(5, false, func(tx *Tx) error { tx.DeleteQuery("1"); return nil })
	if got := foundQuery(s.State(), "b"); got != "" {
		t.Errorf("deleted, but %q answers", got)
	}
}

// The end of a session takes its queries along, and no others.
func TestQueriesOfASession(t *testing.T) {
	t.Parallel()
	s := alive(t)
	for i, q := range []*api.PreparedQuery{named("1", "a", "web"), named("2", "b", "web"), named("3", "c", "web")} {
		if err := at(t, s, uint64(4+i), func(tx *Tx) error {
			if q.ID != "3" {
				q.Session = "s" + q.ID
				if err := tx.SetQuery(q); err == nil {
					t.Error("a query was bound to a session that is not there")
				}
				if err := tx.CreateSession(session(q.Session)); err != nil {
					return err
				}
			}
			return tx.SetQuery(q)
		}); err != nil {
			t.Fatal(err)
		}
	}
	_ = at(t, s, 9, func(tx *Tx) error { tx.EndSession("s1", "test"); return nil })
	got := [3]string{foundQuery(s.State(), "a"), foundQuery(s.State(), "b"), foundQuery(s.State(), "c")}
	if _, m := s.State().Queries(); got != [3]string{"", "2", "3"} || m.Index != 9 {
		t.Errorf("answered by %q, index %d", got, m.Index)
	}
}

func place(node string, at float64) *api.CoordinateEntry {
	c := &api.Coordinate{Vec: make([]float64, api.CoordinateDimensions)}
	c.Vec[0] = at
	return &api.CoordinateEntry{Node: node, Coord: c}
}

// Coordinates are kept for nodes of the catalog, and go with them.
func TestS16Places(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 1, web("N1", "web", "w1"))
	set := func(index uint64, e ...*api.CoordinateEntry) {
		t.Helper()
		_ = at(t, s, index, func(tx *Tx) error { tx.SetPlaces(e); return nil })
	}
	set(2, place("n1", 1), place("nobody", 1))
	rows, m := s.State().Places()
	if len(rows) != 1 || rows[0].Node != "N1" || m.Index != 2 {
		t.Errorf("%d places, index %d: %+v", len(rows), m.Index, rows)
	}
	w := s.Watch(TopicPlaces(), TopicService("web"), TopicNode("n1"), TopicNodes())
	defer w.Stop()
	set(3, place("n1", 1))
	if _, m := s.State().Places(); woken(w) || m.Index != 2 {
		t.Errorf("the same place again: woken %v, index %d", woken(w), m.Index)
	}
	service := s.State().ServiceMark("web")
	set(4, place("n1", 2))
	if _, m := s.State().Places(); !woken(w) || m.Index != 4 || s.State().ServiceMark("web") != service {
		t.Errorf("another place: woken %v, index %d, the service's %v", woken(w), m.Index, s.State().ServiceMark("web"))
	}
	if near := service.Near(s.State().PlacesMark()); near.Index != service.Index || near.Version != 4 {
		t.Errorf("sorted by distance the mark is %+v", near)
	}
	_ = at(t, s, 5, func(tx *Tx) error { return tx.Deregister(&api.Deregistration{Node: "n1"}) })
	if rows, m := s.State().Places(); len(rows) != 0 || m.Index != 5 {
		t.Errorf("after its node a place is left: %d, index %d", len(rows), m.Index)
	}
}

func TestAutopilotConfig(t *testing.T) {
	t.Parallel()
	s := New()
	set := func(index uint64, quorum uint, cas bool, was uint64) bool {
		t.Helper()
		var ok bool
		_ = at(t, s, index, func(tx *Tx) error {
			ok = tx.SetAutopilot(&api.AutopilotConfig{MinQuorum: quorum, ModifyIndex: was}, cas)
			return nil
		})
		return ok
	}
	if set(1, 1, true, 7) {
		t.Error("written on condition of one that is not there")
	}
	if !set(2, 1, true, 0) || set(3, 2, true, 0) || set(4, 2, true, 3) || !set(5, 2, true, 2) || !set(6, 2, false, 0) {
		t.Error("conditions are not what they should be")
	}
	got, m := s.State().Autopilot()
	want := &api.AutopilotConfig{MinQuorum: 2, CreateIndex: 2, ModifyIndex: 5}
	if d := cmp.Diff(want, got); d != "" || m.Index != 5 {
		t.Errorf("index %d; want (-) got (+):\n%s", m.Index, d)
	}
}

// S10 for queries, places and autopilot.
func TestRestoreOfWhatIsBesideTheCatalog(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 1, web("n1", "web", "w1"))
	for i, q := range []*api.PreparedQuery{named("1", "a", "web"), templateOf("2", "t-", "web")} {
		if err := setQuery(t, s, uint64(i+2), q); err != nil {
			t.Fatal(err)
		}
	}
	_ = at(t, s, 4, func(tx *Tx) error {
		tx.SetPlaces([]*api.CoordinateEntry{place("n1", 1)})
		tx.SetAutopilot(&api.AutopilotConfig{MinQuorum: 3}, false)
		return nil
	})
	b := NewBuilder()
	for r := range s.State().Records {
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	was, is := s.State(), b.State()
	if d := cmp.Diff(defs(was), defs(is)); d != "" {
		t.Errorf("queries, was (-) is (+):\n%s", d)
	}
	wp, wm := was.Autopilot()
	ip, im := is.Autopilot()
	if d := cmp.Diff(wp, ip); d != "" || wm.Index != im.Index {
		t.Errorf("autopilot, was (-) is (+):\n%s", d)
	}
	a, am := was.Places()
	c, cm := is.Places()
	if len(a) != 1 || len(c) != 1 || am.Index != cm.Index || string(a[0].JSON()) != string(c[0].JSON()) {
		t.Errorf("places: was %d at %d, is %d at %d", len(a), am.Index, len(c), cm.Index)
	}
	if foundQuery(is, "t-x") != "2" || was.QueriesMark().Index != is.QueriesMark().Index {
		t.Errorf("t-x is answered by %q, index %d", foundQuery(is, "t-x"), is.QueriesMark().Index)
	}
}

// S1 for queries and places: what a reader took stays, also where a transaction is given up.
func TestS1QueriesAndPlaces(t *testing.T) {
	t.Parallel()
	s := New()
	register(t, s, 1, web("n1", "web", "w1"))
	if err := setQuery(t, s, 2, named("1", "a", "web")); err != nil {
		t.Fatal(err)
	}
	old := s.State()
	change := func(tx *Tx) {
		if err := tx.SetQuery(named("1", "b", "web")); err != nil {
			t.Error(err)
		}
		tx.SetPlaces([]*api.CoordinateEntry{place("n1", 1)})
	}
	tx := s.Begin(3)
	change(tx)
	tx.Abort()
	if places, _ := s.State().Places(); foundQuery(s.State(), "a") != "1" || len(places) != 0 {
		t.Error("a transaction that was given up left a trace")
	}
	tx = s.Begin(3)
	change(tx)
	tx.Commit()
	places, _ := old.Places()
	if foundQuery(old, "a") != "1" || foundQuery(old, "b") != "" || len(places) != 0 {
		t.Error("a state changed after it was read")
	}
	if places, _ := s.State().Places(); foundQuery(s.State(), "b") != "1" || len(places) != 1 {
		t.Error("the commit is not there")
	}
}
