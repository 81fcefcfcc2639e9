package endpoint

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/prepared"
	"github.com/rollcall/rollcall/server/internal/store"
)

// Execution says how a prepared query is to be carried out.
type Execution struct {
	Limit  int                // most instances to give; 0 is all
	Source Source             // whom the caller wants near; empty lets the query say
	Agent  Source             // the agent that asks, for "_agent"
	Query  *api.PreparedQuery `codec:",omitempty"` // QueryRemote: what to execute, as rendered
}

// Source is a place in the network.
type Source struct{ Datacenter, Node, IP string }

// Magic names of a place.
const (
	NearAgent = "_agent" // the agent that asks
	NearIP    = "_ip"    // the node at the caller's address
)

// ExecuteQuery carries out the prepared query with an id or name, at ep. One that is not
// there is an *api.Error of kind NotFound.
func ExecuteQuery(ctx context.Context, ep Endpoint, idOrName string, how Execution, o api.QueryOptions) (*api.QueryResult, error) {
	o.MinIndex = 0
	a, err := ep.Read(ctx, &Query{Kind: QueryExecute, Name: idOrName, Execution: &how, QueryOptions: o})
	if err != nil {
		return nil, err
	}
	return Into[*api.QueryResult](a)
}

var errNoQuery = api.Errorf(api.NotFound, "Query not found")

// executes reports whether a read is the execution of a prepared query: it is shuffled,
// so no two answers are the same, and there is nothing to wait for.
func (q *Query) executes() bool {
	return q.Kind == QueryExecute || q.Kind == QueryRemote || q.Kind == QueryExplain
}

// execute carries out a prepared query, or explains it.
func (l *Local) execute(ctx context.Context, q *Query) (*Answer, error) {
	h, err := l.mayRead(q)
	if err != nil {
		return nil, err
	}
	meta := l.meta(q)
	meta.Index = 1
	answer := func(v any) *Answer {
		return &Answer{Meta: meta, Found: true, Value: v, body: &body{encode: func() ([]byte, error) { return marshal(v) }}}
	}
	how := q.Execution
	if how == nil {
		how = &Execution{}
	}
	st := l.cfg.Store.State()
	if q.Kind == QueryRemote {
		if how.Query == nil {
			return nil, api.Errorf(api.Invalid, "no prepared query to execute")
		}
		res := l.found(st, how.Query, h)
		meta.Filtered = res.hidden && !h.Anonymous()
		res.limit(how.Limit)
		return res.answer(meta), nil
	}
	row, err := st.FindQuery(q.Name)
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, errNoQuery
	}
	query, err := row.Render(q.Name)
	if err == nil {
		query, err = l.openQuery(st, query)
	}
	if err != nil {
		return nil, err
	}
	if q.Kind == QueryExplain {
		if h != nil && guards(&row.PreparedQuery) {
			if err := h.Require(acl.Query, row.Name, acl.Read); err != nil {
				return nil, err
			}
		}
		query = shownQuery(query, h == nil || h.Allowed(acl.ACL, "", acl.Write))
		return answer(&api.QueryExplanation{
			Query: query, KnownLeader: meta.KnownLeader, LastContact: int64(meta.LastContact), ConsistencyLevel: meta.Consistency.String(),
		}), nil
	}
	as, err := l.executor(query, h)
	if err != nil {
		return nil, err
	}
	res := l.found(st, query, as)
	meta.Filtered = res.hidden && !h.Anonymous()
	l.sort(st, query, how, res)
	res.limit(how.Limit)
	if len(res.hits) == 0 {
		l.failover(ctx, q, query, how.Limit, res)
	}
	return res.answer(meta), nil
}

// result is what an execution has found so far: hits are instances here; Nodes is filled
// from elsewhere, or at the end.
type result struct {
	api.QueryResult
	hits   []hit
	hidden bool // something was left out that may not be seen
}

// hit is an instance that passes.
type hit struct {
	row store.Instance
	v   *api.Instance
}

func nodeOfHit(h hit) string { return h.v.Node.Node }

// found gives the instances here that pass and that as may see, in a random order.
func (l *Local) found(st *store.State, query *api.PreparedQuery, as *acl.Holder) *result {
	res := &result{QueryResult: api.QueryResult{
		Service: query.Service.Service, Nodes: []*api.Instance{}, DNS: query.DNS, Datacenter: l.cfg.Datacenter,
	}}
	rows, _ := st.Instances(query.Service.Service)
	for _, r := range rows {
		if !seesInstance(as, r) {
			res.hidden = true
			continue
		}
		if v := instanceOf(r); prepared.Passes(&query.Service, v) {
			res.hits = append(res.hits, hit{r, v})
		}
	}
	rand.Shuffle(len(res.hits), func(i, k int) { res.hits[i], res.hits[k] = res.hits[k], res.hits[i] })
	return res
}

// nearFirst is how far down the nearest instances the near node itself is looked for.
const nearFirst = 10

