package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/rpc"
)

// snaps is an endpoint that has snapshots as well.
type snaps struct {
	fake
	save    func(context.Context, api.QueryOptions, func(api.QueryMeta) io.Writer) error
	restore func(context.Context, api.QueryOptions, io.Reader) error
}

func (s *snaps) Save(ctx context.Context, o api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
	return s.save(ctx, o, begin)
}
func (s *snaps) Restore(ctx context.Context, o api.QueryOptions, from io.Reader) error {
	return s.restore(ctx, o, from)
}

// through is the same server by its address, and as a client agent has it.
func through(t *testing.T, ep endpoint.Endpoint) map[string]endpoint.Snapshots {
	_, addr, _ := serve(t, ep)
	p := pool(t)
	return map[string]endpoint.Snapshots{
		"caller": p.At(addr).(endpoint.Snapshots),
		"remote": rpc.NewRemote(p, func() []string { return []string{addr} }, logger(t)),
	}
}

func TestSnapshotsTravel(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("state", 500_000)
	var got bytes.Buffer
	ep := &snaps{
		save: func(_ context.Context, o api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
			if o.Token != "t" || o.Consistency != api.Stale {
				return api.Errorf(api.Invalid, "options %+v", o)
			}
			_, err := io.WriteString(begin(api.QueryMeta{Index: 7, KnownLeader: true}), body)
			return err
		},
		restore: func(_ context.Context, o api.QueryOptions, from io.Reader) error {
			got.Reset()
			_, err := io.Copy(&got, from)
			return err
		},
	}
	opts := api.QueryOptions{Token: "t", Consistency: api.Stale}
	for name, s := range through(t, ep) {
		var saved bytes.Buffer
		var meta api.QueryMeta
		if err := s.Save(t.Context(), opts, func(m api.QueryMeta) io.Writer { meta = m; return &saved }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if saved.String() != body || meta.Index != 7 || !meta.KnownLeader {
			t.Errorf("%s: saved %d of %d bytes, meta %+v", name, saved.Len(), len(body), meta)
		}
		if err := s.Restore(t.Context(), opts, strings.NewReader(body)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.String() != body {
			t.Errorf("%s: restored %d of %d bytes", name, got.Len(), len(body))
		}
	}
}

func TestSnapshotsRefused(t *testing.T) {
	t.Parallel()
	ep := &snaps{
		save: func(_ context.Context, o api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
			if o.Token == "none" {
				return api.ErrPermissionDenied
			}
			io.WriteString(begin(api.QueryMeta{}), "part")
			return errors.New("disk on fire")
		},
		restore: func(_ context.Context, _ api.QueryOptions, from io.Reader) error {
			io.CopyN(io.Discard, from, 10) // the rest is still under way when the refusal comes
			return api.Errorf(api.Internal, "not whole")
		},
	}
	for name, s := range through(t, ep) {
		err := s.Save(t.Context(), api.QueryOptions{Token: "none"}, func(api.QueryMeta) io.Writer { t.Error("begun"); return io.Discard })
		if !errors.Is(err, api.ErrPermissionDenied) {
			t.Errorf("%s: a refusal before the first byte: %v", name, err)
		}
		err = s.Save(t.Context(), api.QueryOptions{}, func(api.QueryMeta) io.Writer { return io.Discard })
		if err == nil || !strings.Contains(err.Error(), "disk on fire") {
			t.Errorf("%s: a fault behind the first byte: %v", name, err)
		}
		err = s.Restore(t.Context(), api.QueryOptions{}, strings.NewReader(strings.Repeat("x", 20<<20)))
		if err == nil || !strings.Contains(err.Error(), "not whole") {
			t.Errorf("%s: a refused restore: %v", name, err)
		}
	}
}

type failing struct{ n int }

func (f *failing) Read(b []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errors.New("client went away")
	}
	return len(b), nil
}

// A restore whose source breaks must not look whole to the server.
func TestRestoreThatBreaksOff(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 2)
	ep := &snaps{restore: func(_ context.Context, _ api.QueryOptions, from io.Reader) error {
		_, err := io.Copy(io.Discard, from)
		ended <- err
		return err
	}}
	for name, s := range through(t, ep) {
		if err := s.Restore(t.Context(), api.QueryOptions{}, &failing{5}); err == nil || !strings.Contains(err.Error(), "client went away") {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-ended; err == nil {
			t.Errorf("%s: the server took a part for the whole", name)
		}
	}
}

// Who gives up ends the work at the other side, too.
func TestSaveGivenUp(t *testing.T) {
	t.Parallel()
	started := make(chan struct{}, 2)
	over := make(chan struct{}, 2)
	ep := &snaps{save: func(ctx context.Context, _ api.QueryOptions, _ func(api.QueryMeta) io.Writer) error {
		started <- struct{}{}
		<-ctx.Done()
		over <- struct{}{}
		return ctx.Err()
	}}
	for name, s := range through(t, ep) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-started; cancel() }()
		if err := s.Save(ctx, api.QueryOptions{}, func(api.QueryMeta) io.Writer { return io.Discard }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		<-over
	}
}

func TestSnapshotWithoutAServer(t *testing.T) {
	t.Parallel()
	_, addr, stop := serve(t, &snaps{})
	stop()
	err := pool(t).At(addr).(endpoint.Snapshots).Save(t.Context(), api.QueryOptions{}, func(api.QueryMeta) io.Writer { return io.Discard })
	if !errors.Is(err, api.ErrNotLeader) || api.KindOf(err) != api.Unavailable {
		t.Errorf("got %v, want one that sends elsewhere", err)
	}
}
