// Command templater renders files from a catalog and has nginx, or any program, follow.
// It takes the place of consul-template's Consul half; docs/templater.md tells how to
// use it. This file composes the rooms: watch → render → guard → apply, in run.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/internal/client"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/run"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

// Exit codes, as consul-template has them.
const (
	exitOther  = 11
	exitUsage  = 13
	exitRunner = 14
	exitConfig = 15
)

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }

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
	}
	cfg, warnings, err := in.Load()
	if err != nil {
		return fail(exitConfig, err)
	}
	p := &process{in: in, level: new(slog.LevelVar), stdout: stdout}
	level, err := daemon.Level(cfg.LogLevel)
	if err != nil {
		return fail(exitConfig, err)
	}
	p.level.Set(level)
	p.log = daemon.Logger(stderr, p.level, cfg.LogJSON)
	for _, w := range warnings {
		p.log.Warn("configuration", "warning", w)
	}
	removePID, err := daemon.WritePID(cfg.PIDFile)
	if err != nil {
		return fail(exitOther, err)
	}
	defer removePID()
	signals := make(chan os.Signal, 4) // a burst must not be lost
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	r, err := p.prepare(cfg)
	if err != nil {
		return fail(exitRunner, err)
	}
	if cfg.Once || cfg.Dry {
		if err := p.once(r, signals); err != nil {
			return fail(exitRunner, err)
		}
		return 0
	}
	if err := p.serve(r, signals); err != nil {
		return fail(exitOther, err)
	}
	return 0
}

// process is what lives through reloads.
type process struct {
	in     *config.Invocation
	level  *slog.LevelVar
	log    *slog.Logger
	stdout io.Writer
}

// running is one configuration with what runs for it.
type running struct {
	cfg    *config.Config
	pool   *watch.Pool
	runner *run.Runner
}

func (p *process) prepare(cfg *config.Config) (*running, error) {
	s := cfg.Consul.SSL
	c, err := client.New(client.Options{
		Address: cfg.Consul.Address, Token: cfg.Consul.Token, TokenFile: cfg.Consul.TokenFile, Auth: auth(cfg),
		TLS: s.Enabled, Insecure: s.Verify != nil && !*s.Verify, CAFile: s.CACert, CAPath: s.CAPath, Cert: s.Cert, Key: s.Key, TLSServerName: s.ServerName,
	})
	if err != nil {
		return nil, err
	}
	pool := watch.New(c, cfg.MaxStale, p.log)
	runner, err := run.New(cfg, pool, p.log)
	if err != nil {
		return nil, err
	}
	return &running{cfg, pool, runner}, nil
}

func auth(cfg *config.Config) string {
	a := cfg.Consul.Auth
	if a.Username == "" || a.Enabled != nil && !*a.Enabled {
		return ""
	}
	return a.Username + ":" + a.Password
}

// once renders and applies, and ends.
func (p *process) once(r *running, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case s := <-signals:
			cancel(fmt.Errorf("stopped by signal %s", s))
		case <-stop:
		}
	}()
	if r.cfg.Dry {
		return r.runner.Once(ctx, p.stdout)
	}
	if err := r.runner.Recover(); err != nil {
		return err
	}
	return r.runner.Once(ctx, nil)
}

// serve runs until a signal says stop. SIGHUP takes a new configuration, unless it is
// faulty: then the old one goes on.
func (p *process) serve(r *running, signals <-chan os.Signal) error {
	var current, l = r, net.Listener(nil)
	if addr := r.cfg.Listen; addr != "" {
		var err error
		if l, err = listen(addr); err != nil {
			return err
		}
		defer l.Close()
	}
	pages := &pages{}
	pages.set(current)
	if l != nil {
		srv := &http.Server{Handler: pages, ReadHeaderTimeout: 5 * time.Second}
		defer srv.Close()
		go srv.Serve(l) // ends with the listener
	}
	if err := current.runner.Recover(); err != nil {
		return err
	}
	for {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- current.runner.Run(ctx) }()
		watchdog := make(chan struct{})
		go func() { defer close(watchdog); daemon.Watchdog(ctx, current.runner.Alive) }()
		next, err := p.wait(ctx, current, signals, done)
		cancel()
		if next == nil {
			daemon.Stopping()
		}
		if err == nil {
			err = <-done
		}
		<-watchdog
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

// wait says ready when the files are, and returns on a signal: with the next
// configuration, or nil to stop.
func (p *process) wait(ctx context.Context, r *running, signals <-chan os.Signal, done <-chan error) (*running, error) {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for ready := false; ; {
		select {
		case err := <-done:
			return nil, errors.Join(err, errors.New("the loop ended by itself"))
		case <-look.C:
			if !ready && r.runner.Adopted() {
				ready = true
				look.Reset(time.Hour)
				daemon.Ready("nginx and files are up to date")
				p.log.Info("ready")
			}
		case s := <-signals:
			if s != syscall.SIGHUP {
				p.log.Info("stopping", "signal", s.String())
				return nil, nil
			}
			daemon.Reloading()
			next, err := p.reload()
			if err == nil {
				return next, nil
			}
			p.log.Error("reload refused; the old configuration stays", "err", err)
			daemon.Ready("the last reload was refused: " + err.Error())
		}
	}
}

func (p *process) reload() (*running, error) {
	cfg, warnings, err := p.in.Load()
	if err != nil {
		return nil, err
	}
	next, err := p.prepare(cfg)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		p.log.Warn("configuration", "warning", w)
	}
	if level, err := daemon.Level(cfg.LogLevel); err == nil {
		p.level.Set(level)
	}
	p.log.Info("configuration reloaded")
	return next, nil
}
