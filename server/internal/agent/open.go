package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/antientropy"
	"github.com/rollcall/rollcall/server/internal/checks"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/dnsserver"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/fsm"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/httpapi"
	"github.com/rollcall/rollcall/server/internal/leader"
	"github.com/rollcall/rollcall/server/internal/local"
	"github.com/rollcall/rollcall/server/internal/rpc"
	"github.com/rollcall/rollcall/server/internal/store"
	"github.com/rollcall/rollcall/server/internal/ui"
)

// open builds every room, the ports first, so that a busy one is said before anything
// on disk has changed, and gives the group of what has to run.
func (a *Agent) open(ctx context.Context) (*daemon.Group, error) {
	cfg := a.cfg()
	var err error
	if a.addr, err = resolve(cfg, a.log); err != nil {
		return nil, err
	}
	doors, err := a.listen()
	if err != nil {
		return nil, err
	}
	if err := prepareDir(cfg.DataDir); err != nil {
		return nil, err
	}
	if a.id, err = nodeID(cfg); err != nil {
		return nil, err
	}
	if err := a.openGossip(); err != nil {
		return nil, err
	}
	group := &daemon.Group{}
	a.rpcs = rpc.NewPool(nil, a.log)
	a.onClose(func() error { a.rpcs.Close(); return nil })
	if cfg.Server {
		err = a.openServer(group, doors.rpc)
	} else {
		a.endpoint = rpc.NewRemote(a.rpcs, a.servers, a.log)
	}
	if err != nil {
		return nil, err
	}
	if err := a.openLocal(group); err != nil {
		return nil, err
	}
	a.openDoors(group, doors)
	group.Add("gossip", a.pool.Run)
	if err := a.startJoin(ctx); err != nil {
		return nil, err
	}
	group.Add("join", a.keepJoined)
	group.Add("ready", a.ready)
	return group, nil
}

// doors are the listeners of this agent.
type doors struct {
	rpc    net.Listener // nil on clients
	http   []net.Listener
	dnsUDP []net.PacketConn
	dnsTCP []net.Listener
}

func (a *Agent) listen() (*doors, error) {
	cfg, d := a.cfg(), &doors{}
	var err error
	if cfg.Server {
		if d.rpc, err = listenTCP("ports.server", "-server-port", a.addr.bind, cfg.Ports.Server); err != nil {
			return nil, err
		}
		a.onClose(ignoreClosed(d.rpc.Close))
	}
	for _, ip := range a.addr.http {
		if cfg.Ports.HTTP < 0 && !strings.HasPrefix(ip, "unix:") {
			continue
		}
		l, err := listenTCP("ports.http", "-http-port", ip, cfg.Ports.HTTP)
		if err != nil {
			return nil, err
		}
		d.http = append(d.http, l)
		a.onClose(ignoreClosed(l.Close))
	}
	for _, ip := range a.addr.dns {
		if cfg.Ports.DNS < 0 || strings.HasPrefix(ip, "unix:") {
			continue
		}
		l, err := listenTCP("ports.dns", "-dns-port", ip, cfg.Ports.DNS)
		if err != nil {
			return nil, err
		}
		d.dnsTCP = append(d.dnsTCP, l)
		a.onClose(ignoreClosed(l.Close))
		c, err := listenUDP("ports.dns", "-dns-port", ip, cfg.Ports.DNS)
		if err != nil {
			return nil, err
		}
		d.dnsUDP = append(d.dnsUDP, c)
		a.onClose(ignoreClosed(c.Close))
	}
	return d, nil
}

