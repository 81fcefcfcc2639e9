package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// Pauses between attempts to write to a disk that is full.
const (
	roomMin = 100 * time.Millisecond
	roomMax = 2 * time.Second
)

// errStalled is why nothing is said to the others while the disk stalls.
var errStalled = errors.New("the disk does not finish a write")

// watchdog watches over the writes to the log store. While one takes longer than limit, a
// server does not lead: it says nothing to the others, so that they elect somebody else,
// and takes no requests. Without it a leader whose disk hangs would keep its followers
// quiet by heartbeats, which need no disk, and nobody could write.
type watchdog struct {
	raft.LogStore
	limit time.Duration
	log   *slog.Logger
	// alone reports that nobody else could lead: then it only says so.
	alone   func() bool
	changed func() // called when the disk begins and ends to stall; must not block

	mu      sync.Mutex
	turn    int           // guarded by mu; counts writes
	stalled atomic.Bool   // set with mu held; leads nobody
	full    error         // guarded by mu; why the disk takes nothing, nil where it may
	stall   chan struct{} // guarded by mu; closed while stalled or full
	quit    chan struct{} // closed by give up
}

func newWatchdog(logs raft.LogStore, limit time.Duration, log *slog.Logger) *watchdog {
	return &watchdog{LogStore: logs, limit: limit, log: log, stall: make(chan struct{}), quit: make(chan struct{})}
}

// IsMonotonic passes on what the store is; Raft asks for it.
func (w *watchdog) IsMonotonic() bool {
	m, ok := w.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (w *watchdog) StoreLog(l *raft.Log) error {
	defer w.watch()()
	return w.insist(func() error { return w.LogStore.StoreLog(l) })
}

func (w *watchdog) StoreLogs(l []*raft.Log) error {
	defer w.watch()()
	return w.insist(func() error { return w.LogStore.StoreLogs(l) })
}

// DeleteRange is not watched over: it may be a snapshot's, beside a write.
func (w *watchdog) DeleteRange(first, last uint64) error {
	return w.insist(func() error { return w.LogStore.DeleteRange(first, last) })
}

// insist makes a write, again and again while the disk is full: Raft would stand for
// election after each failure, in vain, and a server alone could not even be read.
func (w *watchdog) insist(write func() error) error {
	began := time.Now()
	err := write()
	if !isFull(err) {
		return err
	}
	for pause := roomMin; isFull(err); pause = min(2*pause, roomMax) {
		w.fill(err)
		wait := time.NewTimer(pause)
		select {
		case <-w.quit:
			wait.Stop()
			return err
		case <-wait.C:
		}
		err = write()
	}
	w.goOn(began)
	return err
}

// isFull tells whether room on the disk would cure an error.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// fill notes that the disk is full. A server with others stops to lead them at once; one
// that is alone goes on answering reads, and refuses writes.
func (w *watchdog) fill(err error) {
	alone := w.alone()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.full != nil || w.stalled.Load() {
		return
	}
	w.full = fmt.Errorf("%w: %w", ErrFull, err)
	w.stalled.Store(!alone)
	close(w.stall)
	w.log.Error("the disk is full; writes are refused, and tried again until there is room", "err", err)
	w.changed()
}

// refusal is why a write of a server that leads is not even tried; nil where it is.
func (w *watchdog) refusal() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stalled.Load() {
		return ErrNotLeader
	}
	return w.full
}

// giveUp ends the attempts to write.
func (w *watchdog) giveUp() { close(w.quit) }

// watch begins to watch over a write and gives what ends that. Raft writes one at a time.
func (w *watchdog) watch() (end func()) {
	w.mu.Lock()
	w.turn++
	turn := w.turn
	w.mu.Unlock()
	began := time.Now()
	bark := time.AfterFunc(w.limit, func() { w.bark(turn) })
	return func() {
		bark.Stop()
		w.mu.Lock()
		w.turn++
		w.mu.Unlock()
		w.goOn(began)
	}
}

// goOn notes that a write has ended, which began then.
func (w *watchdog) goOn(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stalled.Load() && w.full == nil {
		return
	}
	w.stalled.Store(false)
	w.full, w.stall = nil, make(chan struct{})
	w.log.Warn("the disk writes again", "took", time.Since(began).Round(time.Millisecond).String())
	w.changed()
}

func (w *watchdog) bark(turn int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.turn != turn || w.full != nil: // done at this very moment, or told
	case w.alone():
		w.log.Warn("the disk does not finish a write", "after", w.limit.String())
	default:
		w.stalled.Store(true)
		close(w.stall)
		w.log.Error("the disk does not finish a write; until it does this server leads nobody", "after", w.limit.String())
		w.changed()
	}
}

// stalls gives a channel that is closed while the disk stalls or is full.
func (w *watchdog) stalls() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stall
}

func (w *watchdog) isStalled() bool { return w.stalled.Load() }

// whileWriting gives a ctx that ends when the disk begins to stall, or is full.
func (w *watchdog) whileWriting(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stall := w.stalls()
	go func() {
		select {
		case <-stall:
			cancel(cmp.Or(w.refusal(), ErrNotLeader))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// transport tells the others the address we want to be reached at, which may not be the
// one we listen on, keeps silent while the disk stalls, and lets no heartbeat in once the
// stores are to be closed.
type transport struct {
	*raft.NetworkTransport
	addr  raft.ServerAddress
	disk  *watchdog
	beats *beats
}

// SetHeartbeatHandler is called by Raft, whose handler writes to the stores from goroutines
// that nobody waits for.
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	if handle == nil {
		t.NetworkTransport.SetHeartbeatHandler(nil)
		return
	}
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		if !t.beats.begin() {
			rpc.Respond(nil, raft.ErrRaftShutdown)
			return
		}
		defer t.beats.running.Done()
		handle(rpc)
	})
}

// beats counts the heartbeats that are being handled.
type beats struct {
	mu      sync.Mutex
	closed  bool           // guarded by mu
	running sync.WaitGroup // grows under mu
}

func (b *beats) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.running.Add(1)
	return true
}

// close refuses those to come and waits for the others.
func (b *beats) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.running.Wait()
}

func (t *transport) LocalAddr() raft.ServerAddress { return t.addr }

// AppendEntries carries heartbeats too.
func (t *transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.disk.isStalled() {
		return errStalled
	}
	return t.NetworkTransport.AppendEntries(id, to, args, resp)
}

func (t *transport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return pipeline{p, t.disk}, nil
}

type pipeline struct {
	raft.AppendPipeline
	disk *watchdog
}

func (p pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.disk.isStalled() {
		return nil, errStalled
	}
	return p.AppendPipeline.AppendEntries(args, resp)
}

// patientVotes is the store of term and vote. Raft ends the process where one cannot be
// written; while the disk is full, it waits.
type patientVotes struct {
	raft.StableStore
	disk *watchdog
}

func (v patientVotes) Set(key, value []byte) error {
	return v.disk.insist(func() error { return v.StableStore.Set(key, value) })
}

func (v patientVotes) SetUint64(key []byte, value uint64) error {
	return v.disk.insist(func() error { return v.StableStore.SetUint64(key, value) })
}
