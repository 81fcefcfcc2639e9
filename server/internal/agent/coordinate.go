package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// All agents together send about coordinateRate coordinates a second, each at most one
// in coordinateEvery.
const (
	coordinateRate  = 64
	coordinateEvery = 15 * time.Second
)

// sendCoordinates tells the servers where in the network this agent is, until ctx ends.
// The first time comes soon; each is spread, so that agents that start together do not
// send together.
func (a *Agent) sendCoordinates(ctx context.Context) error {
	spread := time.Duration(len(a.pool.Members())) * time.Second / coordinateRate
	timer := time.NewTimer(rand.N(max(spread, time.Second)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		every := max(time.Duration(len(a.pool.Members()))*time.Second/coordinateRate, coordinateEvery)
		timer.Reset(every + rand.N(every))
		here := a.pool.Coordinate()
		if here == nil {
			continue
		}
		cfg := a.cfg()
		_, err := a.endpoint.Write(ctx, &endpoint.Write{
			Datacenter: cfg.Datacenter, Token: a.agentToken(), Command: &command.Places{Entries: []*api.CoordinateEntry{{Node: cfg.NodeName, Coord: here}}},
		})
		if err != nil && ctx.Err() == nil {
			a.log.Debug("coordinate not sent", "err", err)
		}
	}
}
