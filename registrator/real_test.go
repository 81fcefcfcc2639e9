package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// The tests of real_*.go use a real engine and real agents: the original Consul where it
// is found ($ROLLCALL_CONSUL, or .peers/consul-1.8.7), and ours.

const testLabel = "rollcall.reg"

// dockerCmd runs the docker command.
func dockerCmd(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// images are the workload without and with a HEALTHCHECK, built once and left to the
// engine's cache.
var images = sync.OnceValues(func() (string, error) {
	if out, err := exec.Command("docker", "info", "-f", "{{.OSType}}").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "linux" {
		return "", fmt.Errorf("no Docker engine for Linux containers: %s", strings.TrimSpace(string(out)))
	}
	dir, err := os.MkdirTemp("", "registrator-test")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "web"), "../deploy/lab/web")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build web: %w\n%s", err, out)
	}
	for tag, extra := range map[string]string{
		"plain":   "",
		"checked": "HEALTHCHECK --interval=1s --timeout=2s --retries=1 CMD [\"/bin/web\", \"-probe\"]\n",
	} {
		file := "FROM scratch\nLABEL " + testLabel + "=1\nCOPY web /bin/web\nEXPOSE 8080\n" + extra + "ENTRYPOINT [\"/bin/web\"]\n"
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o644); err != nil {
			return "", err
		}
		if out, err := exec.Command("docker", "build", "-q", "-t", "rollcall-reg-test:"+tag, dir).CombinedOutput(); err != nil {
			return "", fmt.Errorf("docker build: %w\n%s", err, out)
		}
	}
	return "rollcall-reg-test:", nil
})

// engine skips the test where there is none.
func engine(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no engine")
	}
	if _, err := images(); err != nil {
		t.Skipf("%v", err)
	}
}

// start runs a container of the workload and gives its id; it is removed with the test.
func start(t testing.TB, tag string, args ...string) string {
	t.Helper()
	run := append([]string{"run", "-d", "--pull=never", "--label", "test=" + t.Name(), "-p", "127.0.0.1::8080"}, args...)
	id := dockerCmd(t, append(run, "rollcall-reg-test:"+tag)...)
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
	return id
}

// published is the host's side of a container's port.
func published(t testing.TB, id string) string {
	t.Helper()
	first, _, _ := strings.Cut(dockerCmd(t, "port", id, "8080/tcp"), "\n")
	return first
}

// eventually waits for a fact, asking for it again and again.
func eventually(t testing.TB, within time.Duration, what string, fact func() error) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fact()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s: %v", what, within, err)
		case <-tick.C:
		}
	}
}

// process is a program that the test started, and ends.
type process struct {
	t    testing.TB
	make func() *exec.Cmd
	cmd  *exec.Cmd
	ends chan struct{}
}

func (p *process) run() {
	p.t.Helper()
	p.cmd, p.ends = p.make(), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = p.t.Output(), p.t.Output()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd, ends := p.cmd, p.ends
	go func() { _ = cmd.Wait(); close(ends) }()
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

func (p *process) kill() { p.signal(syscall.SIGKILL); <-p.ends }

func launch(t testing.TB, f func() *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, make: f}
	p.run()
	t.Cleanup(p.kill)
	return p
}

// catalog is a real agent, its data in memory: killed and run again, it is empty.
type catalog struct {
	*process
	t    testing.TB
	addr string
	*consul.Client
}

// agents are the binaries to test against, by name.
func agents(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range []string{os.Getenv("ROLLCALL_CONSUL"), "../.peers/consul-1.8.7"} {
		if _, err := os.Stat(p); err == nil && p != "" {
			out["consul"] = p
			break
		}
	}
	ours := filepath.Join(t.TempDir(), "rollcall")
	build := exec.Command("go", "build", "-o", ours, "../server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if msg, err := build.CombinedOutput(); err != nil {
		t.Errorf("build the server: %v\n%s", err, msg)
	} else {
		out["rollcall"] = ours
	}
	return out
}

