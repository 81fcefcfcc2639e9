package agent

import (
	"context"
	"fmt"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/checks"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/local"
)

// reload reads the configuration again and takes over what can change while running:
// log level, services and checks, node meta, limits. A fault in it changes nothing.
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
	if err := a.fromConfig(next); err != nil {
		return err
	}
	for _, w := range warnings {
		a.log.Warn("configuration", "warning", w)
	}
	merged := *a.cfg()
	merged.LogLevel, merged.NodeMeta, merged.Services, merged.Checks = next.LogLevel, next.NodeMeta, next.Services, next.Checks
	merged.Limits.MaxConnsPerClient = next.Limits.MaxConnsPerClient
	a.conf.Store(&merged)
	a.level.Set(level)
	a.syncer.Trigger()
	a.log.Info("configuration reloaded", "services", len(next.Services), "checks", len(next.Checks))
	return nil
}

// fromConfig replaces the services and checks that came from files.
func (a *Agent) fromConfig(cfg *config.Config) error {
	for _, s := range cfg.Services {
		for _, c := range s.AllChecks() {
			if err := supported(cfg, c, local.FromConfig); err != nil {
				return fmt.Errorf("service %q: %w", s.Name, err)
			}
		}
	}
	for _, c := range cfg.Checks {
		if err := supported(cfg, c, local.FromConfig); err != nil {
			return fmt.Errorf("check %q: %w", c.Name, err)
		}
	}
	return a.local.ReplaceConfig(cfg.Services, cfg.Checks)
}

// supported refuses a check that this agent cannot or may not run.
func supported(cfg *config.Config, c *api.CheckDefinition, src local.Source) error {
	if k := c.Kind(); (k == "script" || k == "docker") && !cfg.EnableScripts && !(cfg.EnableLocalScripts && src == local.FromConfig) {
		return api.Errorf(api.Invalid, "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true")
	}
	return checks.Supported(c)
}
