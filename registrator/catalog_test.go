package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// agents are the binaries to test against, by name. One that cannot be had has its reason
// in err.
type agentBinary struct {
	name, path string
	err        error
}

var binaries = sync.OnceValue(func() []agentBinary {
	theirs := agentBinary{name: "consul"}
	out, err := exec.Command("../deploy/lab/consul.sh").Output()
	if theirs.path = strings.TrimSpace(string(out)); err != nil {
		theirs.err = fmt.Errorf("the real Consul cannot be had here (deploy/lab/consul.sh): %w", err)
	}
	ours := agentBinary{name: "rollcall", path: filepath.Join(workDir, "rollcall")}
	ours.err = goBuild(ours.path, "../server")
	return []agentBinary{ours, theirs}
})

// rollcall is our own agent's binary.
func rollcall(t testing.TB) string {
	t.Helper()
	b := binaries()[0]
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

// catalog is a real agent and a client of it. Its data is in memory: killed and run
// again, it is empty, unless it was started to keep it.
type catalog struct {
	*process
	t    testing.TB
	addr string
	*consul.Client
}

var nextPort atomic.Int64

// ports gives n ports that nobody listens on, each once in a run, from below where the
// kernel takes its own.
func ports(t testing.TB, n int) []int {
	t.Helper()
	var out []int
	for tries := 0; len(out) < n; tries++ {
		if tries == 5000 {
			t.Fatal("no free ports")
		}
		port := 10000 + (os.Getpid()*37+int(nextPort.Add(1)))%22000
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		u.Close()
		out = append(out, port)
	}
	return out
}

func startCatalog(t testing.TB, bin string, keeps bool, args ...string) *catalog {
	t.Helper()
	p := ports(t, 3)
	c := &catalog{t: t, addr: fmt.Sprintf("127.0.0.1:%d", p[0])}
	all := []string{"agent", "-bind=127.0.0.1", "-node=here", "-log-level=err", fmt.Sprintf("-http-port=%d", p[0]),
		fmt.Sprintf("-server-port=%d", p[1]), fmt.Sprintf("-serf-lan-port=%d", p[2]), "-dns-port=-1", "-serf-wan-port=-1", "-grpc-port=-1"}
	if keeps {
		all = append(all, "-server", "-bootstrap-expect=1", "-data-dir="+t.TempDir())
	} else {
		all = append(all, "-dev")
	}
	all = append(all, args...)
	c.process = launch(t, func() *exec.Cmd { return exec.Command(bin, all...) })
	cfg := consul.DefaultConfig()
	cfg.Address = c.addr
	var err error
	if c.Client, err = consul.NewClient(cfg); err != nil {
		t.Fatal(err)
	}
	c.await()
	return c
}

func (c *catalog) await() {
	c.t.Helper()
	eventually(c.t, 30*time.Second, "the agent leads itself", func() error {
		leader, err := c.Status().Leader()
		if err == nil && leader == "" {
			err = errors.New("no leader")
		}
		return err
	})
}

// passing gives the addresses of a service's passing instances.
func (c *catalog) passing(service string) ([]string, error) {
	es, _, err := c.Health().Service(service, "", true, nil)
	out := []string{}
	for _, e := range es {
		out = append(out, fmt.Sprintf("%s:%d", e.Service.Address, e.Service.Port))
	}
	slices.Sort(out)
	return out, err
}

// has is a fact: exactly these are passing.
func (c *catalog) has(service string, want ...string) error {
	got, err := c.passing(service)
	if err != nil {
		return err
	}
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(got, append([]string{}, want...)) {
		return fmt.Errorf("%s: %v, want %v", service, got, want)
	}
	return nil
}

// keeps is a fact: at least these are passing.
func (c *catalog) keeps(service string, want ...string) error {
	got, err := c.passing(service)
	for _, w := range want {
		if err == nil && !slices.Contains(got, w) {
			err = fmt.Errorf("%s: %v lacks %s", service, got, w)
		}
	}
	return err
}

// index is the ModifyIndex of a service by its id.
func (c *catalog) index(t testing.TB, id string) uint64 {
	t.Helper()
	n, _, err := c.Catalog().Node("here", nil)
	if err != nil || n == nil || n.Services[id] == nil {
		t.Fatalf("service %q: %v", id, err)
	}
	return n.Services[id].ModifyIndex
}

// written is the index at which the catalog last changed what it says of the agent.
func (c *catalog) written(t testing.TB) (index uint64) {
	t.Helper()
	n, _, err := c.Catalog().Node("here", nil)
	if err != nil || n == nil {
		t.Fatal(err)
	}
	for _, s := range n.Services {
		index = max(index, s.ModifyIndex)
	}
	checks, _, err := c.Health().Node("here", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range checks {
		index = max(index, k.ModifyIndex)
	}
	return index
}

// all gives every service of the agent by id.
func (c *catalog) all() (map[string]*consul.AgentService, error) { return c.Agent().Services() }

// site is an agent and a registrator that looks at the test's containers.
type site struct {
	*catalog
	name string
	reg  *process
}

// sites are one of each kind of agent, side by side, that see the same containers.
type sites []*site

// both starts an agent of each kind, with a registrator each.
func both(t *testing.T, args ...string) sites {
	return someSites(t, false, nil, args...)
}

func someSites(t *testing.T, keeps bool, agent []string, args ...string) sites {
	t.Helper()
	engine(t)
	var out sites
	for _, b := range binaries() {
		if b.err != nil {
			t.Logf("not against %s: %v", b.name, b.err)
			continue
		}
		s := &site{catalog: startCatalog(t, b.path, keeps, agent...), name: b.name}
		s.reg = registrar(t, s.addr, args...)
		out = append(out, s)
	}
	if len(out) == 0 {
		t.Fatal("there is no agent to test against")
	}
	return out
}

// eventually waits for a fact at all of them.
func (ss sites) eventually(within time.Duration, what string, fact func(s *site) error) {
	for _, s := range ss {
		s.t.Helper()
		eventually(s.t, within, s.name+": "+what, func() error { return fact(s) })
	}
}

// has waits until exactly these are passing, everywhere.
func (ss sites) has(within time.Duration, what, service string, want ...string) {
	ss[0].t.Helper()
	ss.eventually(within, what, func(s *site) error { return s.has(service, want...) })
}

// watch looks on, everywhere.
func (ss sites) watch(what string, every time.Duration, fact func(s *site) error) (end func()) {
	var ends []func()
	for _, s := range ss {
		ends = append(ends, watch(s.t, s.name+": "+what, every, func() error { return fact(s) }))
	}
	return func() {
		for _, e := range ends {
			e()
		}
	}
}

// registrar is a registrator that looks at this test's containers only.
func registrar(t testing.TB, addr string, args ...string) *process {
	t.Helper()
	args = append(regArgs(t, addr), args...)
	return launch(t, func() *exec.Cmd { return command(t, args...) })
}

func regArgs(t testing.TB, addr string) []string {
	return []string{"-host=h", "-owner=" + own(t), "-filter=label:test=" + own(t), "-listen=off", "consul://" + addr}
}

// settled waits until a registrator has nothing left to write.
func settled(t testing.TB, listen string) {
	t.Helper()
	eventually(t, soon, "ready", func() error {
		code, body, err := get(listen + "/readyz")
		if err == nil && code != 200 {
			err = errors.New(body)
		}
		return err
	})
}
