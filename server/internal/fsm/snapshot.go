package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"

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

var handle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.RawToString = true
	h.Canonical = true
	return h
}()

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
	var buf []byte
	var length [4]byte
	enc := codec.NewEncoderBytes(&buf, handle)
	for r := range st.Records {
		buf = buf[:0]
		enc.ResetBytes(&buf)
		if err := enc.Encode(r); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(length[:], uint32(len(buf)))
		if _, err := w.Write(length[:]); err != nil {
			return err
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	if _, err := w.Write([]byte{0, 0, 0, 0}); err != nil {
		return err
	}
	return w.Flush()
}

func read(from io.Reader) (*store.State, error) {
	r := bufio.NewReaderSize(from, 64<<10)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrSnapshot)
	}
	b := store.NewBuilder()
	var length [4]byte
	var buf []byte
	for n := 0; ; n++ {
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return nil, fmt.Errorf("%w: cut after %d records", ErrSnapshot, n)
		}
		size := binary.BigEndian.Uint32(length[:])
		if size == 0 {
			return b.State(), nil
		}
		if size > maxRecord {
			return nil, fmt.Errorf("%w: record %d claims %d bytes", ErrSnapshot, n, size)
		}
		if cap(buf) < int(size) {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		if _, err := io.ReadFull(r, buf); err != nil {
			return nil, fmt.Errorf("%w: cut in record %d", ErrSnapshot, n)
		}
		var rec store.Record
		if err := codec.NewDecoderBytes(buf, handle).Decode(&rec); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrSnapshot, n, err)
		}
		if err := b.Add(&rec); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", ErrSnapshot, n, err)
		}
	}
}
