package leader

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/store"
)

// How often autopilot looks at the servers, and decides.
const (
	lookEvery   = time.Second
	decideEvery = 2 * time.Second
	// A server is taken out once it has been dead for deadAfter: one that only stalls keeps
	// its seat. One that gossip does not know at all has longer: a leader that has just come
	// back does not know everybody yet.
	deadAfter     = 10 * time.Second
	strangerAfter = time.Minute
)

// PilotConfig is what a Pilot needs to know.
type PilotConfig struct {
	ID, Datacenter string
	// Initial is the configuration of a cluster that has none yet.
	Initial api.AutopilotConfig
	// Standing asks the server at an RPC address where its log stands.
	Standing func(ctx context.Context, addr string) (*api.RaftStats, error)
	Log      *slog.Logger
}

// Pilot looks after the servers while this one leads: it gives new ones a vote once they
// have been healthy for a while, takes dead ones out as long as a majority remains, and
// knows how everybody is. Its methods may be called concurrently.
type Pilot struct {
	cfg   PilotConfig
	raft  *consensus.Raft
	pool  *gossip.Pool
	store *store.Store
	log   *slog.Logger
	auto  atomic.Pointer[autopilot.Autopilot] // nil while this server does not lead

	mu      sync.Mutex
	down    map[raft.ServerID]time.Time // guarded by mu; since when a server is not alive
	healthy *bool                       // guarded by mu; as was last said
}

// NewPilot makes a pilot; Leader runs it.
func NewPilot(cfg PilotConfig, r *consensus.Raft, pool *gossip.Pool, st *store.Store) *Pilot {
	return &Pilot{cfg: cfg, raft: r, pool: pool, store: st, log: cfg.Log.With("room", "leader"), down: map[raft.ServerID]time.Time{}}
}

// run works until ctx ends, which is with leadership.
func (p *Pilot) run(ctx context.Context, apply func(context.Context, command.Command) error) {
	p.mu.Lock()
	clear(p.down)
	p.healthy = nil
	p.mu.Unlock()
	if c, _ := p.store.State().Autopilot(); c == nil {
		if err := apply(ctx, &command.Autopilot{Config: p.cfg.Initial, CAS: true}); err != nil && ctx.Err() == nil {
			p.log.Warn("autopilot's first configuration not written", "err", err)
		}
	}
	auto := autopilot.New(p.raft.Seats(), p, autopilot.WithLogger(consensus.HCLog(p.log)),
		autopilot.WithUpdateInterval(lookEvery), autopilot.WithReconcileInterval(decideEvery))
	auto.Start(ctx)
	p.auto.Store(auto)
	<-ctx.Done()
	p.auto.Store(nil)
	<-auto.Stop()
}

// config is the configuration that holds.
func (p *Pilot) config() *api.AutopilotConfig {
	if c, _ := p.store.State().Autopilot(); c != nil {
		return c
	}
	return &p.cfg.Initial
}

// AutopilotConfig is for autopilot.
func (p *Pilot) AutopilotConfig() *autopilot.Config {
	c := p.config()
	return &autopilot.Config{
		CleanupDeadServers: c.CleanupDeadServers, LastContactThreshold: time.Duration(c.LastContactThreshold),
		MaxTrailingLogs: c.MaxTrailingLogs, MinQuorum: c.MinQuorum, ServerStabilizationTime: time.Duration(c.ServerStabilizationTime),
	}
}

// NotifyState is for autopilot: it says when the health of the whole has changed.
func (p *Pilot) NotifyState(s *autopilot.State) {
	if s == nil || len(s.Servers) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.healthy != nil && *p.healthy == s.Healthy || p.healthy == nil && s.Healthy {
		if p.healthy == nil {
			p.healthy = &s.Healthy
		}
		return
	}
	p.healthy = &s.Healthy
	if s.Healthy {
		p.log.Info("all servers are healthy", "servers", len(s.Servers), "tolerance", s.FailureTolerance)
		return
	}
	p.log.Warn("not all servers are healthy", "servers", sick(s), "tolerance", s.FailureTolerance)
}

// sick names the servers that are not healthy.
func sick(s *autopilot.State) string {
	var names []string
	for id, x := range s.Servers {
		if !x.Health.Healthy {
			names = append(names, orID(x.Server.Name, id))
		}
	}
	return strings.Join(names, ", ")
}