func ports(t testing.TB, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

func startCatalog(t testing.TB, bin string) *catalog {
	t.Helper()
	p := ports(t, 3)
	c := &catalog{t: t, addr: fmt.Sprintf("127.0.0.1:%d", p[0])}
	c.process = launch(t, func() *exec.Cmd {
		return exec.Command(bin, "agent", "-dev", "-bind=127.0.0.1", "-node=here", "-log-level=err", fmt.Sprintf("-http-port=%d", p[0]),
			fmt.Sprintf("-server-port=%d", p[1]), fmt.Sprintf("-serf-lan-port=%d", p[2]), "-dns-port=-1", "-serf-wan-port=-1", "-grpc-port=-1")
	})
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
	eventually(c.t, 20*time.Second, "the agent leads itself", func() error {
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

// has is for eventually: exactly these are passing.
func (c *catalog) has(service string, want ...string) func() error {
	return func() error {
		got, err := c.passing(service)
		if err != nil {
			return err
		}
		slices.Sort(want)
		if !slices.Equal(got, append([]string{}, want...)) {
			return fmt.Errorf("%s: %v, want %v", service, got, want)
		}
		return nil
	}
}

// registrar is a registrator that looks at this test's containers only.
func registrar(t testing.TB, c *catalog, args ...string) *process {
	t.Helper()
	args = append([]string{"-host=h", "-owner=" + t.Name(), "-filter=label:test=" + t.Name(), "-listen=off", "consul://" + c.addr}, args...)
	return launch(t, func() *exec.Cmd { return command(t, args...) })
}

// each runs a test against every agent.
func each(t *testing.T, f func(t *testing.T, c *catalog)) {
	engine(t)
	for name, bin := range agents(t) {
		t.Run(name, func(t *testing.T) { f(t, startCatalog(t, bin)) })
	}
}

func TestLife(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		one := start(t, "plain", "-e", "SERVICE_NAME=web", "-e", "SERVICE_TAGS=a,b", "-e", "SERVICE_REGION=eu")
		at := published(t, one)
		eventually(t, 5*time.Second, "registered", c.has("web", at))
		rows, _, err := c.Catalog().Service("web", "a", nil)
		if err != nil || len(rows) != 1 || !slices.Equal(rows[0].ServiceTags, []string{"a", "b"}) || rows[0].ServiceMeta["region"] != "eu" {
			t.Fatalf("row %+v, %v", rows, err)
		}
		dockerCmd(t, "kill", "-s", "HUP", start(t, "plain", "-e", "SERVICE_NAME=other")) // ends, it does not know the signal

		dockerCmd(t, "pause", one)
		eventually(t, 5*time.Second, "paused", c.has("web"))
		dockerCmd(t, "unpause", one)
		eventually(t, 5*time.Second, "goes on", c.has("web", at))

		dockerCmd(t, "rename", one, "renamed-"+one[:8])
		eventually(t, 5*time.Second, "renamed", func() error {
			_, _, err := c.Agent().Service("h:renamed-"+one[:8]+":8080", nil)
			return errors.Join(err, c.has("web", at)())
		})

		stopped := make(chan struct{})
		go func() { defer close(stopped); dockerCmd(t, "stop", "-t", "5", one) }() // the workload serves on for 2 s
		eventually(t, 1500*time.Millisecond, "out of service while it still answers", c.has("web"))
		select {
		case <-stopped:
			t.Error("the container was gone before it was out of service")
		default:
		}
		<-stopped
		dockerCmd(t, "start", one)
		eventually(t, 5*time.Second, "started again", func() error { return c.has("web", published(t, one))() })
		eventually(t, 5*time.Second, "the other one is gone", c.has("other"))
	})
}

func TestHealthcheckFollows(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		var early atomic.Bool // passing before the first healthy
		id := start(t, "checked", "-e", "SERVICE_NAME=hc")
		eventually(t, 5*time.Second, "registered, not passing", func() error {
			checks, _, err := c.Health().Checks("hc", nil)
			if err == nil && len(checks) != 1 {
				err = fmt.Errorf("%d checks", len(checks))
			}
			if err == nil {
				early.Store(checks[0].Status == "passing" && dockerCmd(t, "inspect", "-f", "{{.State.Health.Status}}", id) == "starting")
			}
			return err
		})
		if early.Load() {
			t.Error("it was passing while starting")
		}
		eventually(t, 10*time.Second, "healthy", c.has("hc", published(t, id)))
		dockerCmd(t, "exec", id, "/bin/web", "-ill", "true")
		eventually(t, 10*time.Second, "unhealthy", func() error {
			checks, _, err := c.Health().Checks("hc", nil)
			if err == nil && (len(checks) != 1 || checks[0].Status != "critical" || !strings.HasPrefix(checks[0].Output, "unhealthy")) {
				err = fmt.Errorf("%+v", checks)
			}
			return err
		})
		dockerCmd(t, "exec", id, "/bin/web", "-ill", "false")
		eventually(t, 10*time.Second, "healthy again", c.has("hc", published(t, id)))
	})
}

