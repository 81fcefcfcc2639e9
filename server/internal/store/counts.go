package store

import "github.com/rollcall/rollcall/internal/api"

// TopicCatalog is everything about nodes, services and the state of checks.
func TopicCatalog() Topic { return Topic{kind: catalogTopic} }

// CatalogMark is the mark of all that TopicCatalog is about, and of the output of checks.
func (st *State) CatalogMark() Mark {
	index := max(st.tables.Catalog, st.tables.catalog())
	return st.mark(index, max(index, st.tables.Output))
}

// Counts are how many rows there are.
type Counts struct{ Nodes, Services, Instances, Servers int }

// Counts counts nodes, names of services, their instances, and of those the servers' own.
func (st *State) Counts() (Counts, Mark) {
	c := Counts{Nodes: st.nodes.Len(), Services: st.names.Len(), Instances: st.services.Len()}
	if a, ok := st.names.Get(&stamp{key: api.ServerService}); ok {
		c.Servers = a.count
	}
	return c, st.CatalogMark()
}

// catalogChanged: some answer about the catalog is another.
func (t *Tx) catalogChanged() {
	t.st.tables.Catalog = t.index
	t.touch(TopicCatalog())
}
