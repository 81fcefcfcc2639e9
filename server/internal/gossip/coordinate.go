package gossip

import (
	"slices"

	"github.com/hashicorp/serf/coordinate"

	"github.com/rollcall/rollcall/internal/api"
)

// Coordinate is this agent's place in the network, as its probes of others tell; nil
// with NoCoordinates.
func (p *Pool) Coordinate() *api.Coordinate {
	c, err := p.serf.GetCoordinate()
	if err != nil { // they are off
		return nil
	}
	return place(c)
}

// CoordinateOf is a member's place as it last told this agent; nil if it did not.
func (p *Pool) CoordinateOf(name string) *api.Coordinate {
	if name == p.cfg.Name {
		return p.Coordinate()
	}
	c, ok := p.serf.GetCachedCoordinate(name)
	if !ok {
		return nil
	}
	return place(c)
}

func place(c *coordinate.Coordinate) *api.Coordinate {
	return &api.Coordinate{Vec: slices.Clone(c.Vec), Error: c.Error, Adjustment: c.Adjustment, Height: c.Height}
}