// ignoreClosed is for listeners that whoever serves them has closed before.
func ignoreClosed(f func() error) func() error {
	return func() error {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func (a *Agent) openGossip() error {
	cfg := a.cfg()
	key, err := base64.StdEncoding.DecodeString(cfg.Encrypt)
	if err != nil || len(key) != 0 && len(key) != 16 && len(key) != 24 && len(key) != 32 {
		return fmt.Errorf("encrypt: give the base64 of 16, 24 or 32 bytes, as `rollcall keygen` makes")
	}
	snapshot := ""
	if cfg.DataDir != "" {
		snapshot = filepath.Join(cfg.DataDir, "serf", "local.snapshot")
	}
	a.pool, err = gossip.Open(gossip.Config{
		Name: cfg.NodeName, ID: a.id, Datacenter: cfg.Datacenter,
		Bind: a.addr.serf, Port: cfg.Ports.SerfLAN, Advertise: a.addr.advertise, AdvertisePort: cfg.Ports.SerfLAN,
		Tags: gossip.Tags(gossip.TagInfo{
			Server: cfg.Server, ID: a.id, Datacenter: cfg.Datacenter, Port: cfg.Ports.Server,
			Bootstrap: cfg.Bootstrap, Expect: cfg.BootstrapExpect, WANPort: cfg.Ports.SerfWAN,
			Build: buildinfo.Compat + ":" + short(buildinfo.Revision),
		}),
		Key: key, Snapshot: snapshot, Rejoin: cfg.RejoinAfterLeave, ReconnectTimeout: cfg.ReconnectTimeout,
		Fast: cfg.Dev, Log: a.log,
	})
	if err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	a.onClose(a.pool.Close)
	return nil
}

func short(revision string) string { return revision[:min(len(revision), 8)] }

// openServer opens what makes an agent a server: log, state, the endpoint on it, and
// the port that other agents call.
func (a *Agent) openServer(group *daemon.Group, l net.Listener) error {
	cfg := a.cfg()
	rpcAddr := net.JoinHostPort(a.addr.advertise, strconv.Itoa(cfg.Ports.Server))
	calls := rpc.New(rpc.Config{Listener: l, Log: a.log})
	a.store = store.New()
	var err error
	a.raft, err = consensus.Open(consensus.Config{
		ID: a.id, Addr: rpcAddr, Dir: cfg.DataDir, EntryPrefix: command.Prefix,
		Multiplier: cfg.Performance.RaftMultiplier, SnapshotThreshold: cfg.SnapshotThreshold,
		SnapshotInterval: cfg.SnapshotInterval, TrailingLogs: cfg.TrailingLogs, Fast: cfg.Dev,
		AddressOf: a.addressOf, Log: a.log,
	}, fsm.New(a.store, a.log), calls.Raft())
	if err != nil {
		return err
	}
	a.onClose(a.raft.Close)
	a.endpoint = endpoint.NewLocal(endpoint.Config{
		Datacenter: cfg.Datacenter, Store: a.store, Raft: a.raft, At: a.rpcs.At,
		HoldTimeout: cfg.Performance.RPCHoldTimeout, DefaultQueryTime: cfg.DefaultQueryTime, MaxQueryTime: cfg.MaxQueryTime, Log: a.log,
	})
	begin := &leader.Bootstrap{
		ID: a.id, Addr: rpcAddr, Datacenter: cfg.Datacenter, Alone: cfg.Bootstrap, Expect: cfg.BootstrapExpect,
		Raft: a.raft, Pool: a.pool, Peers: a.peersOf, Log: a.log,
	}
	if cfg.Bootstrap { // a cluster of one has nobody to wait for
		if err := begin.Run(context.Background()); err != nil {
			return err
		}
	} else {
		group.Add("bootstrap", thenWait(begin.Run))
	}
	group.Add("rpc", func(ctx context.Context) error { return calls.Run(ctx, a.endpoint) })
	group.Add("consensus", a.raft.Run)
	group.Add("leader", leader.New(leader.Config{
		ID: a.id, Name: cfg.NodeName, Datacenter: cfg.Datacenter, ReapAfter: cfg.ReconnectTimeout, Log: a.log,
	}, a.raft, a.pool, a.store).Run)
	return nil
}

// thenWait keeps an actor that has done its work from ending the group.
func thenWait(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := run(ctx); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
}

// addressOf finds a server's RPC address by id, as gossip knows it now.
func (a *Agent) addressOf(id string) (string, bool) {
	for _, s := range a.pool.Servers() {
		if s.ID == id {
			return s.Addr, true
		}
	}
	return "", false
}

// servers gives the RPC addresses of this datacenter's servers, living ones first.
func (a *Agent) servers() []string {
	var alive, rest []string
	for _, s := range a.pool.Servers() {
		switch {
		case s.Datacenter != a.cfg().Datacenter || s.Status == api.StatusLeft:
		case s.Status == api.StatusAlive:
			alive = append(alive, s.Addr)
		default:
			rest = append(rest, s.Addr)
		}
	}
	return append(alive, rest...)
}

func (a *Agent) peersOf(ctx context.Context, addr string) ([]string, error) {
	ans, err := a.rpcs.At(addr).Read(ctx, &endpoint.Query{Kind: endpoint.Peers, QueryOptions: api.QueryOptions{Consistency: api.Stale}})
	if err != nil {
		return nil, err
	}
	return endpoint.Into[[]string](ans)
}

// openLocal opens this agent's own services and checks, and what keeps the catalog
// equal to them.
func (a *Agent) openLocal(group *daemon.Group) error {
	cfg := a.cfg()
	var err error
	a.local, err = local.Open(local.Config{
		Dir: cfg.DataDir, Node: cfg.NodeName, MaxOutput: cfg.OutputMaxSize, Log: a.log,
	})
	if err != nil {
		return err
	}
	if err := a.fromConfig(cfg); err != nil {
		return err
	}
	a.syncer = antientropy.New(antientropy.Config{
		Node: a.registration, Size: func() int { return len(a.pool.Members()) },
		OutputInterval: *cfg.UpdateInterval, Log: a.log,
	}, a.local, catalog{a.endpoint, cfg.Datacenter})
	runner := checks.New(checks.Config{Report: a.local.UpdateCheck, Log: a.log})
	group.Add("checks", func(ctx context.Context) error { return runner.Run(ctx, a.local.Watch, a.wantedChecks) })
	group.Add("overdue", a.sweep)
	group.Add("antientropy", a.syncer.Run)
	group.Add("servers", a.followServers)
	return nil
}

// wantedChecks hands the local checks to their runner.
func (a *Agent) wantedChecks() map[string]checks.Wanted {
	local := a.local.Runnables()
	out := make(map[string]checks.Wanted, len(local))
	for id, r := range local {
		out[id] = checks.Wanted{Def: r.Def, Status: r.Status, Expires: r.Expires, Output: r.Output}
	}
	return out
}

// sweepEvery is how often services that have been critical for too long are looked for.
const sweepEvery = 30 * time.Second

// sweep deregisters services whose checks ask for it after a time of being critical.
func (a *Agent) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, id := range a.local.Overdue(time.Now()) {
			a.log.Info("service deregistered: critical for too long", "service", id)
			if err := a.local.RemoveService(id); err != nil {
				a.log.Warn("service not deregistered", "service", id, "err", err)
			}
		}
	}
}

