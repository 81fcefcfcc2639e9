package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/archive"
	"github.com/rollcall/rollcall/server/internal/consensus"
)

// Snapshots saves and restores the whole state, as archives. Like an Endpoint, Local and
// rpc.Remote answer it alike.
type Snapshots interface {
	// Save writes an archive of the state: the leader's, or with api.Stale that of
	// whoever is asked. It calls begin once, before the first byte, for where to write
	// to; an error before that means that nothing was written.
	Save(ctx context.Context, opts api.QueryOptions, begin func(api.QueryMeta) io.Writer) error
	// Restore replaces the state of the cluster by an archive's. An archive that is not
	// whole, or not ours, changes nothing.
	Restore(ctx context.Context, opts api.QueryOptions, from io.Reader) error
}

// Snapshotter is what Local asks of the log for snapshots.
type Snapshotter interface {
	Snapshot(ctx context.Context) (*consensus.Image, error)
	Restore(ctx context.Context, i *consensus.Image) error
}

var _ Snapshots = (*Local)(nil)

// Save writes an archive of this server's state, or has the leader do so.
func (l *Local) Save(ctx context.Context, opts api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
	if there, err := l.elsewhere(opts.Datacenter); err != nil {
		return err
	} else if there != nil {
		return there.Save(ctx, opts, begin)
	}
	if err := l.mayAll(opts.Token); err != nil {
		return err
	}
	if opts.Consistency == api.Stale {
		return l.save(ctx, opts, begin)
	}
	begun := false
	_, err := atLeader(ctx, l, false, func(ctx context.Context, _ <-chan struct{}) (struct{}, error) {
		if opts.Consistency == api.Consistent {
			if err := l.cfg.Raft.VerifyLeader(ctx); err != nil {
				return struct{}{}, notLeader(ctx, err)
			}
		}
		return struct{}{}, l.save(ctx, opts, begin)
	}, func(ctx context.Context, leader Endpoint) (struct{}, error) {
		s, ok := leader.(Snapshots)
		if !ok {
			return struct{}{}, api.Errorf(api.Internal, "the leader takes no snapshots")
		}
		err := s.Save(ctx, opts, func(m api.QueryMeta) io.Writer { begun = true; return begin(m) })
		if begun && err != nil { // what went out cannot be taken back: no second try
			err = api.Errorf(api.Internal, "snapshot broke off: %v", err)
		}
		return struct{}{}, err
	})
	return err
}

// mayAll refuses a token that may not see, and change, everything: the state holds the
// tokens, too.
func (l *Local) mayAll(token string) error {
	if !l.cfg.ACLs.Enabled {
		return nil
	}
	h, err := l.holder(token)
	if err != nil {
		return err
	}
	return h.Require(acl.ACL, "", acl.Write)
}

func (l *Local) save(ctx context.Context, opts api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
	image, err := l.cfg.Snapshots.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer image.Close()
	worth := l.meta(&Query{QueryOptions: opts})
	worth.Index = max(image.Index, 1)
	meta := archive.Meta{Version: image.Version, ID: image.ID, Index: image.Index, Term: image.Term, Size: image.Size}
	return archive.Write(begin(worth), meta, image)
}

// Restore unpacks and verifies an archive, and has the leader take its state.
func (l *Local) Restore(ctx context.Context, opts api.QueryOptions, from io.Reader) error {
	if there, err := l.elsewhere(opts.Datacenter); err != nil {
		return err
	} else if there != nil {
		return there.Restore(ctx, opts, from)
	}
	if err := l.mayAll(opts.Token); err != nil {
		return err
	}
	file, err := os.CreateTemp(l.cfg.Dir, "restore-")
	if err != nil {
		return fmt.Errorf("unpack snapshot: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	meta, err := unpack(file, from, l.cfg.Verify)
	if err != nil {
		return err
	}
	_, err = atLeader(ctx, l, false, func(ctx context.Context, _ <-chan struct{}) (struct{}, error) {
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return struct{}{}, err
		}
		image := &consensus.Image{Version: meta.Version, ID: meta.ID, Index: meta.Index, Term: meta.Term, Size: meta.Size, ReadCloser: io.NopCloser(file)}
		return struct{}{}, notLeader(ctx, l.cfg.Snapshots.Restore(ctx, image))
	}, func(ctx context.Context, leader Endpoint) (struct{}, error) {
		s, ok := leader.(Snapshots)
		if !ok {
			return struct{}{}, api.Errorf(api.Internal, "the leader restores no snapshots")
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return struct{}{}, err
		}
		pipe, w := io.Pipe()
		defer pipe.Close()
		go func() { w.CloseWithError(archive.Write(w, *meta, file)) }()
		return struct{}{}, s.Restore(ctx, opts, pipe)
	})
	return err
}

// unpack writes an archive's state to file and has it read once, for nothing but to
// know that it can be.
func unpack(file *os.File, from io.Reader, verify func(io.Reader) error) (*archive.Meta, error) {
	meta, err := archive.Read(from, file)
	switch {
	case errors.Is(err, archive.ErrArchive):
		return nil, api.Errorf(api.Internal, "failed to read snapshot file: %v", err)
	case err != nil:
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	if err := verify(file); err != nil {
		return nil, api.Errorf(api.Internal, "the snapshot file holds a state that this version cannot read: %v", err)
	}
	return meta, nil
}
