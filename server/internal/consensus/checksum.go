package consensus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum travels with an entry, on every disk and wire that it passes.
func checksum(entry []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.Checksum(entry, castagnoli))
}

// checked compares each entry with its checksum before the state machine sees it. A server
// that applied one that has changed on the way would tell what the others do not; so it
// applies nothing more, and Run ends. Entries of older versions have no checksum. Raft
// calls it from one goroutine.
type checked struct {
	raft.FSM
	err     error
	damaged chan error // 1; gets err
}

func newChecked(fsm raft.FSM) *checked { return &checked{FSM: fsm, damaged: make(chan error, 1)} }

// Apply implements raft.FSM.
func (c *checked) Apply(l *raft.Log) any {
	if c.err == nil && len(l.Extensions) > 0 && !bytes.Equal(l.Extensions, checksum(l.Data)) {
		c.err = damage(fmt.Errorf("entry %d has changed since it was written", l.Index))
		c.damaged <- c.err
	}
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, c.err)
	}
	return c.FSM.Apply(l)
}

// Snapshot implements raft.FSM.
func (c *checked) Snapshot() (raft.FSMSnapshot, error) {
	if c.err != nil {
		return nil, c.err
	}
	return c.FSM.Snapshot()
}

// damage adds to an error what can be done about it.
func damage(err error) error {
	return fmt.Errorf("%w: %w; if other servers have the data, start this one with an empty data directory, else restore a snapshot into such a one", ErrDamaged, err)
}