// sort puts the instances near whom the caller, or else the query, names first.
func (l *Local) sort(st *store.State, query *api.PreparedQuery, how *Execution, res *result) {
	from := how.Source
	if from.Datacenter == "" {
		from.Datacenter = how.Agent.Datacenter
	}
	if from.Node == "" {
		from.Node = query.Service.Near
	}
	switch from.Node {
	case NearAgent:
		from.Node = how.Agent.Node
	case NearIP:
		from.Node = nodeAt(st, how.Source.IP)
	}
	if from.Node == "" || from.Datacenter != "" && from.Datacenter != l.cfg.Datacenter {
		return
	}
	if p, _ := st.Place(from.Node); p != nil {
		res.Near = p.Node
	}
	res.hits = byDistance(&Query{Near: from.Node}, st, res.hits, nodeOfHit)
	at := slices.IndexFunc(res.hits, func(h hit) bool { return strings.EqualFold(nodeOfHit(h), from.Node) })
	if at > 0 && at < nearFirst { // as near as can be, whatever the estimates say
		res.hits[0], res.hits[at] = res.hits[at], res.hits[0]
	}
}

// nodeAt names the node that has an address, "" if none has.
func nodeAt(st *store.State, ip string) string {
	if ip == "" {
		return ""
	}
	if rows, _ := st.NodesAt(ip); len(rows) > 0 {
		return rows[0].Node.Node
	}
	return ""
}

// failover asks other datacenters, those nearest first, then those listed, each once,
// until one has instances. One that cannot be asked counts as asked.
func (l *Local) failover(ctx context.Context, q *Query, query *api.PreparedQuery, limit int, res *result) {
	for _, dc := range failoverOrder(&query.Service.Failover, l.cfg.Others()) {
		res.Failovers++
		o := api.QueryOptions{Datacenter: dc, Token: q.Token, Consistency: q.Consistency, MaxStale: q.MaxStale}
		if query.Token != "" {
			o.Token = query.Token
		}
		a, err := l.Read(ctx, &Query{Kind: QueryRemote, Execution: &Execution{Limit: limit, Query: query}, QueryOptions: o})
		var there *api.QueryResult
		if err == nil {
			there, err = Into[*api.QueryResult](a)
		}
		if err != nil {
			l.cfg.Log.Warn("prepared query not executed in another datacenter", "query", query.ID, "datacenter", dc, "err", err)
			continue
		}
		if len(there.Nodes) > 0 {
			res.Nodes, res.Datacenter, res.DNS, res.Near = there.Nodes, there.Datacenter, there.DNS, ""
			return
		}
	}
}

// failoverOrder gives the datacenters to ask: the nearest, then the listed ones that
// exist, each once. others are all other ones, the nearest first.
func failoverOrder(f *api.QueryFailover, others []string) []string {
	out := slices.Clone(others[:min(f.NearestN, len(others))])
	listed := slices.Clone(f.Datacenters)
	for _, t := range f.Targets {
		listed = append(listed, t.Datacenter)
	}
	for _, dc := range listed {
		if slices.Contains(others, dc) && !slices.Contains(out, dc) {
			out = append(out, dc)
		}
	}
	return out
}

func (r *result) limit(n int) {
	if n > 0 && len(r.hits) > n {
		r.hits = r.hits[:n]
	}
}

// answer is the result with what its body says of its worth. The body of instances here
// is joined from what their rows carry, as those of all lists are.
func (r *result) answer(m api.QueryMeta) *Answer {
	r.KnownLeader, r.LastContact, r.ConsistencyLevel = m.KnownLeader, int64(m.LastContact), m.Consistency.String()
	rows := make([]store.Instance, len(r.hits))
	for i, h := range r.hits {
		rows[i] = h.row
		r.Nodes = append(r.Nodes, h.v)
	}
	return &Answer{Meta: m, Found: true, Value: &r.QueryResult, body: &body{encode: func() ([]byte, error) {
		if len(rows) == 0 {
			return marshal(&r.QueryResult)
		}
		frame := r.QueryResult
		frame.Nodes = nil
		b, err := marshal(&frame)
		if err != nil {
			return nil, err
		}
		before, after, ok := bytes.Cut(b, noNodes) // no text in JSON can look like this: its quotes are escaped
		if !ok {
			return marshal(&r.QueryResult)
		}
		list := joinInstances(rows)
		out := make([]byte, 0, len(b)+len(list))
		out = append(append(out, before...), `"Nodes":`...)
		return append(append(out, list...), after...), nil
	}}}
}

var noNodes = []byte(`"Nodes":null`)

// queries answers the definitions: all, or the one with an id.
func queries(q *Query, st *store.State) (*Answer, store.Mark) {
	rows, m := st.Queries()
	if q.Kind == QueryGet {
		rows = nil
		if row, _ := st.Query(q.Name); row != nil {
			rows = []*store.Query{row}
		}
	}
	out := make([]*api.PreparedQuery, len(rows))
	for i, r := range rows {
		out[i] = &r.PreparedQuery
	}
	found := q.Kind == QueryList || len(rows) > 0
	return &Answer{Found: found, Value: out, body: &body{encode: func() ([]byte, error) { return join(rows), nil }}}, m
}

// preparable refuses a definition that cannot be meant, before it reaches the log.
func preparable(w *command.Query) error {
	if w.Verb == command.DeleteQuery {
		return nil
	}
	return prepared.Check(&w.Query)
}
