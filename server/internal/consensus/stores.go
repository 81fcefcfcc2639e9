package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// keptSnapshots is how many snapshots stay on disk.
const keptSnapshots = 2

// stores are what Raft writes to. close releases them, and the lock last.
type stores struct {
	logs   raft.LogStore
	stable raft.StableStore
	snaps  raft.SnapshotStore
	close  func() error
}

// openStores opens the stores below dir, or stores in memory where dir is empty.
func openStores(dir string, log hclog.Logger) (*stores, error) {
	if dir == "" {
		mem := raft.NewInmemStore()
		return &stores{mem, mem, raft.NewInmemSnapshotStore(), func() error { return nil }}, nil
	}
	dir = filepath.Join(dir, "raft")
	if err := os.MkdirAll(filepath.Join(dir, "wal"), 0o700); err != nil {
		return nil, fmt.Errorf("data directory is not writable: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	log.Debug("opening the log", "dir", dir)
	disk, err := openJournal(filepath.Join(dir, "wal"), log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log in %s: %w", dir, err), lock.Close())
	}
	release := func() error { return errors.Join(disk.Close(), lock.Close()) }
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots in %s: %w", dir, err), release())
	}
	return &stores{disk, disk, steady{snaps, filepath.Join(dir, "snapshots")}, release}, nil
}

// lockDir keeps a second process out of dir for as long as the file it gives is open.
// Without it the log store would wait for the other's lock for ever, saying nothing.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory is not writable: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrLocked, dir), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}
