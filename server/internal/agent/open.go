package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/antientropy"
	"github.com/rollcall/rollcall/server/internal/certificate"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/event"
	"github.com/rollcall/rollcall/server/internal/fsm"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/leader"
	"github.com/rollcall/rollcall/server/internal/local"
	"github.com/rollcall/rollcall/server/internal/rpc"
	"github.com/rollcall/rollcall/server/internal/store"
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
	if err := a.openState(); err != nil {
		return nil, err
	}
	a.events = event.New(event.Config{Node: cfg.NodeName, Services: a.local.Services, Special: a.jobs(), Log: a.log})
	if err := a.openTelemetry(); err != nil {
		return nil, err
	}
	if err := a.openGossip(); err != nil {
		return nil, err
	}
	if err := a.openWAN(); err != nil {
		return nil, err
	}
	if a.tokens, err = openTokens(cfg); err != nil {
		return nil, err
	}
	group := &daemon.Group{}
	if a.peers, err = certificate.OpenPeers(peerFiles(cfg)); err != nil {
		return nil, fmt.Errorf("tls.internal_rpc: %w", err)
	}
	a.dial = rpc.Secured(nil, a.peers, a.datacenterOf, a.log)
	a.rpcs = rpc.NewPool(a.dial, a.log)
	a.onClose(func() error { a.rpcs.Close(); return nil })
	if cfg.Server {
		err = a.openServer(group, doors.rpc)
	} else {
		a.remote = rpc.NewRemote(a.rpcs, a.servers, a.log)
		a.remote.Limit(rpcLimits(cfg))
		a.endpoint = a.remote
	}
	if err != nil {
		return nil, err
	}
	a.resolver = a.newResolver(cfg)
	a.openLocal(group)
	a.openDoors(group, doors)
	group.Add("gossip", a.pool.Run)
	if a.wan != nil {
		group.Add("gossip between datacenters", a.wan.Run)
		group.Add("flood", a.flood)
	}
	if a.asked != nil {
		group.Add("exec", a.carryJobs)
	}
	for _, j := range a.joins() {
		if err := j.start(ctx); err != nil {
			return nil, err
		}
		group.Add(j.retryKey, j.keep)
	}
	group.Add("coordinates", a.sendCoordinates)
	group.Add("telemetry", a.metrics.Run)
	if len(a.watchedFiles()) > 0 {
		group.Add("files", a.followFiles)
	}
	group.Add("ready", a.ready)
	return group, nil
}

// gossipConfig is what the pools have in common; files names theirs.
func (a *Agent) gossipConfig(files string, tune config.Gossip, networks []string) (gossip.Config, error) {
	cfg := a.cfg()
	key, err := base64.StdEncoding.DecodeString(cfg.Encrypt)
	if err != nil || len(key) != 0 && len(key) != 16 && len(key) != 24 && len(key) != 32 {
		return gossip.Config{}, fmt.Errorf("encrypt: give the base64 of 16, 24 or 32 bytes, as `rollcall keygen` makes")
	}
	snapshot, keyring := "", ""
	if cfg.DataDir != "" {
		snapshot = filepath.Join(cfg.DataDir, "serf", files+".snapshot")
		if !cfg.NoKeyringFile {
			keyring = filepath.Join(cfg.DataDir, "serf", files+".keyring")
		}
	}
	return gossip.Config{
		ID: a.id, Datacenter: cfg.Datacenter, Tags: a.tags(cfg),
		Key: key, Keyring: keyring, Snapshot: snapshot, Rejoin: cfg.RejoinAfterLeave,
		Fast: cfg.Dev, NoCoordinates: cfg.NoCoordinates, Tuning: tuning(cfg, tune, networks), Log: a.log,
	}, nil
}

// tags are what the others hear of this agent.
func (a *Agent) tags(cfg *config.Config) map[string]string {
	return gossip.Tags(gossip.TagInfo{
		Server: cfg.Server, ID: a.id, Datacenter: cfg.Datacenter, Port: cfg.Ports.Server,
		Bootstrap: cfg.Bootstrap, Expect: cfg.BootstrapExpect, WANPort: cfg.Ports.SerfWAN, ACLs: cfg.ACL.Enabled,
		Build: buildinfo.Compat + ":" + short(buildinfo.Revision), Reconnect: cfg.AdvertiseReconnect,
		Version: buildinfo.Version, Marks: cfg.Marks(),
	})
}

