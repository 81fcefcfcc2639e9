package endpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/archive"
	"github.com/rollcall/rollcall/server/internal/consensus"
)

// shelf keeps one snapshot.
type shelf struct {
	state    string
	restored string
	err      error
}

func (s *shelf) Snapshot(context.Context) (*consensus.Image, error) {
	return &consensus.Image{Version: 1, ID: "i", Index: 5, Term: 2, Size: int64(len(s.state)), ReadCloser: io.NopCloser(strings.NewReader(s.state))}, s.err
}

func (s *shelf) Restore(_ context.Context, i *consensus.Image) error {
	b, err := io.ReadAll(i)
	s.restored = string(b)
	return errors.Join(err, s.err)
}

// leaderShelf is the leader's endpoint elsewhere, with snapshots.
type leaderShelf struct {
	other
	got bytes.Buffer
}

func (l *leaderShelf) Save(_ context.Context, _ api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
	_, err := io.WriteString(begin(api.QueryMeta{Index: 99}), "from the leader")
	return err
}

func (l *leaderShelf) Restore(_ context.Context, _ api.QueryOptions, from io.Reader) error {
	_, err := l.got.ReadFrom(from)
	return err
}

func TestSaveAndRestore(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	s, leader := &shelf{state: "the state"}, &leaderShelf{}
	l.cfg.Snapshots, l.cfg.Dir = s, t.TempDir()
	l.cfg.Verify = func(r io.Reader) error {
		if b, _ := io.ReadAll(r); string(b) == "of another world" {
			return errors.New("unknown record")
		}
		return nil
	}
	l.cfg.At = func(string) Endpoint { return leader }
	save := func(opts api.QueryOptions) (string, api.QueryMeta) {
		t.Helper()
		var b bytes.Buffer
		var meta api.QueryMeta
		if err := l.Save(t.Context(), opts, func(m api.QueryMeta) io.Writer { meta = m; return &b }); err != nil {
			t.Fatal(err)
		}
		return b.String(), meta
	}
	file, meta := save(api.QueryOptions{})
	if meta.Index != 5 || !meta.KnownLeader {
		t.Errorf("meta %+v", meta)
	}
	if err := l.Restore(t.Context(), api.QueryOptions{}, strings.NewReader(file)); err != nil || s.restored != "the state" {
		t.Errorf("restored %q, %v", s.restored, err)
	}

	s.restored = ""
	var alien bytes.Buffer
	if err := archive.Write(&alien, archive.Meta{Size: 16}, strings.NewReader("of another world")); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"cut": file[:len(file)-9], "of another version": alien.String()} {
		if err := l.Restore(t.Context(), api.QueryOptions{}, strings.NewReader(body)); err == nil || s.restored != "" {
			t.Errorf("an archive that is %s: %v, restored %q", name, err, s.restored)
		}
	}
	for _, opts := range []api.QueryOptions{{Datacenter: "dc9"}} {
		if err := l.Restore(t.Context(), opts, strings.NewReader(file)); !errors.Is(err, api.ErrNoPath) {
			t.Errorf("another datacenter: %v", err)
		}
	}

	// A follower sends both to the leader, but for a save that may be stale.
	r.set(func() { r.leading = false })
	if got, _ := save(api.QueryOptions{}); got != "from the leader" {
		t.Errorf("a follower's save: %.20q", got)
	}
	stale, _ := save(api.QueryOptions{Consistency: api.Stale})
	if _, err := archive.Read(strings.NewReader(stale), io.Discard); err != nil {
		t.Errorf("a stale save: %v", err)
	}
	if err := l.Restore(t.Context(), api.QueryOptions{}, strings.NewReader(file)); err != nil || s.restored != "" {
		t.Fatalf("a follower restored %q, %v", s.restored, err)
	}
	var state bytes.Buffer
	if _, err := archive.Read(&leader.got, &state); err != nil || state.String() != "the state" {
		t.Errorf("the leader was sent %q, %v", state.String(), err)
	}
}

// A snapshot holds the tokens, so only who may do all with those may have it.
func TestSnapshotsNeedManagement(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	l.cfg.Snapshots = &shelf{state: "x"}
	reader := grant(t, l, `acl = "read" operator = "write" key_prefix "" { policy = "write" }`)
	for _, opts := range []api.QueryOptions{{}, {Consistency: api.Stale}, {Token: reader}} {
		err := l.Save(t.Context(), opts, func(api.QueryMeta) io.Writer { t.Error("begun"); return io.Discard })
		if api.KindOf(err) != api.Forbidden {
			t.Errorf("save without a token: %v", err)
		}
	}
	if err := l.Restore(t.Context(), api.QueryOptions{}, strings.NewReader("x")); api.KindOf(err) != api.Forbidden {
		t.Errorf("restore without a token: %v", err)
	}
	var b bytes.Buffer
	if err := l.Save(t.Context(), api.QueryOptions{Token: root}, func(api.QueryMeta) io.Writer { return &b }); err != nil || b.Len() == 0 {
		t.Errorf("save as management: %d bytes, %v", b.Len(), err)
	}
}
