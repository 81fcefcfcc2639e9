// Package consensus is the replicated log behind one door. It opens Raft with its
// stores, gathers concurrent writes into few entries, and says who leads. It knows
// nothing of what an entry means: the caller brings the state machine, and items that
// encode themselves.
//
// It promises that an error of Apply tells truly whether the write may have happened,
// that IsLeader holds only once everything committed before is applied here, and that
// a server is known by its id, never by its address. The numbered invariants stand in
// DESIGN.md. The composition root opens it; endpoint and leader use it.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Errors that callers branch on.
var (
	// ErrNotLeader: this server does not lead. A write that got it is certainly not
	// in the log.
	ErrNotLeader = errors.New("consensus: not the leader")
	// ErrUnknown: the write was handed to the log and its fate is not known here; it
	// may be applied, now or later. Leadership was lost, or the caller went away.
	ErrUnknown = errors.New("consensus: outcome unknown")
	// ErrClosed: Close was called or Run has ended. A write that got it is certainly
	// not in the log.
	ErrClosed = errors.New("consensus: closed")
	// ErrHasState: Bootstrap was refused, because this server has a log or a vote.
	ErrHasState = errors.New("consensus: already bootstrapped")
	// ErrFull: the disk is full. A write that got it alone is certainly not in the log.
	ErrFull = errors.New("the server's disk is full; it writes again when there is room")
	// ErrDamaged: the log on disk cannot be opened, or is not what was written.
	ErrDamaged = errors.New("the log on disk is damaged")
	// ErrLocked: another process has the data directory open.
	ErrLocked = errors.New("consensus: data directory is in use by another process")
)

// Config is what Open needs to know. A number left zero takes its default.
type Config struct {
	// ID names this server for life. Required.
	ID string
	// Addr is the address that the others reach this server at; the layer's own
	// address if empty.
	Addr string
	// Dir is the data directory; log and snapshots lie in its folder raft. Empty keeps
	// all in memory.
	Dir string
	// EntryPrefix begins every entry; the encoded items follow.
	EntryPrefix []byte
	// Multiplier scales the base timings: heartbeat and election 1s, lease 500ms.
	// Default 1.
	Multiplier int
	// SnapshotThreshold is how many entries bring about a snapshot. Default 16384.
	SnapshotThreshold uint64
	// SnapshotInterval is how often the threshold is looked at. Default 30s.
	SnapshotInterval time.Duration
	// TrailingLogs is how many entries are kept behind a snapshot, for followers that
	// lag. Default 10240.
	TrailingLogs uint64
	// Fast replaces the timings by short ones, for -dev and tests.
	Fast bool
	// Disk wraps the log store, for tests of slow and failing disks. May be nil.
	Disk func(raft.LogStore) raft.LogStore
	// AddressOf finds a server by id where its address may have changed; false falls
	// back to the address in the Raft configuration. May be nil. Must not block.
	AddressOf func(id string) (addr string, ok bool)
	// Log takes what an operator should know. Required.
	Log *slog.Logger
}

// cachedLogs is how many entries a leader keeps in memory for its followers. One entry may
// be 256 KB, so more would cost real memory under load.
const cachedLogs = 128

// Raft is one server's part in the consensus. Its methods may be called concurrently.
type Raft struct {
	cfg       Config
	log       *slog.Logger
	raft      *raft.Raft
	transport *raft.NetworkTransport
	stores    *stores
	fsm       *checked
	disk      *watchdog
	beats     beats
	pump      *pump
	changed   signal
	observed  chan raft.Observation

	// ready is the term whose barrier has been applied here, 0 before the first.
	ready atomic.Uint64

	mu      sync.Mutex
	closed  bool               // guarded by mu
	running context.CancelFunc // guarded by mu; ends Run
	calls   sync.WaitGroup     // Run and every call that waits for Raft; grows under mu
}

