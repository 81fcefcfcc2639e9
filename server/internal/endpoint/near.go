package endpoint

import (
	"cmp"
	"math"
	"slices"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// byDistance sorts rows by how far their nodes are from q.Near, nearest first, those
// whose distance is not known last; what is equally far stays in order. Without a place
// to start from it changes nothing.
func byDistance[R any](q *Query, st *store.State, rows []R, node func(R) string) []R {
	if q.Near == "" || len(rows) < 2 {
		return rows
	}
	from, _ := st.Place(q.Near)
	if from == nil {
		return rows
	}
	type far struct {
		distance float64
		at       int // in rows
	}
	list := make([]far, len(rows))
	for i, r := range rows {
		list[i] = far{math.Inf(1), i}
		if to, _ := st.Place(node(r)); to != nil {
			list[i].distance = from.Coord.Distance(to.Coord)
		}
	}
	slices.SortFunc(list, func(a, b far) int { return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.at, b.at)) })
	out := make([]R, len(list))
	for i, f := range list {
		out[i] = rows[f.at]
	}
	return out
}

// Whose node a row is.
func nodeOfNode(n *store.Node) string        { return n.Node.Node }
func nodeOfInstance(i store.Instance) string { return i.Node.Node.Node }
func nodeOfCheck(c *store.Check) string      { return c.Node }

// places answers the coordinates of nodes: of all, or of the one named.
func places(q *Query, st *store.State, keep *filter) (*Answer, store.Mark) {
	var rows []*store.Place
	m := st.PlacesMark()
	if q.Kind == CoordinateNodes {
		rows, _ = st.Places()
	} else if p, _ := st.Place(q.Name); p != nil {
		rows = []*store.Place{p}
	}
	if keep.may != nil {
		rows = slices.DeleteFunc(slices.Clone(rows), func(p *store.Place) bool { return !keep.node(p.Node) })
	}
	out := make([]*api.CoordinateEntry, len(rows))
	for i, p := range rows {
		out[i] = &p.CoordinateEntry
	}
	found := q.Kind == CoordinateNodes || len(rows) > 0
	return &Answer{Found: found, Value: out, body: &body{encode: func() ([]byte, error) { return join(rows), nil }}}, m
}

// placeable refuses coordinates that cannot be compared with others.
func placeable(w *command.Places) error {
	for _, e := range w.Entries {
		switch {
		case e == nil || e.Node == "":
			return api.Errorf(api.Invalid, "Must provide node")
		case e.Coord == nil:
			return api.Errorf(api.Invalid, "Must provide the coordinate (Coord) of node %q", e.Node)
		case len(e.Coord.Vec) != api.CoordinateDimensions:
			return api.Errorf(api.Internal, "incompatible coordinate")
		case !e.Coord.Valid():
			return api.Errorf(api.Internal, "invalid coordinate")
		}
	}
	return nil
}
