package agent

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/server/internal/local"
)

// door is the agent as the HTTP API sees it.
type door struct{ a *Agent }

// Self says who this agent is.
func (d door) Self(context.Context) (*api.Self, error) {
	cfg := d.a.cfg()
	return &api.Self{
		Config: map[string]any{
			"Datacenter": cfg.Datacenter, "PrimaryDatacenter": cfg.PrimaryDC, "NodeName": cfg.NodeName, "NodeID": d.a.id,
			"Revision": buildinfo.Revision, "Server": cfg.Server, "Version": buildinfo.Compat, "BuildDate": buildinfo.Date,
		},
		DebugConfig: d.debugConfig(),
		Member:      d.a.pool.Local(),
		Stats:       d.stats(),
		Meta:        meta(cfg.NodeMeta),
	}, nil
}

func meta(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (d door) debugConfig() map[string]any {
	cfg := d.a.cfg()
	return map[string]any{
		"AdvertiseAddrLAN": d.a.addr.advertise, "BindAddr": d.a.addr.bind, "Bootstrap": cfg.Bootstrap, "BootstrapExpect": cfg.BootstrapExpect,
		"ClientAddrs": d.a.addr.http, "DNSDomain": cfg.Domain, "DNSPort": cfg.Ports.DNS, "DataDir": cfg.DataDir, "Datacenter": cfg.Datacenter,
		"DevMode": cfg.Dev, "EnableDebug": cfg.EnableDebug, "HTTPPort": cfg.Ports.HTTP, "LeaveOnTerm": *cfg.LeaveOnTerm, "LogLevel": strings.ToUpper(cfg.LogLevel),
		"NodeID": d.a.id, "NodeMeta": meta(cfg.NodeMeta), "NodeName": cfg.NodeName, "SerfPortLAN": cfg.Ports.SerfLAN,
		"SerfAdvertiseAddrLAN": "tcp://" + net.JoinHostPort(d.a.addr.advertise, strconv.Itoa(cfg.Ports.SerfLAN)),
		"SerfBindAddrLAN":      "tcp://" + net.JoinHostPort(d.a.addr.serf, strconv.Itoa(cfg.Ports.SerfLAN)),
		"RPCAdvertiseAddr":     "tcp://" + net.JoinHostPort(d.a.addr.advertise, strconv.Itoa(cfg.Ports.Server)), "ServerMode": cfg.Server,
		"ServerPort": cfg.Ports.Server, "SessionTTLMin": "0s", "SkipLeaveOnInt": *cfg.SkipLeaveOnInt, "UIConfig": map[string]any{"Enabled": cfg.UI},
		"RetryJoinLAN": cfg.RetryJoin, "StartJoinAddrsLAN": cfg.StartJoin, "Version": buildinfo.Compat, "Revision": buildinfo.Revision,
	}
}

// stats gives the sections that `info` prints.
func (d door) stats() map[string]map[string]string {
	a := d.a
	all := a.local.Checks()
	ttls, monitors := 0, 0
	for _, r := range a.local.Runnables() {
		if r.Def.Kind() == "ttl" {
			ttls++
		} else {
			monitors++
		}
	}
	out := map[string]map[string]string{
		"agent": {
			"check_monitors": strconv.Itoa(monitors), "check_ttls": strconv.Itoa(ttls),
			"checks": strconv.Itoa(len(all)), "services": strconv.Itoa(len(a.local.Services())),
		},
		"build": {"prerelease": "", "revision": short(buildinfo.Revision), "version": buildinfo.Compat, "version_metadata": "", "rollcall": buildinfo.Version},
		"runtime": {
			"arch": runtime.GOARCH, "cpu_count": strconv.Itoa(runtime.NumCPU()), "goroutines": strconv.Itoa(runtime.NumGoroutine()),
			"max_procs": strconv.Itoa(runtime.GOMAXPROCS(0)), "os": runtime.GOOS, "version": runtime.Version(),
		},
		"serf_lan": a.pool.Stats(),
	}
	if a.raft == nil {
		out["consul"] = map[string]string{"acl": "disabled", "known_servers": strconv.Itoa(len(a.servers())), "server": "false"}
		return out
	}
	_, addr := a.raft.Leader()
	out["consul"] = map[string]string{
		"acl": "disabled", "bootstrap": strconv.FormatBool(a.cfg().Bootstrap), "known_datacenters": "1",
		"leader": strconv.FormatBool(a.raft.IsLeader()), "leader_addr": addr, "server": "true",
	}
	out["raft"] = a.raft.Stats()
	return out
}

// Members lists the gossip pool. There is no WAN pool yet, so that one has this
// datacenter's servers.
func (d door) Members(wan bool) ([]api.Member, error) {
	all := d.a.pool.Members()
	if !wan {
		return all, nil
	}
	out := []api.Member{}
	for _, m := range all {
		if m.Tags["role"] == "consul" {
			m.Name += "." + d.a.cfg().Datacenter
			out = append(out, m)
		}
	}
	return out, nil
}

// Join joins the agent at addr.
func (d door) Join(ctx context.Context, addr string, wan bool) error {
	if wan {
		return api.Errorf(api.Internal, "joining another datacenter is not built yet")
	}
	n, err := d.a.pool.Join(ctx, []string{addr})
	if n == 0 && err != nil {
		return fmt.Errorf("join %s: %w", addr, err)
	}
	return nil
}

// Leave begins a graceful leave; the agent ends after it.
func (d door) Leave(ctx context.Context) error {
	go d.a.leave()
	select {
	case <-d.a.leaving:
	case <-ctx.Done():
	}
	return nil
}

// ForceLeave declares a failed member to have left.
func (d door) ForceLeave(node string, prune, wan bool) error {
	if wan {
		node = strings.TrimSuffix(node, "."+d.a.cfg().Datacenter)
	}
	return d.a.pool.ForceLeave(node, prune)
}

// Reload reads the configuration again.
func (d door) Reload(ctx context.Context) error { return d.a.reload(ctx) }

// Services gives this agent's services by id.
func (d door) Services() map[string]*api.Service { return d.a.local.Services() }

// Checks gives this agent's checks by id.
func (d door) Checks() map[string]*api.Check { return d.a.local.Checks() }

// RegisterService adds or replaces a service and its checks.
func (d door) RegisterService(ctx context.Context, def *api.ServiceDefinition, replaceChecks bool) error {
	if err := def.Validate(); err != nil { // before supported, which knows kinds only
		return err
	}
	for _, c := range def.AllChecks() {
		if err := supported(d.a.cfg(), c, local.FromAPI); err != nil {
			return err
		}
	}
	return d.synced(ctx, d.a.local.AddService(def, local.FromAPI, replaceChecks))
}

// synced waits until the catalog has a change, unless err says there was none. A catalog
// that cannot be reached is not the caller's fault: the change is kept and sent later.
func (d door) synced(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	if err := d.a.syncer.Sync(ctx); err != nil && ctx.Err() == nil {
		d.a.log.Warn("the catalog does not have a change yet; it is sent again", "err", err)
	}
	return nil
}

// DeregisterService removes a service and its checks.
func (d door) DeregisterService(ctx context.Context, id string) error {
	return d.synced(ctx, d.a.local.RemoveService(id))
}

// RegisterCheck adds or replaces a check.
func (d door) RegisterCheck(ctx context.Context, def *api.CheckDefinition) error {
	if err := def.Validate(); err != nil {
		return err
	}
	if err := supported(d.a.cfg(), def, local.FromAPI); err != nil {
		return err
	}
	return d.synced(ctx, d.a.local.AddCheck(def, local.FromAPI))
}

// DeregisterCheck removes a check.
func (d door) DeregisterCheck(ctx context.Context, id string) error {
	return d.synced(ctx, d.a.local.RemoveCheck(id))
}

// UpdateTTL takes the report on a TTL check.
func (d door) UpdateTTL(ctx context.Context, id, status, output string) error {
	return d.synced(ctx, d.a.local.TTL(id, status, output))
}

// ServiceMaintenance takes an instance out, or back in.
func (d door) ServiceMaintenance(ctx context.Context, id string, on bool, reason string) error {
	return d.synced(ctx, d.a.local.ServiceMaintenance(id, on, reason))
}

// NodeMaintenance takes the whole node out, or back in.
func (d door) NodeMaintenance(ctx context.Context, on bool, reason string) error {
	return d.synced(ctx, d.a.local.NodeMaintenance(on, reason))
}
