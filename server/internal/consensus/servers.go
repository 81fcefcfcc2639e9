package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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

// AddVoter adds a server with a vote, or gives a known one a vote or a new address.
// Only the leader can; an error leaves the outcome open unless it is ErrNotLeader.
func (r *Raft) AddVoter(ctx context.Context, id, addr string) error {
	return r.await(ctx, func() error {
		return r.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, 0).Error()
	})
}

// AddNonvoter adds a server that follows without a vote.
func (r *Raft) AddNonvoter(ctx context.Context, id, addr string) error {
	return r.await(ctx, func() error {
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

// Snapshot has a snapshot taken and opens it. The caller closes the reader.
func (r *Raft) Snapshot(ctx context.Context) (*raft.SnapshotMeta, io.ReadCloser, error) {
	var open func() (*raft.SnapshotMeta, io.ReadCloser, error)
	err := r.await(ctx, func() error {
		future := r.raft.Snapshot()
		err := future.Error()
		open = future.Open
		return err
	})
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return r.latestSnapshot()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("take snapshot: %w", err)
	}
	return open()
}

func (r *Raft) latestSnapshot() (*raft.SnapshotMeta, io.ReadCloser, error) {
	list, err := r.stores.snaps.List()
	if err != nil {
		return nil, nil, fmt.Errorf("list snapshots: %w", err)
	}
	if len(list) == 0 {
		return nil, nil, fmt.Errorf("take snapshot: %w", raft.ErrNothingNewToSnapshot)
	}
	newest := slices.MaxFunc(list, func(a, b *raft.SnapshotMeta) int { return int(a.Index) - int(b.Index) })
	return r.stores.snaps.Open(newest.ID)
}

// Restore replaces the cluster's state by a snapshot's. Only the leader can. Writes
// that are under way meanwhile get ErrUnknown.
func (r *Raft) Restore(ctx context.Context, meta *raft.SnapshotMeta, from io.Reader) error {
	err := r.await(ctx, func() error { return r.raft.Restore(meta, from, 0) })
	if err != nil {
		return fmt.Errorf("restore snapshot: %w", err)
	}
	return nil
}
