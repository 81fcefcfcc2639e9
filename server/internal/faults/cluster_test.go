package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/fsm"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/leader"
	"github.com/rollcall/rollcall/server/internal/rpc"
	"github.com/rollcall/rollcall/server/internal/servertest"
	"github.com/rollcall/rollcall/server/internal/store"
)

// cluster is a number of servers that know nothing but each other's addresses.
type cluster struct {
	t       *testing.T
	net     *servertest.Net
	packets *servertest.Packets
	nodes   []*node

	mu    sync.Mutex
	hosts int // guarded by mu; addresses given out
}

// node is one server: what outlives its death, and what runs at the moment.
type node struct {
	c    *cluster
	name string
	dir  string
	disk disk
	// clock is how far its clock is ahead. It shows in what a leader writes; all else measures
	// spans of time, which are right by a clock that is wrong.
	clock time.Duration

	mu sync.Mutex
	*running
}

// running is a server between start and kill.
type running struct {
	ip    string
	store *store.Store
	raft  *consensus.Raft
	pool  *gossip.Pool
	here  *endpoint.Local
	alive context.Context // ends with the server
	stop  func()
}

// disk makes writes to the log slow.
type disk struct{ delay atomic.Int64 } // nanoseconds, before each write

type slowLog struct {
	raft.LogStore
	node *node
}

func (s slowLog) StoreLogs(l []*raft.Log) error {
	if r := s.node.now(); r != nil && r.raft.IsLeader() { // these are of its own making
		for _, e := range l {
			e.AppendedAt = e.AppendedAt.Add(s.node.clock)
		}
	}
	time.Sleep(time.Duration(s.node.disk.delay.Load()))
	return s.LogStore.StoreLogs(l)
}

// IsMonotonic is as the store underneath is.
func (s slowLog) IsMonotonic() bool { return s.LogStore.(raft.MonotonicLogStore).IsMonotonic() }

// newCluster starts n servers, which begin the cluster by themselves. Their clocks are half
// an hour apart.
func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{t: t, net: servertest.NewNet()}
	c.packets = servertest.NewPackets(c.net)
	dir := t.TempDir()
	for i := range n {
		x := &node{c: c, name: fmt.Sprintf("s%d", i+1), clock: time.Duration(i-n/2) * 30 * time.Minute}
		x.dir = filepath.Join(dir, x.name)
		c.nodes = append(c.nodes, x)
	}
	for _, x := range c.nodes {
		x.start()
	}
	return c
}

// stop ends all servers, and waits for what Serf leaves behind.
func (c *cluster) stop() {
	for _, x := range c.nodes {
		x.kill()
	}
	time.Sleep(2 * time.Minute)
}

// addresses are the gossip addresses of all who run.
func (c *cluster) addresses() []string {
	var out []string
	for _, x := range c.nodes {
		if r := x.now(); r != nil {
			out = append(out, net.JoinHostPort(r.ip, "8301"))
		}
	}
	return out
}

// servers are the RPC addresses of all who run, in one order.
func (c *cluster) servers() []string {
	var out []string
	for _, x := range c.nodes {
		if r := x.now(); r != nil {
			out = append(out, net.JoinHostPort(r.ip, "8300"))
		}
	}
	return out
}

func (c *cluster) nextIP() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts++
	return fmt.Sprintf("10.0.%d.%d", c.hosts/200, c.hosts%200+1)
}

// now is what runs, nil if nothing does.
func (x *node) now() *running {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.running
}

