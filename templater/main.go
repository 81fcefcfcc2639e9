// Command templater renders files from a catalog and has nginx, or any program, follow.
// It takes the place of consul-template's Consul half; docs/templater.md tells how to
// use it. This file reads the command line; process.go composes the rooms: watch →
// render → guard → apply, in run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/templater/internal/child"
	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/run"
)

// Exit codes, as consul-template has them.
const (
	exitOther     = 11
	exitInterrupt = 12
	exitUsage     = 13
	exitRunner    = 14
	exitConfig    = 15
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // it lives beside nginx: memory counts for more than a little time
	}
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute carries out a command line and gives the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintln(stderr, "templater: "+strings.ReplaceAll(err.Error(), "\n", "; "))
		return code
	}
	in, err := config.ParseFlags(args)
	switch {
	case errors.Is(err, config.ErrHelp):
		config.Help(stdout)
		return 0
	case err != nil:
		return fail(exitUsage, err)
	case in.Version:
		fmt.Fprintln(stdout, buildinfo.String("Templater"))
		return 0
	case in.Command == "status" || in.Command == "watch":
		return look(in, stdout, fail)
	}
	cfg, warnings, err := in.Load()
	if err != nil {
		return fail(exitConfig, err)
	}
	p := &process{in: in, stdout: stdout}
	closeLog, err := p.openLog(cfg, stderr)
	if err != nil {
		return fail(exitConfig, err)
	}
	defer closeLog()
	for _, w := range warnings {
		p.log.Warn("configuration", "warning", w)
	}
	signals := make(chan os.Signal, 8) // a burst must not be lost
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGUSR1)
	defer signal.Stop(signals)
	r, err := p.prepare(cfg)
	if err != nil {
		return fail(exitRunner, err)
	}
	if command := p.commands(in); command != nil {
		ctx, cancel := p.until(signals)
		defer cancel()
		return command(ctx, r, fail)
	}
	if cfg.ParseOnly {
		return 0
	}
	if !cfg.Dry {
		removePID, err := daemon.WritePID(cfg.PIDFile)
		switch {
		case err != nil && cfg.Once:
			return fail(exitRunner, err)
		case err != nil:
			return fail(exitOther, err)
		}
		defer removePID()
	}
	if cfg.Once || cfg.Dry {
		ctx, cancel := p.until(signals)
		defer cancel()
		if err := p.once(ctx, r); err != nil {
			return fail(code(ctx, exitRunner), err)
		}
		if cfg.Dry {
			return 0
		}
		cancel() // signals are for what runs beside from now on
		return exitOf(p.seeThrough(cfg, signals), fail)
	}
	if cfg.ReloadSignal != nil || cfg.KillSignal != nil || !cfg.Exec.Command.Empty() {
		signal.Notify(signals, p.extra(cfg)...)
	}
	return exitOf(p.serve(r, signals), fail)
}

// errInterrupted is a stop by the kill signal, which consul-template tells from others.
var errInterrupted = errors.New("interrupted")

// exitOf gives the code for how the service ended.
func exitOf(err error, fail func(int, error) int) int {
	var ended *child.Exit
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errInterrupted):
		return exitInterrupt
	case errors.As(err, &ended):
		return ended.Code
	case errors.Is(err, run.ErrCatalogLost), errors.Is(err, run.ErrLookup):
		return fail(exitRunner, err)
	}
	return fail(exitOther, err)
}

// until ends with the first signal that stops.
func (p *process) until(signals <-chan os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() {
		select {
		case s := <-signals:
			why := fmt.Errorf("stopped by signal %s", s)
			if s == syscall.SIGINT {
				why = fmt.Errorf("%w by signal %s", errInterrupted, s)
			}
			cancel(why)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// code is that of a failure, unless a signal was the reason.
func code(ctx context.Context, otherwise int) int {
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return exitInterrupt
	}
	return otherwise
}
