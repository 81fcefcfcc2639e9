// Package neighbours runs test suites of programs that live off a Consul agent,
// unchanged, against our server standing in as the program "consul": those tests of
// consul-template that start one, and those of Go kit that want one running. Patroni has no
// such suite; it keeps a PostgreSQL on our server.
package neighbours

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-kit/kit/sd/consul"              // so that go.mod keeps them,
	_ "github.com/hashicorp/consul-template/manager" // and what their tests need
)

func TestConsulTemplate(t *testing.T) {
	bin := build(t)
	suite(t, bin, "github.com/hashicorp/consul-template/manager", 14, nil)
}

func TestGoKit(t *testing.T) {
	bin := build(t)
	suite(t, bin, "github.com/go-kit/kit/sd/consul", 10, []string{"CONSUL_ADDR=" + agent(t, bin, "-dev").addr}, "-tags=integration")
}

// build makes our server, under the name that the suites start.
func build(t *testing.T) (bin string) {
	t.Helper()
	bin = t.TempDir()
	run(t, exec.Command("go", "build", "-o", filepath.Join(bin, "consul"), "./server"), "../..")
	return bin
}

// suite runs a package's tests where their files are; at least as many as enough must pass,
// and none may fail.
func suite(t *testing.T, bin, pkg string, enough int, env []string, flags ...string) {
	t.Helper()
	run(t, exec.Command("go", append(append([]string{"test", "-c", "-o", filepath.Join(bin, "suite")}, flags...), pkg)...), ".")
	home := strings.TrimSpace(run(t, exec.Command("go", append(append([]string{"list", "-f", "{{.Dir}}"}, flags...), pkg)...), "."))
	cmd := exec.Command(filepath.Join(bin, "suite"), "-test.v", "-test.timeout=5m")
	cmd.Env = append(append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir()), env...)
	out := run(t, cmd, home)
	passed := strings.Count("\n"+out, "\n--- PASS: ")
	t.Logf("%s: %d tests pass", pkg, passed)
	if passed < enough {
		t.Errorf("%d tests passed, want at least %d\n%s", passed, enough, out)
	}
}

// server is ours in a process of its own.
type server struct {
	addr string // of HTTP
	args []string
	cmd  *exec.Cmd
}

// agent starts ours for one test and waits for it to lead.
func agent(t *testing.T, bin string, flags ...string) *server {
	t.Helper()
	ports := free(t, 3)
	s := &server{addr: "127.0.0.1:" + ports[0], args: append([]string{filepath.Join(bin, "consul"), "agent", "-log-level=warn", "-dns-port=-1", "-serf-wan-port=-1",
		"-http-port=" + ports[0], "-server-port=" + ports[1], "-serf-lan-port=" + ports[2]}, flags...)}
	s.start(t)
	t.Cleanup(func() { s.end(syscall.SIGTERM) })
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = t.Output(), t.Output()
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "our server leads", func() error {
		leader, err := get("http://" + s.addr + "/v1/status/leader")
		if err == nil && len(leader) <= len(`""`) {
			err = errors.New("there is no leader")
		}
		return err
	})
}

func (s *server) end(how syscall.Signal) {
	s.cmd.Process.Signal(how)
	s.cmd.Wait()
}

// free gives ports of loopback that nobody listens on.
func free(t *testing.T, n int) (ports []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ports = append(ports, port)
	}
	return ports
}

// get asks for a page and wants 200.
func get(url string) (string, error) {
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

// eventually waits for a fact.
func eventually(t *testing.T, patience time.Duration, what string, is func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		}
	}
}

// run runs a program to its end in a folder and gives its output.
func run(t *testing.T, cmd *exec.Cmd, dir string) string {
	t.Helper()
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", strings.Join(cmd.Args, " "), err, out, errs.String())
	}
	return string(out)
}