// start starts the server with the data that it left, at an address that nobody had yet.
func (x *node) start() {
	c, ip := x.c, x.c.nextIP()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(c.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("node", x.name)
	}
	must := func(err error) {
		if err != nil {
			c.t.Errorf("start %s: %v", x.name, err)
			panic(err)
		}
	}
	id := "id-" + x.name
	serf, err := servertest.NewTransport(c.net, c.packets, net.JoinHostPort(ip, "8301"))
	must(err)
	r := &running{ip: ip, store: store.New()}
	r.pool, err = gossip.Open(gossip.Config{
		Name: x.name, ID: id, Datacenter: "dc1", Bind: ip, Port: 8301, Transport: serf, Log: log, NoCoordinates: true,
		Tags: gossip.Tags(gossip.TagInfo{Server: true, ID: id, Datacenter: "dc1", Port: 8300, Expect: len(c.nodes)}),
	})
	must(err)
	ln, err := c.net.Listen(net.JoinHostPort(ip, "8300"))
	must(err)
	calls := rpc.New(rpc.Config{Listener: ln, Dial: c.net.Dialer(ip), Log: log})
	rpcs := rpc.NewPool(c.net.Dialer(ip), log)
	addr := net.JoinHostPort(ip, "8300")
	r.raft, err = consensus.Open(consensus.Config{
		ID: id, Addr: addr, Dir: x.dir, EntryPrefix: command.Prefix, SnapshotThreshold: 100, SnapshotInterval: 3 * time.Second, TrailingLogs: 20,
		Disk: func(l raft.LogStore) raft.LogStore { return slowLog{l, x} }, Log: log,
		AddressOf: func(id string) (string, bool) {
			for _, s := range r.pool.Servers() {
				if s.ID == id {
					return s.Addr, true
				}
			}
			return "", false
		},
	}, fsm.New(r.store, log), calls.Raft())
	must(err)
	ask := func(ctx context.Context, addr string, kind endpoint.Kind) (*endpoint.Answer, error) {
		return rpcs.At(addr).Read(ctx, &endpoint.Query{Kind: kind, QueryOptions: api.QueryOptions{Consistency: api.Stale}})
	}
	sessions := leader.NewSessions()
	pilot := leader.NewPilot(leader.PilotConfig{
		ID: id, Datacenter: "dc1", Initial: api.DefaultAutopilot(), Log: log,
		Standing: func(ctx context.Context, addr string) (*api.RaftStats, error) {
			a, err := ask(ctx, addr, endpoint.RaftStanding)
			if err != nil {
				return nil, err
			}
			return endpoint.Into[*api.RaftStats](a)
		},
	}, r.raft, r.pool, r.store)
	r.here = endpoint.NewLocal(endpoint.Config{
		Datacenter: "dc1", Store: r.store, Raft: r.raft, At: rpcs.At, Seats: r.raft, Pilot: pilot, Renew: sessions.Renew, Log: log,
	})
	begin := &leader.Bootstrap{
		ID: id, Addr: addr, Datacenter: "dc1", Expect: len(c.nodes), Raft: r.raft, Pool: r.pool, Log: log,
		Peers: func(ctx context.Context, addr string) ([]string, error) {
			a, err := ask(ctx, addr, endpoint.Peers)
			if err != nil {
				return nil, err
			}
			return endpoint.Into[[]string](a)
		},
	}
	duties := leader.New(leader.Config{ID: id, Name: x.name, Datacenter: "dc1", Sessions: sessions, Pilot: pilot, Log: log}, r.raft, r.pool, r.store)
	ctx, cancel := context.WithCancel(context.Background())
	r.alive = ctx
	var all sync.WaitGroup
	for _, run := range []func(context.Context) error{
		r.pool.Run, r.raft.Run, r.here.Run, begin.Run, duties.Run, func(ctx context.Context) error { return calls.Run(ctx, r.here) }, x.join(r),
	} {
		all.Go(func() {
			if err := run(ctx); err != nil {
				c.t.Errorf("%s: %v", x.name, err)
			}
		})
	}
	r.stop = func() {
		cancel()
		all.Wait()
		if err := r.raft.Close(); err != nil {
			c.t.Errorf("close %s: %v", x.name, err)
		}
		rpcs.Close()
		r.pool.Close()
	}
	x.mu.Lock()
	x.running = r
	x.mu.Unlock()
}

// join joins the others as the agent does: again and again while there is no leader.
func (x *node) join(r *running) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			if _, addr := r.raft.Leader(); addr == "" {
				_, _ = r.pool.Join(ctx, x.c.addresses()) // those who are away are tried again
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
}

// kill ends the server without a word to anybody: what it says while it ends is lost.
func (x *node) kill() {
	x.mu.Lock()
	r := x.running
	x.running = nil
	x.mu.Unlock()
	if r == nil {
		return
	}
	x.c.net.Partition(r.ip)
	x.c.net.Cut(r.ip)
	x.disk.delay.Store(0)
	r.stop()
}

