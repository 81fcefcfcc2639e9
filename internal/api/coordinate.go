package api

import (
	"math"
	"time"
)

// CoordinateDimensions is how many dimensions a coordinate's vector has in every agent.
const CoordinateDimensions = 8

// Coordinate is a place in the network's latency space (Vivaldi): distances are
// estimates of round trip times, in seconds.
type Coordinate struct {
	Vec        []float64
	Error      float64 // how sure the place is; 0 is certain
	Adjustment float64 // corrects distances by what was last observed
	Height     float64 // the way from the network's core to the node
}

// CoordinateEntry is a node's coordinate.
type CoordinateEntry struct {
	Node    string
	Segment string // always empty: kept for readers of Consul's API
	Coord   *Coordinate
}

// DatacenterCoordinates are the coordinates of a datacenter's servers, as other
// datacenters see them.
type DatacenterCoordinates struct {
	Datacenter  string
	AreaID      string
	Coordinates []*CoordinateEntry
}

// Valid reports whether all numbers are finite and the dimensions are those that every
// agent has.
func (c *Coordinate) Valid() bool {
	if c == nil || len(c.Vec) != CoordinateDimensions {
		return false
	}
	sum := c.Error + c.Adjustment + c.Height
	for _, v := range c.Vec {
		sum += v
	}
	return !math.IsNaN(sum) && !math.IsInf(sum, 0)
}

// Distance estimates the round trip time between two places in seconds, +Inf where one
// of them is not known or cannot be compared.
func (c *Coordinate) Distance(o *Coordinate) float64 {
	if c == nil || o == nil || len(c.Vec) != len(o.Vec) {
		return math.Inf(1)
	}
	var squares float64
	for i := range c.Vec {
		d := c.Vec[i] - o.Vec[i]
		squares += d * d
	}
	raw := math.Sqrt(squares) + c.Height + o.Height
	if adjusted := raw + c.Adjustment + o.Adjustment; adjusted > 0 {
		return adjusted
	}
	return raw
}

// RTT is Distance as a duration; false where it is not known.
func (c *Coordinate) RTT(o *Coordinate) (time.Duration, bool) {
	d := c.Distance(o)
	if math.IsInf(d, 0) || math.IsNaN(d) {
		return 0, false
	}
	return time.Duration(d * float64(time.Second)), true
}
