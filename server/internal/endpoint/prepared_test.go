package endpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// far registers an instance of web on a node that is so many milliseconds away from the
// origin; below 0 nobody knows how far.
func far(t testing.TB, r *fakeRaft, node, status string, ms float64) {
	t.Helper()
	r.index++
	tx := r.store.Begin(r.index)
	defer tx.Commit()
	err := tx.Register(&api.Registration{
		Node: node, Address: "10.0.0." + node[1:], Service: &api.Service{ID: "w", Service: "web"},
		Checks: []*api.Check{{Node: node, CheckID: "c", ServiceID: "w", Status: status}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if ms >= 0 {
		c := &api.Coordinate{Vec: make([]float64, api.CoordinateDimensions)}
		c.Vec[0] = ms / 1000
		tx.SetPlaces([]*api.CoordinateEntry{{Node: node, Coord: c}})
	}
}

func define(t testing.TB, r *fakeRaft, q api.PreparedQuery) {
	t.Helper()
	r.index++
	tx := r.store.Begin(r.index)
	defer tx.Commit()
	if err := tx.SetQuery(&q); err != nil {
		t.Fatal(err)
	}
}

func nodesOf(list []*api.Instance) string {
	var out []string
	for _, i := range list {
		out = append(out, i.Node.Node)
	}
	return strings.Join(out, " ")
}

func TestExecuteQuery(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	far(t, r, "n1", api.Passing, 30)
	far(t, r, "n2", api.Passing, 10)
	far(t, r, "n3", api.Critical, 1)
	far(t, r, "n4", api.Warning, 20)
	far(t, r, "n5", api.Passing, -1)
	web := api.ServiceQuery{Service: "web"}
	near := web
	near.Near = "n2"
	define(t, r, api.PreparedQuery{ID: "1", Name: "web", Service: web, DNS: api.QueryDNS{TTL: "7s"}})
	define(t, r, api.PreparedQuery{ID: "2", Name: "near", Service: near})
	define(t, r, api.PreparedQuery{ID: "3", Name: "any-", Template: api.QueryTemplate{Type: api.TemplatePrefixMatch}, Service: api.ServiceQuery{Service: "${name.suffix}", OnlyPassing: true}})
	agent := Source{Datacenter: "dc1", Node: "n4"}
	for name, c := range map[string]struct {
		query string
		how   Execution
		want  string
	}{
		"the query's near":        {"near", Execution{Agent: agent}, "n2 n4 n1 n5"},
		"the caller's near":       {"near", Execution{Agent: agent, Source: Source{Node: "n1"}}, "n1 n4 n2 n5"},
		"the agent":               {"web", Execution{Agent: agent, Source: Source{Node: NearAgent}}, "n4 n1 n2 n5"},
		"an address":              {"web", Execution{Agent: agent, Source: Source{Node: NearIP, IP: "10.0.0.3"}}, "n2 n4 n1 n5"},
		"by id, limited":          {"2", Execution{Agent: agent, Limit: 2}, "n2 n4"},
		"a template":              {"any-web", Execution{Source: Source{Node: "n2"}}, "n2 n1 n5"},
		"the place of one beyond": {"any-web", Execution{Source: Source{Node: "n5"}, Limit: 1}, ""},
	} {
		got, err := ExecuteQuery(t.Context(), l, c.query, c.how, api.QueryOptions{})
		if err != nil {
			t.Fatal(name, err)
		}
		if name == "the place of one beyond" { // n5 has no place: no order, but it is first if among the first ten
			if nodesOf(got.Nodes) != "n5" {
				t.Errorf("%s: %s", name, nodesOf(got.Nodes))
			}
			continue
		}
		if nodesOf(got.Nodes) != c.want || got.Service != "web" || got.Datacenter != "dc1" || !got.KnownLeader || got.ConsistencyLevel != "leader" {
			t.Errorf("%s: %s, want %s; %+v", name, nodesOf(got.Nodes), c.want, got)
		}
	}
	if got, err := ExecuteQuery(t.Context(), l, "web", Execution{}, api.QueryOptions{}); err != nil || got.DNS.TTL != "7s" || len(got.Nodes) != 4 {
		t.Errorf("web: %+v, %v", got, err)
	}
	if _, err := ExecuteQuery(t.Context(), l, "nope", Execution{}, api.QueryOptions{}); api.KindOf(err) != api.NotFound {
		t.Errorf("unknown: %v", err)
	}
	if _, err := ExecuteQuery(t.Context(), l, "3", Execution{}, api.QueryOptions{}); err == nil {
		t.Error("a template was found by its id")
	}
}

// Without a place to sort from, each execution has an order of its own.
func TestExecuteShuffles(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	for i := range 6 {
		far(t, r, fmt.Sprintf("n%d", i), api.Passing, -1)
	}
	define(t, r, api.PreparedQuery{ID: "1", Name: "web", Service: api.ServiceQuery{Service: "web"}})
	first := map[string]int{}
	for range 600 {
		got, err := ExecuteQuery(t.Context(), l, "web", Execution{}, api.QueryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		first[got.Nodes[0].Node.Node]++
	}
	for i := range 6 {
		if n := first[fmt.Sprintf("n%d", i)]; n < 40 { // 100 is expected; below 40 happens once in 10^12
			t.Errorf("n%d was first %d times of 600", i, n)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	define(t, r, api.PreparedQuery{ID: "3", Name: "any-", Template: api.QueryTemplate{Type: api.TemplatePrefixMatch}, Service: api.ServiceQuery{Service: "${name.suffix}"}})
	a, err := l.Read(t.Context(), &Query{Kind: QueryExplain, Name: "any-web"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Into[*api.QueryExplanation](a)
	if err != nil || got.Query.Service.Service != "web" || got.Query.ID != "3" || a.Meta.Index != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFailoverOrder(t *testing.T) {
	t.Parallel()
	others := []string{"dc2", "dc3", "dc4"}
	for _, c := range []struct {
		f    api.QueryFailover
		want []string
	}{
		{api.QueryFailover{}, nil},
		{api.QueryFailover{NearestN: 2}, []string{"dc2", "dc3"}},
		{api.QueryFailover{NearestN: 9}, others},
		{api.QueryFailover{NearestN: 1, Datacenters: []string{"dc4", "dc2", "dc9", "dc4"}}, []string{"dc2", "dc4"}},
		{api.QueryFailover{Datacenters: []string{"dc9"}}, nil},
		{api.QueryFailover{Targets: []api.QueryTarget{{Datacenter: "dc4"}, {Datacenter: "dc9"}, {Datacenter: "dc2"}}}, []string{"dc4", "dc2"}},
	} {
		if got := failoverOrder(&c.f, others); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.f, got, c.want)
		}
	}
}

// Datacenters that cannot be asked count, and the answer is empty, not an error.
func TestFailoverCounts(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	l.cfg.Others = func() []string { return []string{"dc2", "dc3"} }
	define(t, r, api.PreparedQuery{ID: "1", Name: "web", Service: api.ServiceQuery{Service: "web", Failover: api.QueryFailover{NearestN: 1, Datacenters: []string{"dc3", "dc4"}}}})
	got, err := ExecuteQuery(t.Context(), l, "web", Execution{}, api.QueryOptions{})
	if err != nil || got.Failovers != 2 || len(got.Nodes) != 0 || got.Nodes == nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// What another datacenter executes is the query as it is sent, without its own failover.
func TestExecuteForAnother(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	far(t, r, "n1", api.Passing, -1)
	far(t, r, "n2", api.Passing, -1)
	a, err := l.Read(t.Context(), &Query{Kind: QueryRemote, Execution: &Execution{Limit: 1, Query: &api.PreparedQuery{Service: api.ServiceQuery{Service: "web"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Into[*api.QueryResult](a); err != nil || len(got.Nodes) != 1 || got.Datacenter != "dc1" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := l.Read(t.Context(), &Query{Kind: QueryRemote}); api.KindOf(err) != api.Invalid {
		t.Errorf("without a query: %v", err)
	}
}

func TestNear(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	far(t, r, "n1", api.Passing, 30)
	far(t, r, "n2", api.Passing, 10)
	far(t, r, "n3", api.Passing, -1)
	far(t, r, "n4", api.Passing, 20)
	order := func(kind Kind, name, near string) string {
		t.Helper()
		a, err := l.Read(t.Context(), &Query{Kind: kind, Name: name, Near: near})
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct {
			Node any
		}
		rows, err = Into[[]struct{ Node any }](&Answer{body: a.body})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range rows {
			if m, ok := r.Node.(map[string]any); ok {
				r.Node = m["Node"]
			}
			out = append(out, fmt.Sprint(r.Node))
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		kind Kind
		name string
	}{{Nodes, ""}, {ServiceNodes, "web"}, {HealthService, "web"}, {HealthChecks, "web"}, {HealthState, "passing"}, {HealthState, "any"}} {
		for near, want := range map[string]string{"n2": "n2 n4 n1 n3", "N1": "n1 n4 n2 n3", "": "n1 n2 n3 n4", "n3": "n1 n2 n3 n4", "nobody": "n1 n2 n3 n4"} {
			if got := order(c.kind, c.name, near); got != want {
				t.Errorf("%s %s near %q: %s, want %s", c.kind, c.name, near, got, want)
			}
		}
	}
	far(t, r, "n4", api.Passing, 50) // the order follows, though no row has changed
	if got := order(HealthService, "web", "n2"); got != "n2 n1 n4 n3" {
		t.Errorf("after n4 moved: %s", got)
	}
}

// Coordinates are gathered and written together; faulty ones are refused.
func TestPlacesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r, _ := setup()
		far(t, r, "n1", api.Passing, -1)
		far(t, r, "n2", api.Passing, -1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		before := r.index
		for _, node := range []string{"n1", "n2", "N1"} {
			c := &api.Coordinate{Vec: make([]float64, api.CoordinateDimensions), Height: float64(len(node))}
			if _, err := l.Write(ctx, &Write{Command: &command.Places{Entries: []*api.CoordinateEntry{{Node: node, Coord: c}}}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * placesEvery)
		synctest.Wait()
		if r.index != before+1 {
			t.Errorf("%d entries, want one", r.index-before)
		}
		a, err := l.Read(ctx, &Query{Kind: CoordinateNodes})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Into[[]*api.CoordinateEntry](a); err != nil || len(got) != 2 {
			t.Errorf("%d places, %v", len(got), err)
		}
		if a, err := l.Read(ctx, &Query{Kind: CoordinateNode, Name: "nobody"}); err != nil || a.Found {
			t.Errorf("nobody: found %v, %v", a.Found, err)
		}
		for _, c := range []*api.Coordinate{nil, {Vec: make([]float64, 3)}, {Vec: []float64{0, 0, 0, 0, 0, 0, 0, inf()}}} {
			_, err := l.Write(ctx, &Write{Command: &command.Places{Entries: []*api.CoordinateEntry{{Node: "n1", Coord: c}}}})
			var said *api.Error
			if !errors.As(err, &said) {
				t.Errorf("coordinate %+v: %v", c, err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func inf() float64 { zero := 0.0; return 1 / zero }

// The joined body is what encoding the value gives.
func TestExecutionBody(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	far(t, r, "n1", api.Passing, 30)
	far(t, r, "n2", api.Passing, 10)
	define(t, r, api.PreparedQuery{ID: "1", Name: "web", Service: api.ServiceQuery{Service: "web", Near: "n2"}})
	define(t, r, api.PreparedQuery{ID: "2", Name: "none", Service: api.ServiceQuery{Service: `"Nodes":null`}})
	for _, name := range []string{"web", "none"} {
		a, err := l.Read(t.Context(), &Query{Kind: QueryExecute, Name: name})
		if err != nil {
			t.Fatal(err)
		}
		want, err := marshal(a.Value)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.JSON(); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, want)
		}
	}
}

// BenchmarkExecute is one execution with a thousand instances, body included.
func BenchmarkExecute(b *testing.B) {
	l, r, _ := setup()
	for i := range 1000 {
		far(b, r, fmt.Sprintf("n%d", i), api.Passing, float64(i))
	}
	r.index++
	tx := r.store.Begin(r.index)
	if err := tx.SetQuery(&api.PreparedQuery{ID: "1", Name: "web", Service: api.ServiceQuery{Service: "web", Near: "n500"}}); err != nil {
		b.Fatal(err)
	}
	tx.Commit()
	b.ReportAllocs()
	for b.Loop() {
		a, err := l.Read(b.Context(), &Query{Kind: QueryExecute, Name: "web"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := a.JSON(); err != nil {
			b.Fatal(err)
		}
	}
}
