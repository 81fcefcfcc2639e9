package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// steadyBytes is how much of a snapshot may wait for the disk at a time. A quarter of it
// syncs so often that the log's writes wait for that.
const steadyBytes = 1 << 20

// steady has snapshots go to the disk bit by bit while they are written. Otherwise all of one
// goes when it is done, and a file system that orders its data, as ext4, has the log's next
// write wait for it.
type steady struct {
	raft.SnapshotStore
	dir string // where the snapshots lie
}

// Create implements raft.SnapshotStore.
func (s steady) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, cIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, c, cIndex, t)
	if err != nil {
		return nil, err
	}
	// the sink's own file is not to be had, but a file is synced by whoever has it open
	f, err := os.Open(filepath.Join(s.dir, sink.ID()+".tmp", "state.bin"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the snapshot that is begun: %w", err), sink.Cancel())
	}
	return &steadySink{SnapshotSink: sink, file: f}, nil
}

type steadySink struct {
	raft.SnapshotSink
	file    *os.File
	waiting int
}

// Write implements io.Writer.
func (s *steadySink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	if s.waiting += n; err == nil && s.waiting >= steadyBytes {
		s.waiting = 0
		err = s.file.Sync()
	}
	return n, err
}

// Close implements io.Closer.
func (s *steadySink) Close() error {
	s.file.Close()
	return s.SnapshotSink.Close()
}

// Cancel implements raft.SnapshotSink.
func (s *steadySink) Cancel() error {
	s.file.Close()
	return s.SnapshotSink.Cancel()
}
