// Package agent is the composition root: it turns a configuration into a running agent,
// server or client, and back. It opens every listener and store, hands them to the
// rooms, runs the rooms as one group, and carries out signals. What it decides itself
// is small: addresses, identity, when to join and how to leave.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/antientropy"
	"github.com/rollcall/rollcall/server/internal/certificate"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/dnsserver"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/event"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/httpapi"
	"github.com/rollcall/rollcall/server/internal/local"
	"github.com/rollcall/rollcall/server/internal/logging"
	"github.com/rollcall/rollcall/server/internal/rpc"
	"github.com/rollcall/rollcall/server/internal/store"
	"github.com/rollcall/rollcall/server/internal/telemetry"
	"github.com/rollcall/rollcall/server/internal/watchplan"
)

// Options are how an agent is started.
type Options struct {
	// Load reads the configuration: at the start, and again at each reload.
	Load func() (*config.Config, []string, error)
	// Files are the configuration files and directories that Load reads, to be watched.
	Files []string
	// Stdout takes the banner, Stderr the log.
	Stdout, Stderr io.Writer
}

// Agent is one running agent.
type Agent struct {
	opts    Options
	conf    atomic.Pointer[config.Config] // replaced by a reload
	names   *dnsserver.Server             // nil without a DNS door
	web     *httpapi.Server
	watches *watchplan.Set
	certs   *certificate.Keeper // of HTTPS; nil without it
	peers   *certificate.Peers  // of what goes between agents
	logs    *logging.Log
	metrics *telemetry.Telemetry

	checkTLS atomic.Pointer[tls.Config] // what checks use; replaced by a reload

	level   *slog.LevelVar
	log     *slog.Logger
	id      string
	addr    addresses
	started time.Time

	pool     *gossip.Pool
	wan      *gossip.Pool // between datacenters; nil on clients and where it is off
	events   *event.Log
	asked    chan []byte // commands that others ask for; nil where none are taken
	endpoint endpoint.Endpoint
	dial     rpc.Dial // of servers
	rpcs     *rpc.Pool
	remote   *rpc.Remote // a client agent's way to servers, nil on a server
	local    *local.State
	syncer   *antientropy.Syncer
	tokens   *tokens
	resolver *endpoint.Resolver

	// On servers only, else nil.
	store *store.Store
	raft  *consensus.Raft
	calls *rpc.Server

	farMu sync.Mutex
	far   map[string]*rpc.Remote // guarded by farMu; by datacenter

	reloading sync.Mutex
	leaveOnce sync.Once
	leaving   chan struct{} // closed when a leave begins
	left      chan struct{} // closed when the leave is done

	closers []func() error // in the order of opening
}

// leaveBound is how long a graceful leave may take, as Consul bounds it.
const leaveBound = 15 * time.Second

// ErrStopped is what Run gives when a signal ended the agent without a graceful leave;
// Consul exits with 1 then.
var ErrStopped = errors.New("stopped by a signal, without leaving the cluster")

// Run starts an agent and blocks until it ends: by ctx, by a signal, by a leave over
// HTTP (nil), or by a fault. What it opened is closed then.
func Run(ctx context.Context, opts Options) error {
	cfg, warnings, err := opts.Load()
	if err != nil {
		return err
	}
	a := &Agent{
		opts: opts, level: new(slog.LevelVar), started: time.Now(),
		leaving: make(chan struct{}), left: make(chan struct{}),
	}
	a.conf.Store(cfg)
	if err := a.openLog(cfg); err != nil {
		return err
	}
	defer a.logs.Close()
	for _, w := range warnings {
		a.log.Warn("configuration", "warning", w)
	}
	removePID, err := daemon.WritePID(cfg.PIDFile)
	if err != nil {
		return err
	}
	defer removePID()
	defer a.close()

	group, err := a.open(ctx)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 4) // a burst must not be lost while one is carried out
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE)

	var stopped error
	group.Add("signals", func(ctx context.Context) error {
		stopped = a.signals(ctx, signals)
		return nil
	})
	group.Add("watchdog", func(ctx context.Context) error {
		return daemon.Watchdog(ctx, func() bool { return true })
	})
	a.banner()
	err = group.Run(ctx, 10*time.Second)
	daemon.Stopping()
	return errors.Join(err, stopped)
}