// The agent is killed and comes back empty, twice: once with nothing else going on, once
// while containers change.
func TestAgentComesBackEmpty(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		a := start(t, "plain", "-e", "SERVICE_NAME=web")
		eventually(t, 5*time.Second, "registered", c.has("web", published(t, a)))
		c.kill()
		c.run()
		c.await()
		eventually(t, 15*time.Second, "registered again", c.has("web", published(t, a)))
		c.kill()
		b := start(t, "plain", "-e", "SERVICE_NAME=web")
		dockerCmd(t, "rm", "-f", a)
		c.run()
		c.await()
		eventually(t, 15*time.Second, "what changed meanwhile", c.has("web", published(t, b)))
	})
}

func TestRegistratorComesBack(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		r := registrar(t, c)
		stays, goes := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web")
		manual := &consul.AgentServiceRegistration{ID: "by-hand", Name: "hand", Port: 1}
		if err := c.Agent().ServiceRegister(manual); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "registered", c.has("web", published(t, stays), published(t, goes)))
		index := func() uint64 {
			rows, _, err := c.Catalog().Service("web", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if strings.HasSuffix(published(t, stays), fmt.Sprint(":", r.ServicePort)) {
					return r.ModifyIndex
				}
			}
			t.Fatal("it is not there")
			return 0
		}
		before := index()
		r.kill()
		dockerCmd(t, "rm", "-f", goes)
		r.run()
		eventually(t, 5*time.Second, "what ended meanwhile is gone", c.has("web", published(t, stays)))
		if got := index(); got != before {
			t.Errorf("the unchanged service was written again: index %d, was %d", got, before)
		}
		eventually(t, time.Second, "what is not ours stays", c.has("hand", ":1"))

		// dry run: in sync, then not
		args := []string{"-host=h", "-owner=" + t.Name(), "-filter=label:test=" + t.Name(), "-dry-run", "consul://" + c.addr}
		cmd := command(t, args...)
		if out, err := cmd.Output(); err != nil || len(out) != 0 {
			t.Errorf("dry run in sync: %v, %q", err, out)
		}
		r.signal(syscall.SIGTERM)
		<-r.ends
		if code := r.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("after SIGTERM: exit %d, want 0", code)
		}
		dockerCmd(t, "rm", "-f", stays)
		cmd = command(t, args...)
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != 3 || !strings.HasPrefix(string(out), "deregister h:") {
			t.Errorf("dry run out of sync: exit %d, %q", cmd.ProcessState.ExitCode(), out)
		}
		eventually(t, time.Second, "a dry run writes nothing", func() error {
			got, err := c.passing("web")
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("%v", got)
			}
			return err
		})
	})
}

func TestKillStorm(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		ids := make([]string, 20)
		slots, wg := make(chan struct{}, 4), sync.WaitGroup{} // more at once and the engine takes longer
		for i := range ids {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				ids[i] = start(t, "plain", "-e", "SERVICE_NAME=storm")
			})
		}
		wg.Wait()
		var at []string
		for _, id := range ids {
			at = append(at, published(t, id))
		}
		eventually(t, 5*time.Second, "all are there", c.has("storm", at...))
		dockerCmd(t, append([]string{"kill"}, ids...)...)
		died := time.Now()
		eventually(t, time.Second, "none is left a second after the last death", c.has("storm"))
		t.Logf("clean %v after the last death", time.Since(died).Round(time.Millisecond))
		dockerCmd(t, append([]string{"start"}, ids...)...)
		at = nil
		for _, id := range ids {
			at = append(at, published(t, id))
		}
		eventually(t, 5*time.Second, "every port is the new one", c.has("storm", at...))
	})
}

