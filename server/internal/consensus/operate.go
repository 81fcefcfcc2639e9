package consensus

import (
	"context"
	"log/slog"
	"strconv"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
)

// Seats gives autopilot the Raft in which it gives and takes votes. Whoever uses it must
// have ended before Close.
func (r *Raft) Seats() *raft.Raft { return r.raft }

// HCLog gives autopilot a logger that writes to ours, as those of Raft itself do.
func HCLog(log *slog.Logger) hclog.Logger { return newHCLogger(log) }

// Standing is where this server's log stands.
func (r *Raft) Standing() api.RaftStats {
	stats := r.raft.Stats()
	term, _ := strconv.ParseUint(stats["last_log_term"], 10, 64) // Raft prints a number
	return api.RaftStats{LastContact: api.Duration(r.LastContact()), LastTerm: term, LastIndex: r.raft.LastIndex()}
}

// TransferLeadershipTo hands leadership to a voter, and returns once this server has
// stopped leading.
func (r *Raft) TransferLeadershipTo(ctx context.Context, id, addr string) error {
	return r.await(ctx, func() error {
		return r.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(addr)).Error()
	})
}
