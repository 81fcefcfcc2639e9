package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/templater/internal/child"
	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/view"
)

// serve runs until a signal says stop, or what is run beside ends. SIGHUP takes a new
// configuration, unless it is faulty: then the old one goes on.
func (p *process) serve(r *running, signals <-chan os.Signal) error {
	current, pages := r, &pages{}
	pages.set(current)
	if addr := r.cfg.Listen; addr != "" {
		l, err := listen(addr)
		if err != nil {
			return err
		}
		defer l.Close()
		srv := &http.Server{Handler: pages, ReadHeaderTimeout: 5 * time.Second}
		defer srv.Close()
		go srv.Serve(l) // ends with the listener
	}
	if err := current.runner.Recover(); err != nil {
		return err
	}
	beside := &beside{p: p}
	defer beside.stop()
	for {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- current.runner.Run(ctx) }()
		announced := make(chan struct{})
		go func(r *running) { defer close(announced); p.announce(ctx, r) }(current)
		watchdog := make(chan struct{})
		go func() { defer close(watchdog); daemon.Watchdog(ctx, current.runner.Alive) }()
		next, ended, err := p.wait(current, signals, done, beside)
		cancel()
		if next == nil {
			daemon.Stopping()
		}
		if !ended {
			err = errors.Join(err, <-done)
		}
		<-watchdog
		<-announced
		if next == nil || err != nil {
			return err
		}
		current = next
		pages.set(current)
	}
}

func listen(addr string) (net.Listener, error) {
	network, at := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		network, at = "unix", path
	}
	l, err := net.Listen(network, at)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen: %s is in use by another process: choose another address (-listen)", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// wait says ready when the files are, and returns with the next configuration, or nil to
// stop. ended tells that the loop has ended, by itself.
func (p *process) wait(r *running, signals <-chan os.Signal, done <-chan error, b *beside) (next *running, ended bool, err error) {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for ready := false; ; {
		select {
		case err := <-done:
			return nil, true, errors.Join(err, errors.New("the loop ended by itself"))
		case err := <-b.done:
			b.cancel() // it has ended: there is nothing to wait for
			b.cancel = nil
			return nil, false, err
		case <-look.C:
			if !ready && r.runner.Adopted() {
				ready = true
				look.Reset(time.Hour)
				daemon.Ready("nginx and files are up to date")
				debug.FreeOSMemory() // to start takes several times what to run does
				p.log.Info("ready")
				b.start(r.cfg)
			}
		case <-r.runner.Live():
			b.tell()
		case s := <-signals:
			switch {
			case is(s, r.cfg.ReloadSignal, syscall.SIGHUP):
				if next := p.reload(); next != nil {
					return next, false, nil
				}
			case s == syscall.SIGTERM:
				p.log.Info("stopping", "signal", s.String())
				return nil, false, nil
			case is(s, r.cfg.KillSignal, syscall.SIGINT):
				p.log.Info("stopping", "signal", s.String())
				return nil, false, errInterrupted
			case b.pass(s):
			case s == syscall.SIGUSR1:
				fmt.Fprint(os.Stderr, view.Status(r.source().Report(), time.Now()))
			}
		}
	}
}

// is reports whether a signal is the configured one, or the default where none is.
func is(s os.Signal, configured *config.Signal, otherwise syscall.Signal) bool {
	if configured != nil {
		return *configured != 0 && s == syscall.Signal(*configured)
	}
	return s == otherwise
}

// reload reads the configuration again; nil where it is faulty.
func (p *process) reload() *running {
	daemon.Reloading()
	cfg, warnings, err := p.in.Load()
	var next *running
	if err == nil {
		next, err = p.prepare(cfg)
	}
	if err != nil {
		p.log.Error("reload refused; the old configuration stays", "err", err)
		daemon.Ready("the last reload was refused: " + err.Error())
		return nil
	}
	for _, w := range warnings {
		p.log.Warn("configuration", "warning", w)
	}
	if level, err := daemon.Level(cfg.LogLevel); err == nil {
		p.level.Set(level)
	}
	p.log.Info("configuration reloaded")
	return next
}

// beside is the program of exec mode. It lives through reloads of the configuration that
// leave its command as it is.
type beside struct {
	p       *process
	cfg     config.Exec
	cancel  context.CancelFunc // nil while nothing runs
	changes chan struct{}
	signals chan os.Signal
	done    chan error // nil while nothing runs
}

// start starts the program, if there is one, or another one than before. It finds the
// catalog's settings in its environment.
func (b *beside) start(whole *config.Config) {
	cfg := whole.Exec
	cfg.Env = cfg.Env.With(whole.Consul.Environ())
	if b.done != nil && reflect.DeepEqual(b.cfg, cfg) {
		return
	}
	b.stop()
	if cfg.Command.Empty() || cfg.Enabled != nil && !*cfg.Enabled {
		return
	}
	argv := cfg.Command.Argv
	if words := cfg.Command.Shell; words != "" {
		argv = []string{words}
		if strings.ContainsAny(words, " \t\n") {
			argv = []string{"/bin/sh", "-c", words}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cfg, b.cancel = cfg, cancel
	b.changes, b.signals, b.done = make(chan struct{}, 1), make(chan os.Signal, 8), make(chan error, 1)
	b.tell()
	own := child.Config{
		Argv: argv, Environ: cfg.Env.Of(os.Environ()), ReloadSignal: syscall.Signal(cfg.ReloadSignal),
		KillSignal: syscall.Signal(cfg.KillSignal), KillTimeout: cfg.KillTimeout, Splay: cfg.Splay,
	}
	go func(changes <-chan struct{}, signals <-chan os.Signal, done chan<- error) {
		done <- child.Run(ctx, own, changes, signals, b.p.log)
	}(b.changes, b.signals, b.done)
}

// seeThrough runs the program of exec mode, if there is one, to its end: -once does.
func (p *process) seeThrough(cfg *config.Config, signals <-chan os.Signal) error {
	b := &beside{p: p}
	defer b.stop()
	b.start(cfg)
	for b.done != nil {
		select {
		case err := <-b.done:
			b.cancel()
			b.cancel = nil
			return err
		case s := <-signals:
			switch s {
			case syscall.SIGTERM:
				return nil
			case syscall.SIGINT:
				return errInterrupted
			}
			b.pass(s)
		}
	}
	return nil
}

// tell tells the program of a change; several that it has not yet heard of are one.
func (b *beside) tell() {
	if b.changes == nil {
		return
	}
	select {
	case b.changes <- struct{}{}:
	default:
	}
}

// pass hands a signal on. It reports whether there is somebody to get it.
func (b *beside) pass(s os.Signal) bool {
	if b.done == nil {
		return false
	}
	select {
	case b.signals <- s:
	default:
	}
	return true
}

// stop ends the program and waits until it has.
func (b *beside) stop() {
	if b.cancel == nil {
		return
	}
	b.cancel()
	<-b.done
	b.cancel, b.done, b.changes = nil, nil, nil
}