func (a *Agent) cfg() *config.Config { return a.conf.Load() }

// close closes what was opened, the last first.
func (a *Agent) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		if err := a.closers[i](); err != nil {
			a.log.Warn("close", "err", err)
		}
	}
}

func (a *Agent) onClose(f func() error) { a.closers = append(a.closers, f) }

// signals carries out signals and a leave asked for over HTTP; when it returns the
// agent ends.
func (a *Agent) signals(ctx context.Context, got <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.left:
			return nil
		case s := <-got:
			cfg := a.cfg()
			if s == syscall.SIGHUP {
				if err := a.reload(ctx); err != nil {
					a.log.Error("reload refused; the old configuration stays", "err", err)
				}
				continue
			}
			graceful := s == syscall.SIGINT && !*cfg.SkipLeaveOnInt || s == syscall.SIGTERM && *cfg.LeaveOnTerm
			a.log.Info("signal", "signal", s.String(), "leave", graceful)
			if !graceful {
				return ErrStopped
			}
			go a.leave()
			bound := time.NewTimer(leaveBound)
			defer bound.Stop()
			select {
			case <-a.left:
				return nil
			case <-got: // a second signal ends it at once
				return ErrStopped
			case <-bound.C:
				return fmt.Errorf("leave not done within %s", leaveBound)
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// leave takes this agent out of the cluster: a leader hands leadership on, then gossip
// tells the others. left closes when it is done. It runs once.
func (a *Agent) leave() {
	a.leaveOnce.Do(func() {
		close(a.leaving)
		defer close(a.left)
		a.log.Info("leaving the cluster")
		if a.raft != nil && a.raft.IsLeader() {
			if rows, _, err := a.raft.Servers(); err == nil && len(rows) > 1 {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				if err := a.raft.TransferLeadership(ctx); err != nil {
					a.log.Warn("leadership not handed on", "err", err)
				}
				cancel()
			}
		}
		if a.wan != nil {
			if err := a.wan.Leave(); err != nil {
				a.log.Warn("other datacenters may not know that this server left", "err", err)
			}
		}
		if err := a.pool.Leave(); err != nil {
			a.log.Warn("the others may not know that this agent left", "err", err)
		}
		if a.raft != nil {
			a.awaitRemoval()
		}
	})
}

// awaitRemoval gives the leader a moment to take this server out of the Raft
// configuration, so that it cannot disturb elections.
func (a *Agent) awaitRemoval() {
	deadline := time.NewTimer(a.cfg().Performance.LeaveDrainTime)
	defer deadline.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		rows, _, err := a.raft.Servers()
		if err != nil || len(rows) <= 1 {
			return
		}
		in := false
		for _, r := range rows {
			in = in || r.ID == a.id
		}
		if !in {
			return
		}
		select {
		case <-deadline.C:
			return
		case <-look.C:
		}
	}
}

// banner tells a person at the terminal what was started.
func (a *Agent) banner() {
	cfg := a.cfg()
	mode := "client"
	if cfg.Server {
		mode = "server"
	}
	fmt.Fprintf(a.opts.Stdout, `==> Rollcall agent running!
            Version: %s (speaks Consul %s)
            Node ID: %s
          Node name: %s
         Datacenter: %s
               Mode: %s (bootstrap: %t, expect: %d)
       Client addrs: %v (HTTP: %d, DNS: %d)
       Cluster addr: %s (LAN: %d, server: %d)

`, buildinfo.Version, buildinfo.Compat, a.id, cfg.NodeName, cfg.Datacenter, mode, cfg.Bootstrap, cfg.BootstrapExpect,
		a.addr.http, cfg.Ports.HTTP, cfg.Ports.DNS, a.addr.advertise, cfg.Ports.SerfLAN, cfg.Ports.Server)
}
