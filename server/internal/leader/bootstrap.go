package leader

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/gossip"
)

// Bootstrap brings a new cluster to its first election: it waits until as many servers
// as expected are alive, all expect the same number and none belongs to a cluster, and
// then gives Raft the list of them, the same on every server. A server that has state
// already, or finds a cluster that has, has nothing to do.
type Bootstrap struct {
	ID, Addr   string // this server's id and RPC address
	Datacenter string
	Alone      bool // -bootstrap: elect itself at once
	Expect     int  // 0: wait to be let in by a leader
	Raft       *consensus.Raft
	Pool       *gossip.Pool
	// Peers asks the server at addr for its Raft peers.
	Peers func(ctx context.Context, addr string) ([]string, error)
	Log   *slog.Logger
}

// askAgain is how long to wait where peers could not be asked.
const askAgain = time.Second

// Run returns once the cluster is begun or known to exist, or ctx ends.
func (b *Bootstrap) Run(ctx context.Context) error {
	log := b.Log.With("room", "leader")
	if b.Raft.HasState() {
		return nil
	}
	if b.Alone {
		return b.begin(log, []consensus.Server{{ID: b.ID, Addr: b.Addr}})
	}
	if b.Expect == 0 {
		return nil
	}
	said := ""
	for {
		changed := b.Pool.Watch()
		servers, why := electorate(b.Pool.Servers(), b.Datacenter, b.Expect)
		if why != "" && why != said {
			log.Info("waiting to begin the cluster", "expect", b.Expect, "found", len(servers), "reason", why)
			said = why
		}
		var retry <-chan time.Time
		if why == "" {
			switch begun, err := b.anyPeers(ctx, servers); {
			case err != nil:
				t := time.NewTimer(askAgain)
				defer t.Stop()
				retry = t.C
			case begun:
				log.Info("a cluster exists already; waiting for its leader to let this server in")
				return nil
			default:
				return b.begin(log, servers)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-retry:
		}
		if b.Raft.HasState() { // somebody was quicker
			return nil
		}
	}
}

func (b *Bootstrap) begin(log *slog.Logger, servers []consensus.Server) error {
	err := b.Raft.Bootstrap(servers)
	if errors.Is(err, consensus.ErrHasState) {
		return nil
	}
	if err == nil {
		log.Info("cluster begun", "servers", len(servers))
	}
	return err
}

// anyPeers reports whether one of the servers belongs to a cluster; an error means that
// one of them could not be asked.
func (b *Bootstrap) anyPeers(ctx context.Context, servers []consensus.Server) (bool, error) {
	for _, s := range servers {
		if s.ID == b.ID {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		peers, err := b.Peers(ask, s.Addr)
		cancel()
		if err != nil {
			return false, err
		}
		if len(peers) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// electorate gives the first voters in one order for all, or why it is too early.
func electorate(servers []gossip.Server, dc string, expect int) (out []consensus.Server, why string) {
	for _, s := range servers {
		if s.Datacenter != dc || s.Status != api.StatusAlive {
			continue
		}
		switch {
		case s.Bootstrap:
			why = "server " + s.Name + " runs with -bootstrap and elects itself"
		case s.Expect != expect && s.Expect != 0:
			why = "server " + s.Name + " expects another number of servers: give all the same -bootstrap-expect"
		}
		out = append(out, consensus.Server{ID: s.ID, Addr: s.Addr})
	}
	if why == "" && len(out) < expect {
		why = "too few servers"
	}
	slices.SortFunc(out, func(a, b consensus.Server) int { return strings.Compare(a.ID, b.ID) })
	return out, why
}
