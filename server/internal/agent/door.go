package agent

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strconv"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/server/internal/gossip"
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
		DebugConfig: debugConfig(cfg, d.a.addr, d.a.id),
		Coord:       d.a.pool.Coordinate(),
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
		out["consul"] = map[string]string{"acl": onOff(a.cfg().ACL.Enabled), "known_servers": strconv.Itoa(len(a.servers())), "server": "false"}
		return out
	}
	_, addr := a.raft.Leader()
	out["consul"] = map[string]string{
		"acl": onOff(a.cfg().ACL.Enabled), "bootstrap": strconv.FormatBool(a.cfg().Bootstrap), "known_datacenters": strconv.Itoa(max(1, len(a.datacenters()))),
		"leader": strconv.FormatBool(a.raft.IsLeader()), "leader_addr": addr, "server": "true",
	}
	out["raft"] = a.raft.Stats()
	out["rpc"] = map[string]string{"calls": strconv.FormatUint(a.calls.Took(), 10)}
	if a.wan != nil {
		out["serf_wan"] = a.wan.Stats()
	}
	return out
}

// Members lists the gossip pool, or the one between datacenters: nobody where this agent
// is not in it.
func (d door) Members(wan bool) ([]api.Member, error) {
	switch {
	case !wan:
		return d.a.pool.Members(), nil
	case d.a.wan == nil:
		return []api.Member{}, nil
	}
	return d.a.wan.Members(), nil
}

// Join joins the agent at addr.
func (d door) Join(ctx context.Context, addr string, wan bool) error {
	pool := d.a.pool
	if wan {
		if pool = d.a.wan; pool == nil {
			return d.a.noWAN()
		}
	}
	n, err := pool.Join(ctx, []string{addr})
	if n == 0 && err != nil {
		return fmt.Errorf("join %s: %w", addr, err)
	}
	return nil
}

// noWAN says why this agent does not gossip with other datacenters.
func (a *Agent) noWAN() error {
	if !a.cfg().Server {
		return api.Errorf(api.Internal, "Must be a server to join WAN cluster")
	}
	return api.Errorf(api.Internal, "WAN federation is disabled: ports.serf_wan is -1")
}

// Leave takes the agent out of the cluster and returns when that is done; the agent ends
// then. The leave goes on if the asker does not wait for it.
func (d door) Leave(ctx context.Context) error {
	go d.a.leave()
	select {
	case <-d.a.left:
	case <-ctx.Done():
	}
	return nil
}

// ForceLeave declares a failed member to have left. A server of this datacenter has left
// for the others too.
func (d door) ForceLeave(node string, prune, wan bool) error {
	if wan {
		if d.a.wan == nil {
			return d.a.noWAN()
		}
		return d.a.wan.ForceLeave(node, prune)
	}
	if err := d.a.pool.ForceLeave(node, prune); err != nil || d.a.wan == nil {
		return err
	}
	name := gossip.WANName(node, d.a.cfg().Datacenter)
	if _, known := d.a.wan.Member(name); !known {
		return nil
	}
	return d.a.wan.ForceLeave(name, prune)
}

// Reload reads the configuration again.
func (d door) Reload(ctx context.Context) error { return d.a.reload(ctx) }

// Services gives this agent's services by id.
func (d door) Services() map[string]*api.Service { return d.a.local.Services() }

// Checks gives this agent's checks by id.
func (d door) Checks() map[string]*api.Check { return d.a.local.Checks() }

// Service gives one of this agent's services, nil where there is none.
func (d door) Service(id string) *api.Service { return d.a.local.Service(id) }

// Check gives one of this agent's checks, nil where there is none.
func (d door) Check(id string) *api.Check { return d.a.local.Check(id) }

// ServiceChecks gives the checks that bear on a service, and whether there is one.
func (d door) ServiceChecks(id string) ([]*api.Check, bool) { return d.a.local.ServiceChecks(id) }

// RegisterService adds or replaces a service and its checks.
func (d door) RegisterService(ctx context.Context, def *api.ServiceDefinition, replaceChecks bool) error {
	if err := def.Validate(); err != nil { // before allowed, which knows kinds only
		return err
	}
	for _, c := range def.AllChecks() {
		if err := allowed(d.a.cfg(), c, local.FromAPI); err != nil {
			return err
		}
	}
	if err := d.a.local.AddService(def, local.FromAPI, replaceChecks); err != nil {
		return err
	}
	d.a.log.Debug("service registered", "service", cmp.Or(def.ID, def.Name), "name", def.Name)
	return d.synced(ctx, nil)
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
	if err := d.a.local.RemoveService(id); err != nil {
		return err
	}
	d.a.log.Debug("service deregistered", "service", id)
	return d.synced(ctx, nil)
}

// RegisterCheck adds or replaces a check.
func (d door) RegisterCheck(ctx context.Context, def *api.CheckDefinition) error {
	if err := def.Validate(); err != nil {
		return err
	}
	if err := allowed(d.a.cfg(), def, local.FromAPI); err != nil {
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
	changed, err := d.a.local.TTL(id, status, output)
	if err == nil && !changed {
		return nil // ten thousand that are well are nothing to write
	}
	return d.synced(ctx, err)
}

// ServiceMaintenance takes an instance out, or back in.
func (d door) ServiceMaintenance(ctx context.Context, id string, on bool, reason string) error {
	return d.synced(ctx, d.a.local.ServiceMaintenance(id, on, reason))
}

// NodeMaintenance takes the whole node out, or back in.
func (d door) NodeMaintenance(ctx context.Context, on bool, reason string) error {
	return d.synced(ctx, d.a.local.NodeMaintenance(on, reason))
}

func onOff(on bool) string {
	if on {
		return "enabled"
	}
	return "disabled"
}
