package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// Image is a snapshot that was taken: what it is of, and its bytes. Whoever takes it
// closes it.
type Image struct {
	Version int
	ID      string
	Index   uint64
	Term    uint64
	Size    int64 // bytes
	io.ReadCloser
}

// Snapshot takes a snapshot of the state as this server has it. It is one of those that
// Raft keeps.
func (r *Raft) Snapshot(ctx context.Context) (*Image, error) {
	var out *Image
	err := r.await(ctx, func() error {
		f := r.raft.Snapshot()
		if err := f.Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return err
		} else if err != nil {
			return r.latest(&out)
		}
		meta, body, err := f.Open()
		if err != nil {
			return err
		}
		out = image(meta, body)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("take a snapshot: %w", err)
	}
	return out, nil
}

// latest opens the newest snapshot on disk.
func (r *Raft) latest(out **Image) error {
	list, err := r.stores.snaps.List()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("there is no state yet")
	}
	meta, body, err := r.stores.snaps.Open(list[0].ID)
	if err != nil {
		return err
	}
	*out = image(meta, body)
	return nil
}

func image(meta *raft.SnapshotMeta, body io.ReadCloser) *Image {
	return &Image{int(meta.Version), meta.ID, meta.Index, meta.Term, meta.Size, body}
}

// Restore replaces the state of the whole cluster by an image, which its caller has
// verified: one that the state machine refuses would end every server. Only the leader
// can; followers are sent the new state. The log goes on above both old and new index.
func (r *Raft) Restore(ctx context.Context, i *Image) error {
	err := r.await(ctx, func() error {
		meta := &raft.SnapshotMeta{Version: raft.SnapshotVersion(i.Version), ID: i.ID, Index: i.Index, Term: i.Term, Size: i.Size}
		if err := r.raft.Restore(meta, i, 0); err != nil {
			return err
		}
		return r.raft.Barrier(0).Error()
	})
	if err != nil {
		return fmt.Errorf("restore a snapshot: %w", err)
	}
	r.log.Info("state restored from a snapshot", "snapshot", i.ID, "index", i.Index, "bytes", i.Size)
	return nil
}