// A container's own address follows its networks.
func TestNetworks(t *testing.T) {
	engine(t)
	for _, bin := range agents(t) {
		c := startCatalog(t, bin)
		net1, net2 := "regtest-"+fmt.Sprint(os.Getpid())+"-a", "regtest-"+fmt.Sprint(os.Getpid())+"-b"
		for _, n := range []string{net1, net2} {
			dockerCmd(t, "network", "create", "--label", testLabel+"=1", n)
			t.Cleanup(func() { exec.Command("docker", "network", "rm", n).Run() })
		}
		registrar(t, c, "-internal", "-network="+net2+",*")
		id := start(t, "plain", "--network", net1, "-e", "SERVICE_NAME=net")
		ip := func(n string) string {
			return dockerCmd(t, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+n+"\").IPAddress}}", id) + ":8080"
		}
		eventually(t, 5*time.Second, "the only network", c.has("net", ip(net1)))
		dockerCmd(t, "network", "connect", net2, id)
		eventually(t, 5*time.Second, "the preferred one", c.has("net", ip(net2)))
		dockerCmd(t, "network", "disconnect", net2, id)
		eventually(t, 5*time.Second, "back", c.has("net", ip(net1)))
		return // one agent is enough: the question is Docker's
	}
}

// relay is a socket in front of the engine's that can be cut, and frozen.
type relay struct {
	path   string
	mu     sync.Mutex
	conns  map[net.Conn]bool
	away   bool
	frozen atomic.Bool
}

func startRelay(t *testing.T) *relay {
	t.Helper()
	r := &relay{path: filepath.Join(t.TempDir(), "docker.sock"), conns: map[net.Conn]bool{}}
	l, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", "/var/run/docker.sock")
			r.mu.Lock()
			refused := r.away || err != nil
			if !refused {
				r.conns[in], r.conns[out] = true, true
			}
			r.mu.Unlock()
			if refused {
				in.Close()
				if out != nil {
					out.Close()
				}
				continue
			}
			wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
			wg.Go(func() { r.copy(in, out); in.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); r.cut(false); wg.Wait() })
	return r
}

// copy passes answers on; while frozen it swallows them.
func (r *relay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !(r.frozen.Load() && strings.Contains(string(buf[:n]), `"Actor"`)) { // events, and only those
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections; with away no new ones come.
func (r *relay) cut(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
	for c := range r.conns {
		c.Close()
		delete(r.conns, c)
	}
}

func (r *relay) back() { r.mu.Lock(); defer r.mu.Unlock(); r.away = false }

func TestEngineCutAndFrozen(t *testing.T) {
	engine(t)
	if _, err := os.Stat("/var/run/docker.sock"); err != nil {
		t.Skip("the engine is not on its usual socket")
	}
	for _, bin := range agents(t) {
		c, r := startCatalog(t, bin), startRelay(t)
		reg := registrar(t, c, "-docker=unix://"+r.path, "-resync=2s")
		a, b := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web")
		both := []string{published(t, a), published(t, b)}
		eventually(t, 5*time.Second, "registered", c.has("web", both...))

		r.cut(true)
		dockerCmd(t, "rm", "-f", a)
		d := start(t, "plain", "-e", "SERVICE_NAME=web")
		if err := c.has("web", both...)(); err != nil {
			t.Errorf("while the engine is away: %v", err)
		}
		r.back()
		eventually(t, 8*time.Second, "right after it is back", c.has("web", published(t, b), published(t, d)))

		r.frozen.Store(true)
		dockerCmd(t, "rm", "-f", b)
		eventually(t, 10*time.Second, "found by looking", c.has("web", published(t, d)))
		r.frozen.Store(false)
		select {
		case <-reg.ends:
			t.Error("the registrator ended")
		default:
		}
		return // one agent is enough: the question is Docker's
	}
}

// BenchmarkStart measures the way from the engine's start event to the catalog, as a
// blocking query sees it.
func BenchmarkStart(b *testing.B) {
	engine(b)
	for name, bin := range agents(b) {
		b.Run(name, func(b *testing.B) {
			c := startCatalog(b, bin)
			registrar(b, c)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var took []time.Duration
			for b.Loop() {
				rows, meta, err := c.Catalog().Service("bench", "", nil)
				if err != nil {
					b.Fatal(err)
				}
				seen := make(chan time.Time, 1)
				known := len(rows)
				go func() {
					for i := meta.LastIndex; ctx.Err() == nil; {
						rows, m, err := c.Catalog().Service("bench", "", (&consul.QueryOptions{WaitIndex: i}).WithContext(ctx))
						if err != nil {
							return
						}
						if i = m.LastIndex; len(rows) > known {
							seen <- time.Now()
							return
						}
					}
				}()
				id := start(b, "plain", "-e", "SERVICE_NAME=bench")
				at := <-seen
				began, err := time.Parse(time.RFC3339Nano, dockerCmd(b, "inspect", "-f", "{{.State.StartedAt}}", id))
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, at.Sub(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/max")
		})
	}
}