// registration is this node as the catalog shall have it.
func (a *Agent) registration() api.Registration {
	cfg := a.cfg()
	tagged := map[string]string{"lan": a.addr.advertise, "lan_ipv4": a.addr.advertise, "wan": a.addr.advertise, "wan_ipv4": a.addr.advertise}
	if cfg.AdvertiseWAN != "" {
		tagged["wan"], tagged["wan_ipv4"] = cfg.AdvertiseWAN, cfg.AdvertiseWAN
	}
	if ip := net.ParseIP(a.addr.advertise); ip != nil && ip.To4() == nil {
		delete(tagged, "lan_ipv4")
		delete(tagged, "wan_ipv4")
		tagged["lan_ipv6"], tagged["wan_ipv6"] = tagged["lan"], tagged["wan"]
	}
	maps.Copy(tagged, cfg.Tagged)
	meta := maps.Clone(cfg.NodeMeta)
	if meta == nil {
		meta = map[string]string{}
	}
	meta["consul-network-segment"], meta["consul-version"] = "", buildinfo.Compat // as every agent of Consul's says
	return api.Registration{
		Datacenter: cfg.Datacenter, ID: a.id, Node: cfg.NodeName, Address: a.addr.advertise,
		TaggedAddresses: tagged, NodeMeta: meta,
	}
}

