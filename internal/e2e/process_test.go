package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// bins builds the binaries once for all tests, and gives the path of one.
func bins(t testing.TB, name string) string {
	t.Helper()
	dir, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

var binDir string // removed by TestMain

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rollcall-e2e")
	if err != nil {
		return "", err
	}
	binDir = dir
	cmd := exec.Command("deploy/build.sh", dir)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	closeBrowser()
	if binDir != "" {
		os.RemoveAll(binDir)
		exec.Command("docker", "rmi", webTag, checkedTag).Run() // if they were made
	}
	os.Exit(code)
}

// process is a program under test. Its output goes to a file that is shown when the
// test fails.
type process struct {
	t    testing.TB
	name string
	args []string
	env  []string
	ns   string // network namespace, "" for the machine's

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	log  *os.File
}

// start runs name with args until the test ends (then SIGTERM, and SIGKILL after 10 s).
func start(t testing.TB, name string, args ...string) *process {
	t.Helper()
	return startIn(t, "", name, args...)
}

// startIn does so in a network namespace.
func startIn(t testing.TB, ns, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, args: args, ns: ns}
	log, err := os.CreateTemp(t.TempDir(), filepath.Base(name)+"*.log")
	if err != nil {
		t.Fatal(err)
	}
	p.log = log
	p.run()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			if len(b) > 12000 {
				b = append([]byte("…\n"), b[len(b)-12000:]...)
			}
			t.Logf("--- output of %s %v\n%s", filepath.Base(name), args, b)
		}
		log.Close()
	})
	return p
}

// run starts the process, again after it was stopped or killed.
func (p *process) run() {
	p.t.Helper()
	argv := append([]string{p.name}, p.args...)
	if p.ns != "" {
		argv = append([]string{"nsenter", "--net=/run/netns/" + p.ns, "--"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
}

// signal sends sig and does not wait.
func (p *process) signal(sig syscall.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("signal %s: %v", p.name, err)
	}
}

// stop sends sig and waits for the end, at most 10 s.
func (p *process) stop(sig syscall.Signal) {
	select {
	case <-p.done:
		return
	default:
	}
	p.signal(sig)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.t.Errorf("%s %v did not end within 10 s of signal %v", filepath.Base(p.name), p.args, sig)
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// kill is kill -9, then waits until it is gone.
func (p *process) kill() { p.stop(syscall.SIGKILL) }

// output is all it has printed so far.
func (p *process) output() string {
	b, _ := os.ReadFile(p.log.Name())
	return string(b)
}

// outcome runs a command to its end and gives its output and exit code.
func outcome(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Ports are handed out once in a run, from below where the kernel takes its own: one that
// it chose could be taken by a connection, or chosen again by a test beside this one,
// before it is used.
var (
	portsMu  sync.Mutex
	nextPort = 10000 + os.Getpid()*37%15000 // guarded by portsMu
)

// freePorts gives n ports that nobody listens on, TCP and UDP, and that no other call
// gives.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	var out []int
	for tries := 0; len(out) < n; tries++ {
		if tries == 5000 {
			t.Fatal("no free ports")
		}
		if nextPort++; nextPort >= 32000 {
			nextPort = 10000
		}
		addr := fmt.Sprintf("127.0.0.1:%d", nextPort)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", addr)
		l.Close()
		if err != nil {
			continue
		}
		u.Close()
		out = append(out, nextPort)
	}
	return out
}

// soon is how long a fact is waited for that an event brings: longer than any machine takes.
const soon = 20 * time.Second

// eventually polls until ok answers nil; then the last error fails the test.
func eventually(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// one-shot requests: as many users' and all load generators' are.
var oneShot = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// get gives a page's status and body.
func get(url string) (int, string, error) {
	resp, err := oneShot.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// hasEnded tells whether it does not run.
func (p *process) hasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// exitCode is that of the last run, which must have ended.
func (p *process) exitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ended is a program that has run.
type ended struct {
	text string
	code int
}

// startInDir runs a program in a directory and waits for its end.
func startInDir(t testing.TB, dir, name string, args ...string) ended {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return ended{string(out), cmd.ProcessState.ExitCode()}
}
