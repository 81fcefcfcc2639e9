package consensus_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

// A server whose two peers are gone for good goes on alone after a recovery, by the call
// and by a file, with every entry that it had; what was there before is kept.
func TestRecover(t *testing.T) {
	t.Parallel()
	for name, by := range map[string]func(t *testing.T, dir string) error{
		"by the call": func(t *testing.T, dir string) error {
			quiet := slog.New(slog.DiscardHandler)
			past, err := consensus.Look(dir, quiet)
			if err != nil || len(past.Servers) != 3 || past.Index < 20 || past.Term == 0 {
				t.Fatalf("Look: %+v, %v", past, err)
			}
			_, err = consensus.Recover(dir, []consensus.Server{{ID: "a", Addr: "a:8300"}}, &registers{}, quiet)
			return err
		},
		"by a file": func(_ *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, "raft", "peers.json"), []byte(`[{"id": "a", "address": "a:8300"}]`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, root := servertest.NewNet(), t.TempDir()
			dirs := func(c *consensus.Config) { c.Multiplier, c.Dir = 10, filepath.Join(root, c.ID) } // a busy machine is no fault here
			a, others := trio(t, n, dirs)
			for i := range 20 {
				if _, err := a.Apply(t.Context(), set{"k", strings.Repeat("x", i)}); err != nil {
					t.Fatal(err)
				}
			}
			stopAll(append(others, a)...)
			dir := filepath.Join(root, "a")
			if err := by(t, dir); err != nil {
				t.Fatal(err)
			}
			a = open(t, n, "a", dirs)
			defer a.stop()
			until(t, a, "it leads", a.IsLeader)
			if got := a.fsm.get("k"); len(got) != 19 {
				t.Errorf("the last value has %d bytes, want 19", len(got))
			}
			if _, err := a.Apply(t.Context(), set{"k", "new"}); err != nil {
				t.Error(err)
			}
			if kept, _ := filepath.Glob(filepath.Join(dir, "raft.before-*", "wal", "*")); len(kept) == 0 {
				t.Error("no copy was kept")
			}
			if _, err := os.Stat(filepath.Join(dir, "raft", "peers.json")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file is still there: %v", err)
			}
			if _, err := consensus.Look(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, consensus.ErrLocked) {
				t.Errorf("Look at a running server's log: %v", err)
			}
		})
	}
}

// A file that cannot be read keeps the server from starting, and changes nothing.
func TestRecoverBadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "raft"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`["10.0.0.1:8300"]`, `[]`, `[{"id": "a", "address": "a:8300"}]`} { // the last: there is no log
		if err := os.WriteFile(filepath.Join(dir, "raft", "peers.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := tryOpen(t, servertest.NewNet(), "a", func(c *consensus.Config) { c.Dir = dir })
		if err == nil {
			s.stop()
		}
		if err == nil || !strings.Contains(err.Error(), "peers.json") {
			t.Errorf("with %s: %v", text, err)
		}
	}
	if _, err := consensus.Look(t.TempDir(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Look at an empty directory")
	}
}
