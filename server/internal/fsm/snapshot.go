package fsm

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/server/internal/msgpack"
	"github.com/rollcall/rollcall/server/internal/store"
)

// A snapshot is magic, then records: a length (4 bytes, big endian) and MessagePack each,
// then a length of 0, so that a cut file is told from a whole one.
const (
	magic     = "rollcall1\n"
	maxRecord = 16 << 20 // bytes; a KV value is at most a part of it
)

// ErrSnapshot: the bytes are no snapshot of ours, or not a whole one.
var ErrSnapshot = errors.New("fsm: not a whole snapshot")

// Snapshot takes the state as it is; writing it out does not hold up Apply.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) { return image{f.store.State()}, nil }

// Restore replaces the state by a snapshot. On an error nothing has changed.
func (f *FSM) Restore(from io.ReadCloser) error {
	defer from.Close()
	st, err := read(from)
	if err != nil {
		return err
	}
	f.store.Restore(st)
	return nil
}

// Verify reads a snapshot and forgets it: an error says why Restore would refuse it.
func Verify(from io.Reader) error {
	_, err := read(from)
	return err
}

// image is a state that is being written.
type image struct{ st *store.State }

// Persist writes the snapshot to sink, row by row.
func (i image) Persist(sink raft.SnapshotSink) error {
	if err := write(sink, i.st); err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}

// Release has nothing to release.
func (i image) Release() {}

func write(to io.Writer, st *store.State) error {
	w := bufio.NewWriterSize(to, 64<<10)
	if _, err := w.WriteString(magic); err != nil {
		return err
	}
	var length [4]byte
	for r := range st.Records {
		var failed error
		err := msgpack.With(r, func(b []byte) {
			binary.BigEndian.PutUint32(length[:], uint32(len(b)))
			if _, failed = w.Write(length[:]); failed == nil {
				_, failed = w.Write(b)
			}
		})
		if err = cmp.Or(err, failed); err != nil {
			return err
		}
	}
	if _, err := w.Write([]byte{0, 0, 0, 0}); err != nil {
		return err
	}
	return w.Flush()
}

func read(from io.Reader) (*store.State, error) {
	b := store.NewBuilder()
	if err := records(from, func(r *store.Record, _ int) error { return b.Add(r) }); err != nil {
		return nil, err
	}
	return b.State(), nil
}

// records reads a snapshot, record by record, each with its size in bytes.
func records(from io.Reader, take func(r *store.Record, size int) error) error {
	r := bufio.NewReaderSize(from, 64<<10)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return fmt.Errorf("%w: it does not begin like one", ErrSnapshot)
	}
	var length [4]byte
	var buf []byte
	for n := 0; ; n++ {
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return fmt.Errorf("%w: cut after %d records", ErrSnapshot, n)
		}
		size := binary.BigEndian.Uint32(length[:])
		if size == 0 {
			return nil
		}
		if size > maxRecord {
			return fmt.Errorf("%w: record %d claims %d bytes", ErrSnapshot, n, size)
		}
		if cap(buf) < int(size) {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		if _, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("%w: cut in record %d", ErrSnapshot, n)
		}
		var rec store.Record
		if err := msgpack.Decode(buf, &rec); err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrSnapshot, n, err)
		}
		if err := take(&rec, len(buf)); err != nil {
			return fmt.Errorf("%w: record %d: %w", ErrSnapshot, n, err)
		}
	}
}
