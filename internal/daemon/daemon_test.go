package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGroupEndsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		var g Group
		stopped := false
		g.Add("waits", func(ctx context.Context) error {
			<-ctx.Done()
			stopped = true
			return ctx.Err()
		})
		g.Add("fails", func(context.Context) error { return boom })
		err := g.Run(t.Context(), time.Second)
		if !errors.Is(err, boom) || !strings.Contains(err.Error(), "fails: ") {
			t.Errorf("Run = %v, want the actor's name and error", err)
		}
		if !stopped {
			t.Error("Run returned before the other actor had")
		}
	})
}

func TestGroupNamesWhoStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		release := make(chan struct{})
		g.Add("stuck", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := g.Run(ctx, 3*time.Second)
		if err == nil || !strings.Contains(err.Error(), "stuck: still running 3s") {
			t.Errorf("Run = %v, want the stuck actor named", err)
		}
		close(release)
	})
}

func TestLevel(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]slog.Level{"": slog.LevelInfo, "TRACE": slog.LevelDebug, "err": slog.LevelError, "Warn": slog.LevelWarn} {
		if got, err := Level(in); err != nil || got != want {
			t.Errorf("Level(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	if _, err := Level("loud"); err == nil {
		t.Error(`Level("loud") accepted`)
	}
}

func TestLoggerLevelChanges(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var level slog.LevelVar
	level.Set(slog.LevelWarn)
	log := Logger(&out, &level, false)
	log.Info("quiet")
	level.Set(slog.LevelInfo)
	log.Info("heard", "node", "n1")
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "msg=heard node=n1") {
		t.Errorf("log = %q, want only the second line", got)
	}
}

func TestWritePID(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.pid")
	remove, err := WritePID(path)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != strconv.Itoa(os.Getpid()) {
		t.Errorf("pid file = %q, want this process's id", b)
	}
	remove()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after remove: %v, want not exist", err)
	}
	if _, err := WritePID(filepath.Join(path, "no", "dir")); err == nil {
		t.Error("WritePID into a missing directory succeeded")
	}
}
