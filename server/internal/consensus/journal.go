package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// journal is the log and the vote on disk. It opens raft-wal anew where that cannot go on:
// a segment that could not be begun, as on a full disk, leaves it sealed for good.
type journal struct {
	dir string
	log hclog.Logger

	mu  sync.RWMutex
	wal *wal.WAL // guarded by mu; closed where it could not be opened again
	end bool     // guarded by mu; Close was called
}

var (
	_ raft.MonotonicLogStore = (*journal)(nil)
	_ raft.StableStore       = (*journal)(nil)
)

func openJournal(dir string, log hclog.Logger) (*journal, error) {
	w, err := openWAL(dir, log)
	if err != nil {
		return nil, err
	}
	return &journal{dir: dir, log: log, wal: w}, nil
}

// openWAL opens raft-wal. Where its files are damaged it may panic, or read beyond the end
// of one that was cut.
func openWAL(dir string, log hclog.Logger) (w *wal.WAL, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err != nil && !isFull(err) {
			err = damage(err)
		}
	}()
	return wal.Open(dir, wal.WithLogger(log))
}

// open gives what is open now.
func (j *journal) open() *wal.WAL {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.wal
}

// StoreLogs implements raft.LogStore.
func (j *journal) StoreLogs(l []*raft.Log) error {
	err := j.open().StoreLogs(l)
	if errors.Is(err, wal.ErrSealed) || errors.Is(err, wal.ErrClosed) {
		if err = j.reopen(err); err == nil {
			err = j.open().StoreLogs(l)
		}
	}
	return err
}

// StoreLog implements raft.LogStore.
func (j *journal) StoreLog(l *raft.Log) error { return j.StoreLogs([]*raft.Log{l}) }

// reopen closes raft-wal and opens it again, once there is room for a segment: while it is
// closed, Raft cannot read either. was is why.
func (j *journal) reopen(was error) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(j.dir, &disk); err == nil && disk.Bavail*uint64(disk.Bsize) < uint64(wal.DefaultSegmentSize) {
		return fmt.Errorf("begin a file of %d MB in %s: %w", wal.DefaultSegmentSize>>20, j.dir, syscall.ENOSPC)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.end {
		return was
	}
	if err := j.wal.Close(); err != nil {
		j.log.Debug("closing the log", "err", err)
	}
	w, err := openWAL(j.dir, j.log)
	if err != nil {
		return fmt.Errorf("open the log again: %w", err)
	}
	j.wal = w
	return nil
}

// Close releases the files.
func (j *journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.end = true
	return j.wal.Close()
}

// IsMonotonic implements raft.MonotonicLogStore.
func (j *journal) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore, as do the next two.
func (j *journal) FirstIndex() (uint64, error)            { return j.open().FirstIndex() }
func (j *journal) LastIndex() (uint64, error)             { return j.open().LastIndex() }
func (j *journal) GetLog(index uint64, l *raft.Log) error { return j.open().GetLog(index, l) }

// DeleteRange implements raft.LogStore. What is cut off the end is followed by a new segment,
// whose file is in the way of the next attempt where it could not be made as large as it shall be.
func (j *journal) DeleteRange(first, last uint64) error {
	err := j.open().DeleteRange(first, last)
	if isFull(err) || errors.Is(err, fs.ErrExist) || errors.Is(err, wal.ErrSealed) || errors.Is(err, wal.ErrClosed) {
		if err = j.reopen(err); err == nil {
			err = j.open().DeleteRange(first, last)
		}
	}
	return err
}

// Set implements raft.StableStore, as do the next three.
func (j *journal) Set(key, value []byte) error              { return j.open().Set(key, value) }
func (j *journal) Get(key []byte) ([]byte, error)           { return j.open().Get(key) }
func (j *journal) SetUint64(key []byte, value uint64) error { return j.open().SetUint64(key, value) }
func (j *journal) GetUint64(key []byte) (uint64, error)     { return j.open().GetUint64(key) }
