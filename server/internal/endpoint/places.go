package endpoint

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// Coordinates come from every agent all the time, and it does not matter if one is lost:
// they are gathered and go to the log together.
const (
	placesEvery = time.Second
	placesMost  = 4096 // nodes that wait; more are left out until the next time
)

// gathered are coordinates that wait to be written.
type gathered struct {
	mu   sync.Mutex
	wait map[string]*api.CoordinateEntry // guarded by mu; by node in lower case
}

func (g *gathered) add(entries []*api.CoordinateEntry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wait == nil {
		g.wait = map[string]*api.CoordinateEntry{}
	}
	for _, e := range entries {
		key := strings.ToLower(e.Node)
		if _, known := g.wait[key]; known || len(g.wait) < placesMost {
			g.wait[key] = e
		}
	}
}

func (g *gathered) take() []*api.CoordinateEntry {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*api.CoordinateEntry, 0, len(g.wait))
	for _, e := range g.wait {
		out = append(out, e)
	}
	g.wait = nil
	return out
}

// gather keeps coordinates until they are written: at the leader, who knows whether their
// sender may.
func (l *Local) gather(ctx context.Context, w *Write, p *command.Places) (*command.Result, error) {
	return atLeader(ctx, l, false, func(ctx context.Context, _ <-chan struct{}) (*command.Result, error) {
		if _, err := l.permit(ctx, w); err != nil {
			return nil, err
		}
		l.places.add(p.Entries)
		return &command.Result{OK: true}, nil
	}, func(ctx context.Context, leader Endpoint) (*command.Result, error) {
		return leader.Write(ctx, w)
	})
}

// Run follows the leader, copies the primary's ACLs while it leads, and writes the coordinates that come in, some at a time, until
// ctx ends. What cannot be written is forgotten: the agents send newer ones.
func (l *Local) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { l.followLeader(ctx) })
	following.Go(func() { l.replicate(ctx) })
	tick := time.NewTicker(placesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		entries := l.places.take()
		if len(entries) == 0 {
			continue
		}
		if _, err := l.apply(ctx, &command.Places{Entries: entries}); err != nil && ctx.Err() == nil {
			l.cfg.Log.Debug("coordinates not written", "nodes", len(entries), "err", err)
		}
	}
}
