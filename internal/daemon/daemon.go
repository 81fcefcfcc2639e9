// Package daemon is what the three binaries have in common as long-running processes:
// a logger, a group of actors that live and end together, signals, and the readiness
// and watchdog messages of systemd. It decides nothing about what the process does.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Level reads a log level as Consul and its tools spell it: trace, debug, info, warn,
// err (or error), in any case.
func Level(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "trace", "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "err", "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q: use trace, debug, info, warn or error", s)
}

// Logger writes lines at or above level to w, as JSON or as text with the time in
// milliseconds. The level can be changed later through the LevelVar.
func Logger(w io.Writer, level *slog.LevelVar, json bool) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if json {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.String(slog.TimeKey, a.Value.Time().Format("2006-01-02T15:04:05.000Z07:00"))
		}
		return a
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// Group runs actors that live and end together: when one returns, or the context ends,
// all others are cancelled, and Run waits for every one of them.
type Group struct{ actors []actor }

type actor struct {
	name string
	run  func(context.Context) error
}

// Add registers an actor. run must return soon after its context ends.
func (g *Group) Add(name string, run func(context.Context) error) {
	g.actors = append(g.actors, actor{name, run})
}

// Run starts all actors and blocks until all have returned. An actor that returns nil
// while the context lives ends the group too. The error names the actors that failed;
// an actor still running bound after the end is reported and left behind.
func (g *Group) Run(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		name string
		err  error
	}
	ends := make(chan end, len(g.actors)) // room for all: an actor left behind must not leak more
	for _, a := range g.actors {
		go func() { ends <- end{a.name, a.run(ctx)} }()
	}
	running := make(map[string]bool, len(g.actors))
	for _, a := range g.actors {
		running[a.name] = true
	}
	var errs []error
	var late <-chan time.Time
	done := ctx.Done()
	for len(running) > 0 {
		select {
		case e := <-ends:
			delete(running, e.name)
			if e.err != nil && !errors.Is(e.err, context.Canceled) {
				errs = append(errs, fmt.Errorf("%s: %w", e.name, e.err))
			}
			cancel()
		case <-done:
			done = nil
			t := time.NewTimer(bound)
			defer t.Stop()
			late = t.C
		case <-late:
			for name := range running {
				errs = append(errs, fmt.Errorf("%s: still running %s after the stop", name, bound))
			}
			return errors.Join(errs...)
		}
	}
	return errors.Join(errs...)
}

// Ready tells systemd that the process serves, with one line for `systemctl status`.
// Without systemd it does nothing.
func Ready(status string) { notify(sd.SdNotifyReady, status) }

// Reloading tells systemd that a reload began; Ready ends it.
func Reloading() { notify(sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec(), "") }

// Stopping tells systemd that the process is ending.
func Stopping() { notify(sd.SdNotifyStopping, "") }

// Status changes the line of `systemctl status`.
func Status(status string) { notify("", status) }

func notify(state, status string) {
	if status != "" {
		state = strings.TrimPrefix(state+"\nSTATUS="+status, "\n")
	}
	// Not being under systemd is no fault, and nobody could act on another.
	_, _ = sd.SdNotify(false, state)
}

// Watchdog feeds systemd's watchdog at half its interval for as long as alive answers
// true, until ctx ends. Without a watchdog it just waits for ctx.
func Watchdog(ctx context.Context, alive func() bool) error {
	every, err := sd.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if alive() {
				notify(sd.SdNotifyWatchdog, "")
			}
		}
	}
}

// WritePID writes the process id to path and gives back a function that removes it.
// With path "" both do nothing.
func WritePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d", os.Getpid()), 0o644); err != nil {
		return nil, fmt.Errorf("write pid file: %w", err)
	}
	var once sync.Once
	return func() { once.Do(func() { os.Remove(path) }) }, nil
}
