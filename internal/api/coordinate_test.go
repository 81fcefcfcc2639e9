package api

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/serf/coordinate"
)

// Distances are those that the agents' own measuring means.
func TestDistanceAsSerfs(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	some := func() (*Coordinate, *coordinate.Coordinate) {
		c := &Coordinate{Error: r.Float64(), Adjustment: r.Float64() - 0.7, Height: r.Float64() / 100}
		for range CoordinateDimensions {
			c.Vec = append(c.Vec, r.Float64()-0.5)
		}
		return c, &coordinate.Coordinate{Vec: c.Vec, Error: c.Error, Adjustment: c.Adjustment, Height: c.Height}
	}
	for range 1000 {
		a, theirA := some()
		b, theirB := some()
		got, ok := a.RTT(b)
		want := theirA.DistanceTo(theirB)
		if !ok || (got-want).Abs() > time.Microsecond {
			t.Fatalf("%+v to %+v: %v, %t, want %v", a, b, got, ok, want)
		}
	}
}

func TestDistanceUnknown(t *testing.T) {
	t.Parallel()
	here := &Coordinate{Vec: make([]float64, CoordinateDimensions)}
	for name, there := range map[string]*Coordinate{"none": nil, "other dimensions": {Vec: []float64{1}}, "not a number": {Vec: here.Vec, Height: math.NaN()}} {
		if rtt, ok := here.RTT(there); ok {
			t.Errorf("%s: %v", name, rtt)
		}
		if there.Valid() {
			t.Errorf("%s is valid", name)
		}
	}
	if !here.Valid() || (&Coordinate{Vec: []float64{math.Inf(1), 0, 0, 0, 0, 0, 0, 0}}).Valid() {
		t.Error("what is valid is not what it should be")
	}
}