// followServers asks for a full sync when a server appears: what was refused while there
// was none is made good at once.
func (a *Agent) followServers(ctx context.Context) error {
	known := map[string]bool{}
	for {
		changed := a.pool.Watch()
		now := map[string]bool{}
		news := false
		for _, s := range a.pool.Servers() {
			if s.Status == api.StatusAlive {
				now[s.ID] = true
				news = news || !known[s.ID]
			}
		}
		if news {
			a.syncer.Trigger()
		}
		known = now
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// openDoors adds HTTP, DNS and the UI.
func (a *Agent) openDoors(group *daemon.Group, d *doors) {
	cfg := a.cfg()
	var page http.Handler
	path := "/ui/"
	if cfg.UIConfig.ContentPath != "" {
		path = "/" + strings.Trim(cfg.UIConfig.ContentPath, "/") + "/"
	}
	if cfg.UI {
		page = ui.Handler(a.uiConfig(path))
	}
	var from []*net.IPNet
	for _, n := range cfg.HTTP.AllowWriteHTTPFrom {
		if _, ipnet, err := net.ParseCIDR(n); err == nil { // Validate has refused others
			from = append(from, ipnet)
		}
	}
	web := httpapi.New(httpapi.Config{
		Endpoint: a.endpoint, Agent: door{a}, Datacenter: cfg.Datacenter, Node: cfg.NodeName,
		DefaultQueryTime: cfg.DefaultQueryTime, MaxQueryTime: cfg.MaxQueryTime, Pretty: cfg.Dev,
		UI: page, UIPath: path, Headers: cfg.HTTP.ResponseHeaders, BlockEndpoints: cfg.HTTP.BlockEndpoints, AllowWriteFrom: from,
		MaxConnsPerClient: func() int { return *a.cfg().Limits.MaxConnsPerClient },
		KVMaxValueSize:    cfg.Limits.KVMaxValueSize, Debug: cfg.EnableDebug, Log: a.log,
	})
	for _, l := range d.http {
		group.Add("http "+l.Addr().String(), func(ctx context.Context) error { return web.Serve(ctx, l) })
	}
	if len(d.dnsUDP) > 0 {
		names := dnsserver.New(dnsserver.Config{
			Endpoint: a.endpoint, Domain: cfg.Domain, AltDomain: cfg.AltDomain, Datacenter: cfg.Datacenter, Node: cfg.NodeName,
			NodeTTL: cfg.DNS.NodeTTL, ServiceTTL: cfg.DNS.ServiceTTL, OnlyPassing: cfg.DNS.OnlyPassing,
			UDPAnswerLimit: cfg.DNS.UDPAnswerLimit, ARecordLimit: cfg.DNS.ARecordLimit, EnableTruncate: cfg.DNS.EnableTruncate,
			NoCompression: cfg.DNS.NoCompression, MaxStale: cfg.DNS.MaxStale, Log: a.log,
		})
		group.Add("dns", func(ctx context.Context) error { return names.Serve(ctx, d.dnsUDP, d.dnsTCP) })
	}
}

// ready tells the service manager once the agent can answer: a server, or a client that
// knows one.
func (a *Agent) ready(ctx context.Context) error {
	for {
		changed := a.pool.Watch()
		if a.cfg().Server || a.inCompany() {
			daemon.Ready("serving " + a.cfg().NodeName)
			a.log.Info("ready", "took", time.Since(a.started).Round(time.Millisecond).String())
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}
