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
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// The tests that call engine use a real engine and real agents: the original Consul where it
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
