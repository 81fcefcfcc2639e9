// Command registrator keeps a catalog of services equal to the containers that run on a
// Docker engine. It takes the place of gliderlabs/registrator; docs/registrator.md tells
// how to use it. This file composes the rooms: watcher → reconcile (with mapping) →
// catalog, and status beside them.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/internal/delay"
	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/config"
	"github.com/rollcall/rollcall/registrator/internal/credentials"
	"github.com/rollcall/rollcall/registrator/internal/lock"
	"github.com/rollcall/rollcall/registrator/internal/reconcile"
	"github.com/rollcall/rollcall/registrator/internal/status"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// Exit codes.
const (
	exitOK      = 0
	exitFault   = 1
	exitUsage   = 2 // the command line or a REGISTRATOR_ variable is wrong
	exitDiffers = 3 // plan, -dry-run: something would be written
)

func main() {
	code, err := run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "registrator:", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	os.Exit(code)
}

func run(args, environ []string, out, logs io.Writer) (int, error) {
	cfg, err := config.Parse(args, environ)
	switch {
	case err != nil:
		return exitUsage, err
	case cfg.Help:
		config.Usage(out)
		return exitOK, nil
	case cfg.Version:
		fmt.Fprintln(out, buildinfo.String("registrator"))
		return exitOK, nil
	}
	if cfg.Check {
		if err := healthcheck(cfg, environ); err != nil {
			return exitFault, err
		}
		return exitOK, nil
	}
	var level slog.LevelVar
	l, err := daemon.Level(cfg.LogLevel)
	if err != nil {
		return exitFault, err
	}
	level.Set(l)
	log := daemon.Logger(logs, &level, cfg.LogJSON)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // it holds little and runs beside what matters
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wishes := make(chan os.Signal, 2) // one of each kind may wait; from here on they end nothing
	signal.Notify(wishes, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(wishes)
	p, err := build(cfg, log)
	if err != nil {
		return exitFault, err
	}
	defer p.engine.Close()
	if err := p.firstContact(ctx, cfg); err != nil {
		if ctx.Err() != nil {
			return exitOK, nil
		}
		return exitFault, err
	}
	if cfg.Plan || cfg.DryRun || cfg.Once {
		return p.once(ctx, cfg, out)
	}
	return p.serve(ctx, cfg, wishes)
}

// program is the registrator's parts. The reconciler is made when the engine has said
// who it is: ids and marks are made of that.
type program struct {
	log       *slog.Logger
	metrics   *prometheus.Registry
	engine    *docker.Client
	watcher   *watcher.Watcher
	client    *consul.Client
	catalog   reconcile.Consul
	reconcile *reconcile.Reconciler
}

func build(cfg *config.Config, log *slog.Logger) (*program, error) {
	cc, err := config.Catalog(cfg.URI)
	if err != nil {
		return nil, err
	}
	if err := credentials.Follow(cc, log); err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.URI, err)
	}
	client, err := consul.NewClient(cc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.URI, err)
	}
	engine, err := docker.New(docker.Options{Host: cfg.Docker, Raw: cfg.Mapping.Tags.NeedsRaw()})
	if err != nil {
		return nil, err
	}
	p := &program{log: log, metrics: prometheus.NewRegistry(), engine: engine, client: client, catalog: reconcile.NewConsul(client)}
	p.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.watcher = watcher.New(watcher.Config{Resync: cfg.Resync, DrainMax: cfg.DrainMax, Exits: cfg.Exits, LostAfter: cfg.DockerLost}, engine, log, p.metrics)
	return p, nil
}

// firstContact waits for the engine, without end, and for the catalog as -retry-attempts
// says, and makes the reconciler.
func (p *program) firstContact(ctx context.Context, cfg *config.Config) error {
	info, err := p.meet(ctx, cfg.Plan || cfg.DryRun || cfg.Once)
	if err != nil {
		return err
	}
	rc := cfg.Reconcile
	rc.Mapping = cfg.Mapping
	rc.Mapping.Host, rc.Mapping.Owner = cfg.Host, cfg.Owner
	if rc.Mapping.Host == "" {
		rc.Mapping.Host = info.Name
	}
	if rc.Mapping.Owner == "" {
		rc.Mapping.Owner = info.ID
	}
	if cfg.Lock != "" && !cfg.Once && !cfg.DryRun && !cfg.Plan {
		rc.Standby = "the lock " + cfg.Lock + " has to be taken first"
	}
	p.reconcile = reconcile.New(rc, p.catalog, p.log, p.metrics)
	p.log.Info("starting", "version", buildinfo.Version, "catalog", cfg.URI, "docker", p.engine.Host(), "host", rc.Mapping.Host, "owner", rc.Mapping.Owner)
	if cfg.RetryAttempts < 0 {
		return nil
	}
	for attempt := 0; ; attempt++ {
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := p.catalog.Hash(within, "")
		cancel()
		if err == nil || p.catalog.IsAnswer(err) {
			return nil
		}
		if attempt >= cfg.RetryAttempts {
			return fmt.Errorf("catalog %s: %w (%d retries; -retry-attempts=-1 waits for ever)", cfg.URI, err, attempt)
		}
		if !delay.For(ctx, cfg.RetryInterval) {
			return context.Cause(ctx)
		}
	}
}