// endpoint is this server's, as a client beside it has it: calls end with the server.
func (x *node) endpoint() endpoint.Endpoint { return beside{x} }

type beside struct{ x *node }

func (b beside) with(ctx context.Context) (*running, context.Context, func(), error) {
	r := b.x.now()
	if r == nil {
		return nil, nil, nil, api.ErrNotLeader // nothing was sent
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(r.alive, cancel)
	return r, ctx, func() { stop(); cancel() }, nil
}

func (b beside) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	r, ctx, done, err := b.with(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return r.here.Read(ctx, q)
}

func (b beside) Write(ctx context.Context, w *endpoint.Write) (*command.Result, error) {
	r, ctx, done, err := b.with(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return r.here.Write(ctx, w)
}

// remote is the endpoint of a client agent at host, on all servers.
func (c *cluster) remote(host string) (endpoint.Endpoint, func()) {
	pool := rpc.NewPool(c.net.Dialer(host), slog.New(slog.DiscardHandler))
	return rpc.NewRemote(pool, c.servers, slog.New(slog.DiscardHandler)), pool.Close
}

// sink takes a snapshot's bytes.
type sink struct{ bytes.Buffer }

func (*sink) ID() string    { return "" }
func (*sink) Cancel() error { return nil }
func (*sink) Close() error  { return nil }

// hash is of a server's whole state, with the index that it is of.
func (r *running) hash() (string, error) {
	s, err := fsm.New(r.store, slog.New(slog.DiscardHandler)).Snapshot()
	if err != nil {
		return "", err
	}
	defer s.Release()
	var b sink
	if err := s.Persist(&b); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(b.Bytes())), nil
}

// equal waits until all servers run, know one leader and have one state.
func (c *cluster) equal(within time.Duration) error {
	var last string
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		last = ""
		states, leaders := map[string]int{}, map[string]int{}
		for _, x := range c.nodes {
			r := x.now()
			h, err := r.hash()
			if err != nil {
				return err
			}
			id, _ := r.raft.Leader()
			states[h]++
			leaders[id]++
			last += fmt.Sprintf("%s: leader %q, index %d, state %.8s; ", x.name, id, r.store.State().Index(), h)
		}
		if len(states) == 1 && len(leaders) == 1 && leaders[""] == 0 {
			return nil
		}
	}
	return fmt.Errorf("not equal: %s", last)
}

// fault does one thing to the cluster and gives what it was.
func (c *cluster) fault(random *rand.Rand) string {
	x := c.nodes[random.IntN(len(c.nodes))]
	r := x.now()
	dead := 0
	for _, y := range c.nodes {
		if y.now() == nil {
			dead++
		}
	}
	switch n := random.IntN(12); {
	case r == nil:
		x.start()
		return "start " + x.name
	case n < 3 && dead < (len(c.nodes)-1)/2:
		x.kill()
		return "kill " + x.name
	case n < 5:
		c.net.Partition(r.ip)
		return "cut off " + x.name
	case n < 6:
		var side []string
		var names string
		for _, y := range c.nodes {
			if s := y.now(); s != nil && random.IntN(2) == 0 {
				side, names = append(side, s.ip), names+" "+y.name
			}
		}
		c.net.Partition(side...)
		return "cut off together" + names
	case n < 7:
		y := c.nodes[random.IntN(len(c.nodes))]
		s := y.now()
		if s == nil || y == x {
			break
		}
		c.net.OneWay(r.ip, s.ip)
		return fmt.Sprintf("%s does not hear %s", y.name, x.name)
	case n < 8:
		c.net.Cut(r.ip)
		return "break connections of " + x.name
	case n < 10:
		d := time.Duration(random.IntN(4000)) * time.Millisecond
		x.disk.delay.Store(int64(d))
		return fmt.Sprintf("writes of %s take %s", x.name, d)
	}
	c.heal()
	return "heal"
}

// heal ends every fault but death.
func (c *cluster) heal() {
	c.net.Heal()
	for _, x := range c.nodes {
		x.disk.delay.Store(0)
	}
}
