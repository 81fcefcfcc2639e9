package child

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// started runs a shell script as the child; what it writes to $OUT comes back by lines.
func started(t *testing.T, cfg Config, script string) (changes chan struct{}, signals chan os.Signal, lines func(n int) []string, stop func() error) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	cfg.Argv, cfg.Environ = []string{"/bin/sh", "-c", script}, append(os.Environ(), "OUT="+out)
	changes, signals = make(chan struct{}), make(chan os.Signal)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, changes, signals, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	lines = func(n int) []string {
		deadline := time.After(10 * time.Second)
		for {
			b, _ := os.ReadFile(out) // not there before the first line
			if got := strings.Fields(string(b)); len(got) >= n {
				return got
			}
			select {
			case <-deadline:
				t.Fatalf("no %d lines: %q", n, b)
			case <-time.After(2 * time.Millisecond):
			}
		}
	}
	return changes, signals, lines, func() error { cancel(); return <-done }
}

func TestReloadBySignal(t *testing.T) {
	t.Parallel()
	hup := make(chan os.Signal, 1) // caught, as the templater does: ignored, as below nohup, a shell could not trap it
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	changes, signals, lines, stop := started(t, Config{ReloadSignal: syscall.SIGHUP, KillSignal: syscall.SIGTERM},
		`trap 'echo hup >> $OUT' HUP; trap 'echo usr >> $OUT' USR1; trap 'echo term >> $OUT; exit 0' TERM; echo up >> $OUT; while :; do sleep 0.02; done`)
	changes <- struct{}{}
	lines(1)
	changes <- struct{}{}
	lines(2)
	signals <- syscall.SIGUSR1
	lines(3)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(lines(4), " "); got != "up hup usr term" {
		t.Errorf("the child saw %q", got)
	}
}

// Without a signal a change starts it anew; one that does not end is killed.
func TestRestart(t *testing.T) {
	t.Parallel()
	changes, _, lines, stop := started(t, Config{KillTimeout: 50 * time.Millisecond}, `trap '' INT; echo up >> $OUT; while :; do sleep 0.02; done`)
	for n := range 3 {
		changes <- struct{}{}
		lines(n + 1)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n := len(lines(3)); n != 3 {
		t.Errorf("started %d times, want 3", n)
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	var exit *Exit
	if err := Run(t.Context(), Config{Argv: []string{"/bin/sh", "-c", "exit 7"}, Environ: []string{}}, changed(), nil, slog.New(slog.DiscardHandler)); !errors.As(err, &exit) || exit.Code != 7 {
		t.Errorf("got %v, want exit 7", err)
	}
}

func changed() chan struct{} { c := make(chan struct{}, 1); c <- struct{}{}; return c }
