package store

import (
	"reflect"
	"strings"

	"github.com/tidwall/btree"

	"github.com/rollcall/rollcall/internal/api"
)

// Place is a node's coordinate.
type Place struct {
	api.CoordinateEntry
	node string // in lower case
	fragment
}

// JSON gives the coordinate as the HTTP API prints it. It is shared: do not change it.
func (p *Place) JSON() []byte { return p.encode(&p.CoordinateEntry) }

func newPlace(e *api.CoordinateEntry) *Place {
	return &Place{CoordinateEntry: *e, node: strings.ToLower(e.Node)}
}

func byPlace(a, b *Place) bool { return a.node < b.node }

// TopicPlaces is the coordinates of nodes.
func TopicPlaces() Topic { return Topic{kind: placesTopic} }

// PlacesMark is the mark of the coordinates.
func (st *State) PlacesMark() Mark { return st.mark(st.tables.Places, st.tables.Places) }

// Places gives the coordinates of all nodes that have one, by name.
func (st *State) Places() ([]*Place, Mark) { return st.places.Items(), st.PlacesMark() }

// Place gives a node's coordinate, nil if it has none.
func (st *State) Place(node string) (*Place, Mark) {
	p, _ := st.places.Get(&Place{node: strings.ToLower(node)})
	return p, st.PlacesMark()
}

// Near gives the mark of an answer that is sorted by distance: its index is that of the
// answer itself, since nobody waits for places to change, but its order may be another.
func (m Mark) Near(places Mark) Mark {
	m.Version = max(m.Version, places.Version)
	return m
}

// SetPlaces takes coordinates of nodes; those of nodes that are not in the catalog are
// left out.
func (t *Tx) SetPlaces(entries []*api.CoordinateEntry) {
	for _, e := range entries {
		p := newPlace(e)
		n, ok := t.st.nodes.Get(&Node{key: p.node})
		if !ok || e.Coord == nil {
			continue
		}
		p.CoordinateEntry.Node = n.Node.Node
		if cur, ok := t.st.places.Get(p); ok && reflect.DeepEqual(cur.CoordinateEntry, p.CoordinateEntry) {
			continue
		}
		t.places().Set(p)
		t.placesChanged()
	}
}

func (t *Tx) dropPlace(node string) {
	if _, ok := t.st.places.Get(&Place{node: node}); ok {
		t.places().Delete(&Place{node: node})
		t.placesChanged()
	}
}

// places gives the table that this transaction may change.
func (t *Tx) places() *btree.BTreeG[*Place] {
	if !t.ownPlaces {
		t.st.places, t.ownPlaces = t.st.places.Copy(), true
	}
	return t.st.places
}

func (t *Tx) placesChanged() {
	t.st.tables.Places = t.index
	t.touch(TopicPlaces())
}
