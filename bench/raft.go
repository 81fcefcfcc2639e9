package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// alone is the name of what the disk and Raft's library can do without a server around
// them: a log of one server in this process, to which those who wait together write one
// entry. Nothing is applied, encoded or sent.
const alone = "raft-alone"

// raftAlone is that log. It must be closed.
type raftAlone struct {
	raft  *raft.Raft
	disk  *wal.WAL
	items chan item
	done  chan struct{}
}

// item is one write and where its outcome goes.
type item struct {
	data []byte
	out  chan error
}

// nothing is the state of such a log.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("there is no state") }
func (nothing) Restore(r io.ReadCloser) error       { return r.Close() }

// startRaft begins a log in a folder and waits until it leads.
func startRaft(dir string) (*raftAlone, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log := hclog.NewNullLogger()
	disk, err := wal.Open(dir, wal.WithLogger(log))
	if err != nil {
		return nil, err
	}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger, cfg.NoLegacyTelemetry = alone, log, true
	cfg.SnapshotThreshold = 1 << 40 // never
	addr, transport := raft.NewInmemTransport("")
	snaps := raft.NewDiscardSnapshotStore()
	err = raft.BootstrapCluster(cfg, disk, disk, snaps, transport, raft.Configuration{Servers: []raft.Server{{ID: alone, Address: addr}}})
	if err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	node, err := raft.NewRaft(cfg, nothing{}, disk, disk, snaps, transport)
	if err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	a := &raftAlone{raft: node, disk: disk, items: make(chan item, 1024), done: make(chan struct{})}
	select {
	case <-node.LeaderCh():
	case <-time.After(30 * time.Second):
		close(a.done)
		return nil, errors.Join(fmt.Errorf("%s: no leader after 30 s", alone), a.Close())
	}
	go a.pump()
	return a, nil
}

// pump makes one entry of all that waits, again and again.
func (a *raftAlone) pump() {
	defer close(a.done)
	for first := range a.items {
		data, waiting := first.data, []chan error{first.out}
		for more := true; more && len(waiting) < 1024; {
			select {
			case i, open := <-a.items:
				if more = open; open {
					data, waiting = append(data[:len(data):len(data)], i.data...), append(waiting, i.out)
				}
			default:
				more = false
			}
		}
		err := a.raft.Apply(data, 0).Error()
		for _, out := range waiting {
			out <- err
		}
	}
}

func (a *raftAlone) Close() error {
	close(a.items)
	<-a.done
	return errors.Join(a.raft.Shutdown().Error(), a.disk.Close())
}

// writer is one of those who write.
type writer struct {
	log  *raftAlone
	name []byte
	out  chan error
}

func (a *raftAlone) writers(w int) (asker, error) {
	return &writer{a, strconv.AppendInt(nil, int64(w), 10), make(chan error, 1)}, nil
}

func (w *writer) do(int) error {
	w.log.items <- item{appendValue(w.name[:len(w.name):len(w.name)]), w.out}
	return <-w.out
}

func (w *writer) Close() error { return nil }