// meet asks the engine who it is until it answers, or once.
func (p *program) meet(ctx context.Context, once bool) (docker.Info, error) {
	wait, told := 100*time.Millisecond, false
	for {
		info, err := p.engine.Info(ctx)
		if err == nil || once {
			return info, err
		}
		if !told {
			p.log.Warn("engine away; it is tried again until it answers", "docker", p.engine.Host(), "err", err)
			told = true
		}
		if !delay.For(ctx, wait) {
			return docker.Info{}, context.Cause(ctx)
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// once makes the catalog right, or says what would be written.
func (p *program) once(ctx context.Context, cfg *config.Config, out io.Writer) (int, error) {
	set, err := p.watcher.Once(ctx)
	if err != nil {
		return exitFault, err
	}
	if !cfg.Plan && !cfg.DryRun {
		if err := p.reconcile.Once(ctx, set); err != nil {
			return exitFault, err
		}
		return exitOK, nil
	}
	plan, err := p.reconcile.Plan(ctx, set)
	if err != nil {
		return exitFault, err
	}
	code := exitOK
	if slices.ContainsFunc(plan, reconcile.Step.Writes) {
		code = exitDiffers
	}
	if !cfg.Plan {
		plan = slices.DeleteFunc(plan, func(s reconcile.Step) bool { return !s.Writes() })
	}
	return code, show(out, plan, cfg)
}

// show prints a plan: the command's as a table, a dry run's as lines for scripts, both
// as JSON where that was asked for.
func show(out io.Writer, plan []reconcile.Step, cfg *config.Config) error {
	switch {
	case cfg.JSON:
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(plan)
	case cfg.Plan:
		return reconcile.WriteTable(out, plan)
	}
	for _, s := range plan {
		if _, err := fmt.Fprintln(out, strings.Join(slices.DeleteFunc([]string{s.Op, s.ID, s.Service, s.Address}, func(f string) bool { return f == "" }), " ")+": "+s.Why); err != nil {
			return err
		}
	}
	return nil
}

// serve runs all parts until a signal.
func (p *program) serve(ctx context.Context, cfg *config.Config, wishes <-chan os.Signal) (int, error) {
	sets := make(chan watcher.Set)
	var g daemon.Group
	g.Add("watcher", func(ctx context.Context) error { return p.watcher.Run(ctx, sets) })
	reconciled := make(chan struct{})
	g.Add("reconcile", func(ctx context.Context) error { defer close(reconciled); return p.reconcile.Run(ctx, sets) })
	if cfg.Lock != "" {
		l := lock.New(lock.Config{Key: cfg.Lock, Name: holder(cfg)}, lock.NewConsul(p.client), p.log)
		g.Add("lock", func(ctx context.Context) error {
			return l.Run(ctx, func(by string) { _ = p.reconcile.Stand(ctx, by) }, reconciled) // it fails when ctx ends; then nobody stands
		})
	}
	if cfg.Announce {
		g.Add("announce", p.announce)
	}
	g.Add("signals", func(ctx context.Context) error { return p.signals(ctx, wishes) })
	g.Add("watchdog", func(ctx context.Context) error { return daemon.Watchdog(ctx, func() bool { return true }) })
	if cfg.Listen != "" {
		l, err := net.Listen("tcp", cfg.Listen)
		switch {
		case err == nil:
			p.log.Info("status pages", "url", "http://"+l.Addr().String()+"/containers")
			s := status.New(p.watcher, p.reconcile, p.metrics, p.log)
			g.Add("status", func(ctx context.Context) error { return s.Run(ctx, l) })
		case cfg.ListenSet:
			return exitFault, fmt.Errorf("-listen=%s: %w; choose another address, or off", cfg.Listen, err)
		default:
			p.log.Warn("no status pages: the default address is in use; choose another with -listen", "listen", cfg.Listen, "err", err)
		}
	}
	daemon.Ready("registering containers")
	err := g.Run(ctx, 5*time.Second)
	daemon.Stopping()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return exitFault, err
	}
	p.log.Info("stopped")
	return exitOK, nil
}

// holder names this registrator to those that wait for the lock.
func holder(cfg *config.Config) string {
	name, err := os.Hostname()
	if err != nil {
		name = cfg.Host
	}
	return fmt.Sprintf("%s, process %d", name, os.Getpid())
}

// signals looks at everything again at SIGHUP, and drains all containers at SIGUSR1.
func (p *program) signals(ctx context.Context, wishes <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-wishes:
			var err error
			if s == syscall.SIGHUP {
				p.log.Info("looking at everything again")
				err = errors.Join(p.watcher.Refresh(ctx), p.reconcile.Refresh(ctx))
			} else {
				var ids []string
				ids, err = p.watcher.Drain(ctx, "", true)
				p.log.Info("draining everything", "containers", len(ids))
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}