func (a *Agent) openGossip() error {
	cfg := a.cfg()
	c, err := a.gossipConfig("local", cfg.GossipLAN, cfg.SerfLANCIDRs)
	if err != nil {
		return err
	}
	c.Name, c.ReconnectTimeout, c.Event = cfg.NodeName, cfg.ReconnectTimeout, a.events.Take
	c.Bind, c.Port, c.Advertise, c.AdvertisePort = a.addr.serf, cfg.Ports.SerfLAN, a.addr.advertise, cfg.Ports.SerfLAN
	if a.pool, err = gossip.Open(c); err != nil {
		return fmt.Errorf("gossip: %w", err)
	}
	a.onClose(a.pool.Close)
	return nil
}

// tuning is what the configuration says of a gossip pool's ways.
func tuning(cfg *config.Config, g config.Gossip, networks []string) gossip.Tuning {
	t := gossip.Tuning{
		GossipInterval: g.Interval, GossipNodes: g.Nodes, ProbeInterval: g.ProbeInterval, ProbeTimeout: g.ProbeTimeout,
		SuspicionMult: g.SuspicionMult, RetransmitMult: g.RetransmitMult,
		AcceptPlain: !*cfg.EncryptIncoming, SendPlain: !*cfg.EncryptOutgoing,
	}
	for _, n := range networks {
		if p, err := netip.ParsePrefix(n); err == nil { // Validate has refused others
			t.Networks = append(t.Networks, p)
		}
	}
	return t
}

func short(revision string) string { return revision[:min(len(revision), 8)] }

func rpcLimits(cfg *config.Config) rpc.Limits {
	return rpc.Limits{Rate: cfg.Limits.RPCRate, Burst: cfg.Limits.RPCMaxBurst, Answer: cfg.Limits.RPCClientTimeout}
}

// openServer opens what makes an agent a server: log, state, the endpoint on it, and
// the port that other agents call.
func (a *Agent) openServer(group *daemon.Group, l net.Listener) error {
	cfg := a.cfg()
	seen := lastSeen{dir: cfg.DataDir, log: a.log}
	if err := seen.check(cfg.ServerRejoinAgeMax); err != nil {
		return err
	}
	group.Add("last seen", seen.keep)
	rpcAddr := net.JoinHostPort(a.addr.advertise, strconv.Itoa(cfg.Ports.Server))
	calls := rpc.New(rpc.Config{
		Listener: l, Dial: a.dial, Peers: a.peers, Datacenter: cfg.Datacenter, Handshake: cfg.Limits.RPCHandshake,
		MaxConnsPerHost: func() int { return *a.cfg().Limits.RPCMaxConns }, Log: a.log,
	})
	a.calls = calls
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
	sessions := leader.NewSessions()
	pilot := leader.NewPilot(leader.PilotConfig{
		ID: a.id, Datacenter: cfg.Datacenter, Initial: firstAutopilot(&cfg.Autopilot), Standing: a.standingOf, Log: a.log,
	}, a.raft, a.pool, a.store)
	here := endpoint.NewLocal(endpoint.Config{
		Datacenter: cfg.Datacenter, Store: a.store, Raft: a.raft, At: a.rpcs.At, Others: a.otherDatacenters, Elsewhere: a.elsewhere, Servers: a.serverCoordinates, Gossip: gossiping{a}, Seats: a.raft, Pilot: pilot,
		HoldTimeout: cfg.Performance.RPCHoldTimeout, DefaultQueryTime: cfg.DefaultQueryTime, MaxQueryTime: cfg.MaxQueryTime,
		Snapshots: a.raft, Verify: fsm.Verify, Dir: cfg.DataDir,
		ACLs: a.serverACLs(cfg), Renew: sessions.Renew, SessionTTLMin: cfg.SessionTTLMin, Log: a.log,
	})
	a.endpoint = here
	group.Add("endpoint", here.Run)
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
		ID: a.id, Name: cfg.NodeName, Datacenter: cfg.Datacenter, ReapAfter: cfg.ReconnectTimeout, Sessions: sessions, Pilot: pilot, ACLs: leaderACLs(cfg), Log: a.log,
	}, a.raft, a.pool, a.store).Run)
	return nil
}

