package gossip

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// WANName is a server's name in a pool of several datacenters.
func WANName(node, dc string) string { return node + "." + dc }

// Datacenter is one of those that a WAN pool spans.
type Datacenter struct {
	Name    string
	Servers []Server // those that did not leave, by name
	// Coordinates are their places, of those that are known, under their nodes' names.
	Coordinates []*api.CoordinateEntry
	// Distance is the median round trip from here to its servers, in seconds: 0 for this
	// agent's own, infinite where it is not known.
	Distance float64
}

// Datacenters gives the datacenters of a WAN pool, the nearest first.
func (p *Pool) Datacenters() []Datacenter {
	here := p.Coordinate()
	var out []Datacenter
	var far [][]float64 // beside out
	for _, s := range p.Servers() {
		if s.Status == api.StatusLeft {
			continue
		}
		at := slices.IndexFunc(out, func(d Datacenter) bool { return d.Name == s.Datacenter })
		if at < 0 {
			at = len(out)
			out, far = append(out, Datacenter{Name: s.Datacenter}), append(far, nil)
		}
		d := &out[at]
		d.Servers = append(d.Servers, s)
		distance := math.Inf(1)
		if c := p.CoordinateOf(s.Name); c != nil {
			d.Coordinates = append(d.Coordinates, &api.CoordinateEntry{Node: strings.TrimSuffix(s.Name, "."+s.Datacenter), Coord: c})
			if here != nil {
				distance = here.Distance(c)
			}
		}
		far[at] = append(far[at], distance)
	}
	for i := range out {
		if out[i].Name != p.cfg.Datacenter {
			slices.Sort(far[i])
			out[i].Distance = far[i][len(far[i])/2]
		}
	}
	slices.SortFunc(out, func(a, b Datacenter) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), strings.Compare(a.Name, b.Name))
	})
	return out
}
