package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/local"
)

// reload reads the configuration again and takes over what can change while running. A
// fault in it changes nothing.
func (a *Agent) reload(ctx context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	daemon.Reloading()
	defer daemon.Ready("serving " + a.cfg().NodeName)
	next, warnings, err := a.opts.Load()
	if err != nil {
		return err
	}
	level, err := daemon.Level(next.LogLevel)
	if err != nil {
		return err
	}
	merged, restart := a.cfg().Reload(next)
	useCertificates, err := a.readCertificates(merged)
	if err != nil {
		return err
	}
	if err := a.fromConfig(merged); err != nil {
		return err
	}
	for _, w := range warnings {
		a.log.Warn("configuration", "warning", w)
	}
	if len(restart) > 0 {
		a.log.Warn("these changes wait for a restart", "keys", strings.Join(restart, " "))
	}
	useCertificates()
	a.local.DiscardOutput(merged.DiscardOutput)
	a.tokens.configure(merged)
	a.conf.Store(merged)
	a.level.Set(level)
	a.web.Apply(policy(merged))
	if a.remote != nil {
		a.remote.Limit(rpcLimits(merged))
	}
	a.watches.Replace(a.watchesOf(merged))
	a.metrics.Filter(merged.Telemetry.PrefixFilter)
	if a.raft != nil {
		if err := a.raft.Snapshots(merged.SnapshotThreshold, merged.SnapshotInterval, merged.TrailingLogs); err != nil {
			a.log.Warn("not taken over", "err", err)
		}
	}
	if a.names != nil {
		a.names.Reload(a.dnsConfig(merged))
	}
	if merged.Server {
		if err := a.pool.SetTags(a.tags(merged)); err != nil {
			a.log.Warn("the others are not told of the new settings", "err", err)
		}
	}
	a.syncer.Trigger()
	a.log.Info("configuration reloaded", "services", len(merged.Services), "checks", len(merged.Checks))
	return nil
}

// fromConfig replaces the services and checks that came from files.
func (a *Agent) fromConfig(cfg *config.Config) error {
	for _, s := range cfg.Services {
		for _, c := range s.AllChecks() {
			if err := allowed(cfg, c, local.FromConfig); err != nil {
				return fmt.Errorf("service %q: %w", s.Name, err)
			}
		}
	}
	for _, c := range cfg.Checks {
		if err := allowed(cfg, c, local.FromConfig); err != nil {
			return fmt.Errorf("check %q: %w", c.Name, err)
		}
	}
	return a.local.ReplaceConfig(cfg.Services, cfg.Checks)
}