func orID(name string, id raft.ServerID) string {
	if name == "" {
		return string(id)
	}
	return name
}

// FetchServerStats is for autopilot: it asks all servers at once.
func (p *Pilot) FetchServerStats(ctx context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	out := map[raft.ServerID]*autopilot.ServerStats{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for id, s := range servers {
		asking.Go(func() {
			stats := p.raft.Standing()
			if string(id) != p.cfg.ID {
				if s.NodeStatus != autopilot.NodeAlive {
					return
				}
				there, err := p.cfg.Standing(ctx, string(s.Address))
				if err != nil {
					p.log.Debug("server not asked how it is", "node", s.Name, "err", err)
					return
				}
				stats = *there
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = &autopilot.ServerStats{LastContact: time.Duration(stats.LastContact), LastTerm: stats.LastTerm, LastIndex: stats.LastIndex}
		})
	}
	asking.Wait()
	return out
}

// KnownServers is for autopilot: the servers of gossip, and those of the Raft
// configuration that gossip does not know (yet).
func (p *Pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	leader, _ := p.raft.Leader()
	out := map[raft.ServerID]*autopilot.Server{}
	for _, s := range p.pool.Servers() {
		if s.Datacenter != p.cfg.Datacenter {
			continue
		}
		out[raft.ServerID(s.ID)] = &autopilot.Server{
			ID: raft.ServerID(s.ID), Name: s.Name, Address: raft.ServerAddress(s.Addr), NodeStatus: nodeStatus(s.Status),
			Version: strings.SplitN(s.Build, ":", 2)[0], RaftVersion: int(raft.ProtocolVersionMax), IsLeader: s.ID == leader,
			Meta: map[string]string{}, NodeType: autopilot.NodeVoter,
		}
	}
	if rows, _, err := p.raft.Servers(); err == nil {
		for _, r := range rows {
			if id := raft.ServerID(r.ID); out[id] == nil {
				out[id] = &autopilot.Server{
					ID: id, Address: raft.ServerAddress(r.Address), NodeStatus: autopilot.NodeUnknown, Meta: map[string]string{}, NodeType: autopilot.NodeVoter,
				}
			}
		}
	}
	p.note(out, time.Now())
	return out
}

// note keeps since when servers are not alive.
func (p *Pilot) note(servers map[raft.ServerID]*autopilot.Server, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	down := map[raft.ServerID]time.Time{}
	for id, s := range servers {
		if s.NodeStatus == autopilot.NodeAlive {
			continue
		}
		since, known := p.down[id]
		if !known {
			since = now
		}
		down[id] = since
	}
	p.down = down
}

// dead reports whether a server has been down for long enough to be taken out.
func (p *Pilot) dead(s *autopilot.Server, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, known := p.down[s.ID]
	patience := deadAfter
	if s.NodeStatus == autopilot.NodeUnknown {
		patience = strangerAfter
	}
	return known && now.Sub(since) >= patience
}

// RemoveFailedServer is for autopilot: it declares a dead server to have left, whereupon
// its seat is taken away and its node goes from the catalog. One that gossip does not know
// only has a seat to lose.
func (p *Pilot) RemoveFailedServer(s *autopilot.Server) {
	if !p.dead(s, time.Now()) {
		return
	}
	p.log.Warn("dead server removed", "node", orID(s.Name, s.ID), "addr", string(s.Address), "status", serfStatus(s.NodeStatus))
	var err error
	if s.NodeStatus == autopilot.NodeUnknown {
		ctx, cancel := context.WithTimeout(context.Background(), decideEvery)
		defer cancel()
		err = p.raft.RemoveServer(ctx, string(s.ID))
	} else {
		err = p.pool.ForceLeave(s.Name, false)
	}
	if err != nil {
		p.log.Warn("dead server not removed; tried again", "node", orID(s.Name, s.ID), "err", err)
	}
}

func nodeStatus(s api.MemberStatus) autopilot.NodeStatus {
	switch s {
	case api.StatusAlive:
		return autopilot.NodeAlive
	case api.StatusFailed:
		return autopilot.NodeFailed
	case api.StatusLeft, api.StatusLeaving:
		return autopilot.NodeLeft
	}
	return autopilot.NodeUnknown
}