// Open opens the stores and joins the cluster they know of, if any. Until Run is
// called it follows and votes, but takes no writes. It takes over streams, also where
// it returns an error; their Close must end the dials under way, for Raft waits for them.
func Open(cfg Config, fsm raft.FSM, streams raft.StreamLayer) (*Raft, error) {
	if cfg.Addr == "" {
		cfg.Addr = streams.Addr().String()
	}
	r := &Raft{
		cfg:      cfg,
		log:      cfg.Log.With("room", "consensus"),
		observed: make(chan raft.Observation, 1),
	}
	adapter := newHCLogger(r.log)
	stores, err := openStores(cfg.Dir, adapter)
	if err != nil {
		streams.Close()
		return nil, fmt.Errorf("open raft stores: %w", err)
	}
	r.stores = stores
	settings := raftConfig(cfg, adapter)
	if err := recoverByFile(cfg, fsm, stores, settings); err != nil {
		streams.Close()
		return nil, errors.Join(err, stores.close())
	}
	logs := stores.logs
	if cfg.Disk != nil {
		logs = cfg.Disk(logs)
	}
	r.disk = newWatchdog(logs, stallLimit(settings), r.log)
	r.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider: provider{cfg.AddressOf},
		Stream:                newLayer(streams),
		MaxPool:               3,
		MaxRPCsInFlight:       pipelined,
		Timeout:               ioTimeout(cfg),
		Logger:                adapter,
	})
	var opened atomic.Pointer[raft.Raft] // Raft writes from its first moment on
	r.disk.changed = r.changed.notify
	r.disk.alone = func() bool {
		now := opened.Load()
		return now == nil || r.aloneIn(now.GetConfiguration().Configuration())
	}
	cached, err := raft.NewLogCache(cachedLogs, r.disk) // outermost: it makes text of errors
	if err != nil {
		return nil, errors.Join(err, r.transport.Close(), stores.close())
	}
	r.fsm = newChecked(fsm)
	r.raft, err = raft.NewRaft(settings, r.fsm, cached, patientVotes{stores.stable, r.disk}, stores.snaps,
		&transport{r.transport, raft.ServerAddress(cfg.Addr), r.disk, &r.beats})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open raft: %w", err), r.transport.Close(), stores.close())
	}
	opened.Store(r.raft)
	r.pump = newPump(cfg.EntryPrefix, func(entry []byte) raft.ApplyFuture {
		return r.raft.ApplyLog(raft.Log{Data: entry, Extensions: checksum(entry)}, 0)
	})
	r.pump.disk = r.disk
	r.raft.RegisterObserver(raft.NewObserver(r.observed, false, isLeaderObservation))
	if r.aloneIn(r.raft.GetConfiguration().Configuration()) {
		r.campaign()
	}
	return r, nil
}

// Run takes writes and follows leadership until ctx ends. Entries that are under way
// then are still waited for. It may be called once; after Close it returns at once. Its
// error is ErrDamaged, when an entry of the log has changed: then this server must not go on.
func (r *Raft) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.running = cancel
	r.calls.Add(1)
	r.mu.Unlock()
	defer r.calls.Done()

	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { r.pump.run(ctx) })
	return r.follow(ctx)
}

// Close ends Run, leaves the cluster's connections without a word, and closes the
// stores. Calls under way are waited for. To hand leadership on first, call
// TransferLeadership.
func (r *Raft) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	if r.running != nil {
		r.running()
	}
	r.mu.Unlock()
	r.pump.close()
	r.disk.giveUp()
	// Raft must live until every future is answered: a shut down Raft forgets some.
	r.calls.Wait()
	stopping := r.raft.Shutdown()
	err := r.transport.Close() // and with it the layer, or Raft waits for silent peers
	err = errors.Join(err, stopping.Error())
	r.beats.close()
	return errors.Join(err, r.stores.close())
}

// await runs f, which waits for Raft, and gives its error, or ctx's if that ends first.
func (r *Raft) await(ctx context.Context, f func() error) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	r.calls.Add(1)
	r.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		defer r.calls.Done()
		done <- f()
	}()
	select {
	case err := <-done:
		return translate(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// translate gives our sentinel for what Raft says of a server that cannot take a
// request, and leaves other errors alone.
func translate(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrNotLeader
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	}
	return err
}
