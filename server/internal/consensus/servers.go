package consensus

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
)

// A Server is a member of the Raft configuration to be.
type Server struct{ ID, Addr string }

// Bootstrap gives a new cluster its first voters. Every one of them may call it, as
// long as all give the same list in the same order; the first on the list stands for
// election at once. It gives ErrHasState where this server already has a log or a vote.
func (r *Raft) Bootstrap(servers []Server) error {
	var c raft.Configuration
	for _, s := range servers {
		c.Servers = append(c.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Addr),
		})
	}
	err := r.raft.BootstrapCluster(c).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return ErrHasState
	}
	if err != nil {
		return fmt.Errorf("bootstrap %d servers: %w", len(servers), translate(err))
	}
	if servers[0].ID == r.cfg.ID {
		r.campaign()
	}
	return nil
}

// HasState reports whether this server has a log, a vote or a snapshot: it belongs to
// a cluster and must not be bootstrapped.
func (r *Raft) HasState() bool {
	has, err := raft.HasExistingState(r.stores.logs, r.stores.stable, r.stores.snaps)
	return has || err != nil // what cannot be read is no reason to begin anew
}

// Servers gives the latest configuration, committed or not, and its index where Raft
// tells it, else 0. Node is left empty: names are not known here.
func (r *Raft) Servers() ([]*api.RaftServer, uint64, error) {
	future := r.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return nil, 0, fmt.Errorf("read raft configuration: %w", translate(err))
	}
	leader, _ := r.Leader()
	var out []*api.RaftServer
	for _, s := range future.Configuration().Servers {
		row := &api.RaftServer{
			ID:              string(s.ID),
			Address:         r.addressOf(s),
			Leader:          string(s.ID) == leader,
			ProtocolVersion: strconv.Itoa(int(raft.ProtocolVersionMax)),
			Voter:           s.Suffrage == raft.Voter,
		}
		if row.ID == r.cfg.ID {
			row.LastIndex = r.raft.LastIndex()
		}
		out = append(out, row)
	}
	return out, future.Index(), nil
}

func (r *Raft) addressOf(s raft.Server) string {
	if r.cfg.AddressOf != nil {
		if addr, ok := r.cfg.AddressOf(string(s.ID)); ok {
			return addr
		}
	}
	return string(s.Address)
}

// vacate has the configuration name the present address of whoever it says is at addr and
// is known to have moved, so that another server may come there: Raft takes no address
// twice. Addresses are not rewritten before that. Members are reached where AddressOf says,
// and the library replaces a peer's row while its replication reads it.
func (r *Raft) vacate(id, addr string) error {
	future := r.raft.GetConfiguration()
	if err := future.Error(); err != nil {
		return err
	}
	for _, s := range future.Configuration().Servers {
		now := r.addressOf(s)
		switch {
		case string(s.Address) != addr || string(s.ID) == id || now == addr:
		case s.Suffrage == raft.Voter:
			return r.raft.AddVoter(s.ID, raft.ServerAddress(now), 0, 0).Error()
		default:
			return r.raft.AddNonvoter(s.ID, raft.ServerAddress(now), 0, 0).Error()
		}
	}
	return nil
}

// AddVoter adds a server with a vote, or gives a known one a vote or a new address.
// Only the leader can; an error leaves the outcome open unless it is ErrNotLeader.
func (r *Raft) AddVoter(ctx context.Context, id, addr string) error {
	return r.await(ctx, func() error {
		if err := r.vacate(id, addr); err != nil {
			return err
		}
		return r.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0).Error()
	})
}

// AddNonvoter adds a server that follows without a vote.
func (r *Raft) AddNonvoter(ctx context.Context, id, addr string) error {
	return r.await(ctx, func() error {
		if err := r.vacate(id, addr); err != nil {
			return err
		}
		return r.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0).Error()
	})
}

// RemoveServer takes a server out of the configuration; the leader may remove itself.
func (r *Raft) RemoveServer(ctx context.Context, id string) error {
	return r.await(ctx, func() error {
		return r.raft.RemoveServer(raft.ServerID(id), 0, 0).Error()
	})
}

// TransferLeadership hands leadership to the voter that is furthest along, and returns
// once this server has stopped leading.
func (r *Raft) TransferLeadership(ctx context.Context) error {
	return r.await(ctx, func() error { return r.raft.LeadershipTransfer().Error() })
}

// Stats gives Raft's numbers under the names that /v1/agent/self shows.
func (r *Raft) Stats() map[string]string { return r.raft.Stats() }

// AppliedIndex is the last index handed to the state machine.
func (r *Raft) AppliedIndex() uint64 { return r.raft.AppliedIndex() }
