package consensus

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Base timings, before Config.Multiplier.
const (
	heartbeat = time.Second
	election  = time.Second
	lease     = 500 * time.Millisecond

	fastElection = 150 * time.Millisecond
	fastLease    = 100 * time.Millisecond

	// pipelined is how many entries a leader may have on the way to one follower. Raft's
	// own default of 2 leaves its pipeline no buffer: a send that follows upon a failed
	// response then waits for a reader that is gone, and the follower is never served
	// again, nor does Raft ever shut down. A send goes wrong so only as often in a row as
	// the buffer is long.
	pipelined = 128

	// commitTimeout is how long a quiet leader lets a follower wait for the news that
	// its last entry is committed. Readers of a follower see a write that much later.
	commitTimeout = 20 * time.Millisecond
)

// raftConfig turns our settings into Raft's.
func raftConfig(cfg Config, log hclog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(cfg.ID)
	c.ProtocolVersion = raft.ProtocolVersionMax
	c.Logger = log
	c.NoLegacyTelemetry = true
	c.BatchApplyCh = true // the entries of a group are written together
	c.MaxAppendEntries = maxEntries
	c.ShutdownOnRemove = false // a removed server may be added again
	c.CommitTimeout = commitTimeout
	c.SnapshotThreshold = cmp.Or(cfg.SnapshotThreshold, 16384)
	c.SnapshotInterval = cmp.Or(cfg.SnapshotInterval, 30*time.Second)
	c.TrailingLogs = cmp.Or(cfg.TrailingLogs, 10240)
	n := time.Duration(max(cfg.Multiplier, 1))
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = n*heartbeat, n*election, n*lease
	if cfg.Fast {
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = fastElection, fastElection, fastLease
		c.CommitTimeout = 5 * time.Millisecond
	}
	return c
}

// stallLimit is how long a write to disk may take on a leader: as long as an election's
// timeout may last, since for less nobody would be better off with another leader.
func stallLimit(c *raft.Config) time.Duration { return max(2*c.HeartbeatTimeout, minStall) }

// minStall keeps the fast settings from taking a busy disk for a dead one.
const minStall = time.Second

// ioTimeout bounds a dial and an exchange between servers. A slow disk is part of an
// exchange, so it must not be short outside tests.
func ioTimeout(cfg Config) time.Duration {
	if cfg.Fast {
		return time.Second
	}
	return 10 * time.Second
}

var errNoAddress = errors.New("no newer address is known")

// provider makes identity the id: the address in the log is only a fallback.
type provider struct {
	of func(id string) (string, bool)
}

func (p provider) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if p.of != nil {
		if addr, ok := p.of(string(id)); ok {
			return raft.ServerAddress(addr), nil
		}
	}
	return "", errNoAddress
}

// Snapshots takes over when snapshots are made and how much of the log stays behind them,
// as Config has the three; zero values are the defaults.
func (r *Raft) Snapshots(threshold uint64, interval time.Duration, trailing uint64) error {
	c := r.raft.ReloadableConfig()
	c.SnapshotThreshold = cmp.Or(threshold, 16384)
	c.SnapshotInterval = cmp.Or(interval, 30*time.Second)
	c.TrailingLogs = cmp.Or(trailing, 10240)
	if err := r.raft.ReloadConfig(c); err != nil {
		return fmt.Errorf("raft's snapshot settings: %w", err)
	}
	return nil
}