// whileMember ends an actor once this agent leaves: what it wrote after that would bring
// the node back that its leader has just taken out.
func (a *Agent) whileMember(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-a.leaving:
			case <-ctx.Done():
			}
			cancel()
		}()
		return run(ctx)
	}
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

// servers gives the RPC addresses of this datacenter's servers.
func (a *Agent) servers() []string { return a.serversOf(a.pool, a.cfg().Datacenter) }

// serversOf gives the RPC addresses of a datacenter's servers, living ones first, in an
// order of this agent's own: so each server has its share of the agents, and an agent
// comes to the same one again.
func (a *Agent) serversOf(pool *gossip.Pool, dc string) []string {
	var known []gossip.Server
	for _, s := range pool.Servers() {
		if s.Datacenter == dc && s.Status != api.StatusLeft {
			known = append(known, s)
		}
	}
	slices.SortFunc(known, func(x, y gossip.Server) int {
		if alive := x.Status == api.StatusAlive; alive != (y.Status == api.StatusAlive) {
			if alive {
				return -1
			}
			return 1
		}
		return cmp.Compare(rank(a.id, x.ID), rank(a.id, y.ID))
	})
	out := make([]string, len(known))
	for i, s := range known {
		out[i] = s.Addr
	}
	return out
}

// rank is where a server stands for an agent: as good as random, and always the same.
func rank(agent, server string) uint64 {
	sum := sha256.Sum256([]byte(agent + server))
	return binary.BigEndian.Uint64(sum[:])
}

func (a *Agent) peersOf(ctx context.Context, addr string) ([]string, error) {
	ans, err := a.rpcs.At(addr).Read(ctx, &endpoint.Query{Kind: endpoint.Peers, QueryOptions: api.QueryOptions{Consistency: api.Stale}})
	if err != nil {
		return nil, err
	}
	return endpoint.Into[[]string](ans)
}

// openState opens this agent's own services and checks.
func (a *Agent) openState() error {
	cfg := a.cfg()
	var err error
	a.local, err = local.Open(local.Config{
		Dir: cfg.DataDir, Node: cfg.NodeName, MaxOutput: cfg.OutputMaxSize, Log: a.log,
	})
	if err != nil {
		return err
	}
	a.onClose(a.local.Close)
	a.local.DiscardOutput(cfg.DiscardOutput)
	checkTLS, err := readCheckTLS(cfg)
	if err != nil {
		return err
	}
	a.checkTLS.Store(checkTLS)
	return a.fromConfig(cfg)
}

// openLocal adds what keeps the catalog equal to this agent's own services and checks.
func (a *Agent) openLocal(group *daemon.Group) {
	cfg := a.cfg()
	wrote := new(highest)
	a.syncer = antientropy.New(antientropy.Config{
		Node: a.registration, Size: func() int { return len(a.pool.Members()) },
		OutputInterval: *cfg.UpdateInterval, Log: a.log,
	}, own{a.local, a.local.Feed()}, catalog{a.endpoint, a, cfg.Datacenter, wrote})
	group.Add("checks", a.newRunner().Run)
	group.Add("overdue", a.sweep)
	group.Add("antientropy", thenWait(a.whileMember(a.syncer.Run)))
	group.Add("strangers", func(ctx context.Context) error { return a.watchStrangers(ctx, a.endpoint, wrote) })
	group.Add("servers", a.followServers)
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
	tagged := map[string]string{"lan": a.addr.advertise, "wan": a.addr.wan}
	for key, ip := range map[string]string{"lan": a.addr.advertise, "wan": a.addr.wan} {
		if net.ParseIP(ip).To4() != nil {
			tagged[key+"_ipv4"] = ip
		} else {
			tagged[key+"_ipv6"] = ip
		}
	}
	for key, text := range map[string]string{
		"lan_ipv4": cfg.AdvertiseIPv4, "lan_ipv6": cfg.AdvertiseIPv6, "wan_ipv4": cfg.AdvertiseWANIPv4, "wan_ipv6": cfg.AdvertiseWANIPv6,
	} {
		if ip, err := single(key, text); err == nil && ip != "" {
			tagged[key] = ip
		}
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
