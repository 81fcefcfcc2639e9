package store

import (
	"reflect"
	"strings"
	"sync"

	"github.com/tidwall/btree"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/prepared"
)

// Query is a prepared query's row.
type Query struct {
	api.PreparedQuery
	name     string // in lower case
	compiled func() (*prepared.Compiled, error)
	fragment
}

// JSON gives the query as the HTTP API prints it, with its token. It is shared: do not
// change it.
func (q *Query) JSON() []byte { return q.encode(&q.PreparedQuery) }

// Render gives the query as it is for a name.
func (q *Query) Render(name string) (*api.PreparedQuery, error) {
	c, err := q.compiled()
	if err != nil {
		return nil, err
	}
	return c.Render(name)
}

func newQuery(def *api.PreparedQuery) *Query {
	q := &Query{PreparedQuery: *def, name: strings.ToLower(def.Name)}
	q.compiled = sync.OnceValues(func() (*prepared.Compiled, error) { return prepared.Compile(&q.PreparedQuery) })
	return q
}

// queries are the prepared queries by what they are found by.
type queries struct {
	byID      *btree.BTreeG[*Query]
	byName    *btree.BTreeG[*Query] // those that have one, templates too
	templates *btree.BTreeG[*Query] // by name, the empty one too
	bySession *btree.BTreeG[*Query] // those bound to one
}

func newQueries() *queries {
	return &queries{byID: tree(byQueryID), byName: tree(byQueryName), templates: tree(byQueryName), bySession: tree(byQuerySession)}
}

func (q *queries) copy() *queries {
	return &queries{q.byID.Copy(), q.byName.Copy(), q.templates.Copy(), q.bySession.Copy()}
}

func (q *queries) set(row *Query) {
	q.byID.Set(row)
	if row.name != "" {
		q.byName.Set(row)
	}
	if row.IsTemplate() {
		q.templates.Set(row)
	}
	if row.Session != "" {
		q.bySession.Set(row)
	}
}

func (q *queries) unset(row *Query) {
	q.byID.Delete(row)
	if row.name != "" {
		q.byName.Delete(row)
	}
	if row.IsTemplate() {
		q.templates.Delete(row)
	}
	if row.Session != "" {
		q.bySession.Delete(row)
	}
}

func byQueryID(a, b *Query) bool   { return a.ID < b.ID }
func byQueryName(a, b *Query) bool { return a.name < b.name }
func byQuerySession(a, b *Query) bool {
	return compare2(a.Session, b.Session, a.ID, b.ID) < 0
}

// TopicQueries is the prepared queries.
func TopicQueries() Topic { return Topic{kind: queriesTopic} }

// QueriesMark is the mark of all prepared queries.
func (st *State) QueriesMark() Mark { return st.mark(st.tables.Queries, st.tables.Queries) }

// Queries gives all prepared queries by id.
func (st *State) Queries() ([]*Query, Mark) { return st.queries.byID.Items(), st.QueriesMark() }

// Query gives a prepared query by id, nil if there is none.
func (st *State) Query(id string) (*Query, Mark) {
	q, _ := st.queries.byID.Get(&Query{PreparedQuery: api.PreparedQuery{ID: id}})
	return q, st.QueriesMark()
}

// FindQuery gives the query that answers for an id or a name: the one with that id, else
// the one with that name, else the template with the longest prefix of it; nil if there
// is none. A template is not found by its id: it is rendered for a name.
func (st *State) FindQuery(idOrName string) (*Query, error) {
	if q, _ := st.Query(idOrName); q != nil {
		if q.IsTemplate() {
			return nil, api.Errorf(api.Internal, "prepared query templates can only be resolved up by name, not by ID")
		}
		return q, nil
	}
	name := strings.ToLower(idOrName)
	if name != "" {
		if q, ok := st.queries.byName.Get(&Query{name: name}); ok {
			return q, nil
		}
	}
	if st.queries.templates.Len() == 0 {
		return nil, nil
	}
	for n := len(name); n >= 0; n-- {
		if q, ok := st.queries.templates.Get(&Query{name: name[:n]}); ok {
			return q, nil
		}
	}
	return nil, nil
}

// SetQuery writes a prepared query; its indexes are the store's to set. It errs where
// the name would hide another query, or the session is not there.
func (t *Tx) SetQuery(def *api.PreparedQuery) error {
	q := newQuery(def)
	cur, exists := t.st.queries.byID.Get(q)
	other := func(found *Query) bool { return found != nil && found.ID != q.ID }
	if q.name != "" {
		if found, _ := t.st.queries.byName.Get(q); other(found) {
			return api.Errorf(api.Internal, "name '%s' aliases an existing query name", q.Name)
		}
		if found, _ := t.st.Query(q.Name); found != nil {
			return api.Errorf(api.Internal, "name '%s' aliases an existing query ID", q.Name)
		}
	} else if q.IsTemplate() {
		if found, _ := t.st.queries.templates.Get(q); other(found) {
			return api.Errorf(api.Internal, "a query template with an empty name already exists")
		}
	}
	if q.Session != "" && !t.sessionExists(q.Session) {
		return api.Errorf(api.Internal, "invalid session %q", q.Session)
	}
	q.CreateIndex, q.ModifyIndex = t.index, t.index
	if exists {
		q.CreateIndex = cur.CreateIndex
		same := q.PreparedQuery
		same.ModifyIndex = cur.ModifyIndex
		if reflect.DeepEqual(same, cur.PreparedQuery) {
			return nil
		}
		t.queries().unset(cur)
	}
	t.queries().set(q)
	t.queriesChanged()
	return nil
}

// HasQuery reports whether there is a prepared query with an id.
func (t *Tx) HasQuery(id string) bool {
	q, _ := t.st.Query(id)
	return q != nil
}

// DeleteQuery removes a prepared query. What is not there is no error.
func (t *Tx) DeleteQuery(id string) {
	if q, ok := t.st.queries.byID.Get(&Query{PreparedQuery: api.PreparedQuery{ID: id}}); ok {
		t.queries().unset(q)
		t.queriesChanged()
	}
}

// dropQueriesOf removes the queries that are bound to a session, with the session.
func (t *Tx) dropQueriesOf(session string) {
	var bound []*Query
	t.st.queries.bySession.Ascend(&Query{PreparedQuery: api.PreparedQuery{Session: session}}, func(q *Query) bool {
		if q.Session != session {
			return false
		}
		bound = append(bound, q)
		return true
	})
	for _, q := range bound {
		t.queries().unset(q)
		t.queriesChanged()
	}
}

// queries gives the tables that this transaction may change.
func (t *Tx) queries() *queries {
	if !t.ownQueries {
		t.st.queries, t.ownQueries = t.st.queries.copy(), true
	}
	return t.st.queries
}

func (t *Tx) queriesChanged() {
	t.st.tables.Queries = t.index
	t.touch(TopicQueries())
}
