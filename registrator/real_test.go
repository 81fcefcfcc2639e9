package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The tests named TestCase… are the acceptance of the registrator, seen from outside: a
// real engine, and real agents, ours and the original Consul 1.8.7, that follow the same
// containers side by side. Bigger runs of the same: go test ./registrator -run Case03
// -containers 50 -rounds 5, or -run Case15 -steady 10m.
var (
	many   = flag.Int("containers", 10, "containers in the tests of storms")
	rounds = flag.Int("rounds", 2, "rounds of the tests of storms")
	steady = flag.Duration("steady", 5*time.Second, "how long the test of a steady state looks on")
)

const (
	testLabel = "rollcall.reg"
	imageTag  = "rc-reg-test:"
)

// dockerCmd runs the docker command.
func dockerCmd(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// images are the workload: plain, with a HEALTHCHECK, and with another stop signal. They
// are built once and left to the engine's cache. The HEALTHCHECK may take long, as on a busy
// machine: it fails when the workload says so, not before.
var images = sync.OnceValue(func() error {
	if out, err := exec.Command("docker", "info", "-f", "{{.OSType}}").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "linux" {
		return fmt.Errorf("no Docker engine for Linux containers: %s", strings.TrimSpace(string(out)))
	}
	dir, err := os.MkdirTemp("", "registrator-test")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := goBuild(filepath.Join(dir, "web"), "../deploy/lab/web"); err != nil {
		return err
	}
	for tag, extra := range map[string]string{
		"plain":   "",
		"checked": "HEALTHCHECK --interval=500ms --timeout=30s --retries=1 CMD [\"/bin/web\", \"-probe\"]\n",
		"quit":    "STOPSIGNAL SIGQUIT\n",
	} {
		file := "FROM scratch\nLABEL " + testLabel + "=1\nCOPY web /bin/web\nEXPOSE 8080\n" + extra + "ENTRYPOINT [\"/bin/web\"]\n"
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o644); err != nil {
			return err
		}
		if out, err := exec.Command("docker", "build", "-q", "-t", imageTag+tag, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("docker build: %w\n%s", err, out)
		}
	}
	return nil
})

func goBuild(out, room string) error {
	build := exec.Command("go", "build", "-o", out, room)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false -trimpath")
	if msg, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", room, err, msg)
	}
	return nil
}

// engine skips the test where there is none.
func engine(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no engine")
	}
	if err := images(); err != nil {
		t.Skipf("%v", err)
	}
}

var names atomic.Int64

// name gives a name for something in the engine that nobody else uses.
func name() string { return fmt.Sprintf("rc-reg-%d-%d", os.Getpid(), names.Add(1)) }

// own is what this test's containers are known by, also beside another run of it.
func own(t testing.TB) string { return fmt.Sprintf("%s-%d", t.Name(), os.Getpid()) }

// start runs a container of the workload, its port published on loopback, and gives its
// id; it is removed with the test.
func start(t testing.TB, tag string, args ...string) string {
	t.Helper()
	return begin(t, tag, append([]string{"-p", "127.0.0.1::8080"}, args...)...)
}

// begin runs a container of the workload without a published port. What follows "--" in
// args is for the workload.
func begin(t testing.TB, tag string, args ...string) string {
	t.Helper()
	run, rest := []string{"run", "-d", "--pull=never", "--label", testLabel + "=1", "--label", "test=" + own(t), "--name", name()}, []string{}
	for i, a := range args {
		if a == "--" {
			args, rest = args[:i], args[i+1:]
			break
		}
	}
	run = append(append(append(run, args...), imageTag+tag), rest...)
	id := dockerCmd(t, run...)
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", id).Run() })
	return id
}

// crowd starts n containers, a few at a time: more at once and the engine takes longer.
func crowd(t testing.TB, n int, args ...string) []string {
	t.Helper()
	ids := make([]string, n)
	slots, wg := make(chan struct{}, 4), sync.WaitGroup{}
	for i := range ids {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ids[i] = start(t, "plain", args...)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return ids
}

// network makes a network, which is removed with the test.
func network(t testing.TB, args ...string) string {
	t.Helper()
	n := name()
	dockerCmd(t, append(append([]string{"network", "create", "--label", testLabel + "=1"}, args...), n)...)
	t.Cleanup(func() { exec.Command("docker", "network", "rm", n).Run() })
	return n
}

// published is the host's side of a container's port, as the engine's own command says.
func published(t testing.TB, id string) string {
	t.Helper()
	first, _, _ := strings.Cut(dockerCmd(t, "port", id, "8080/tcp"), "\n")
	return first
}

func allPublished(t testing.TB, ids []string) []string {
	t.Helper()
	var out []string
	for _, id := range ids {
		out = append(out, published(t, id))
	}
	return out
}

// serves waits until the workload answers: before, its process may not hear signals.
func serves(t testing.TB, at string) {
	t.Helper()
	eventually(t, soon, "the workload serves", func() error {
		code, _, err := get("http://" + at + "/")
		if err == nil && code != 200 {
			err = fmt.Errorf("status %d", code)
		}
		return err
	})
}

// remove takes containers away at once.
func remove(t testing.TB, ids ...string) {
	t.Helper()
	dockerCmd(t, append([]string{"rm", "-f"}, ids...)...)
}

// soon is how long a fact that an event brings is waited for: longer than any machine
// takes, and shorter than the default resync, which would hide a lost event.
const soon = 20 * time.Second

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

// watch asks again and again, until the test ends it, and fails it at the first fault.
func watch(t testing.TB, what string, every time.Duration, fact func() error) (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			if err := fact(); err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	end = sync.OnceFunc(func() { close(stop); <-ended })
	t.Cleanup(end)
	return end
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
	if p.cmd.SysProcAttr == nil {
		p.cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	cmd, ends := p.cmd, p.ends
	go func() { _ = cmd.Wait(); close(ends) }() // how it ended is asked of its state
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

func (p *process) kill() { p.signal(syscall.SIGKILL); <-p.ends }

// lives fails the test if the process has ended.
func (p *process) lives() {
	p.t.Helper()
	select {
	case <-p.ends:
		p.t.Error("the registrator ended")
	default:
	}
}

func launch(t testing.TB, f func() *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, make: f}
	p.run()
	t.Cleanup(p.kill)
	return p
}

// dockerRemove takes containers away, quietly where they are gone.
func dockerRemove(ids ...string) error {
	return exec.Command("docker", append([]string{"rm", "-f"}, ids...)...).Run()
}
