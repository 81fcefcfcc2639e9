package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nodeID is that of all agents, so that it needs no replacing.
const nodeID = "10000000-2000-3000-4000-500000000000"

// agent is a process of either kind.
type agent struct {
	http  string            // address of its API
	ports map[string]string // port → what it is for
	base  uint64            // the index at which it was ready
}

var names = []string{"dns", "http", "serf_lan", "serf_wan", "server"}

// start runs a server that is its own leader until the test ends, and waits until it has
// registered itself.
func start(t *testing.T, binary, hcl, token string) *agent {
	t.Helper()
	a := &agent{ports: map[string]string{}}
	var lines strings.Builder
	for i, port := range freePorts(t, len(names)) {
		fmt.Fprintf(&lines, "%s = %d\n", names[i], port)
		a.ports[fmt.Sprint(port)] = names[i]
		if names[i] == "http" {
			a.http = fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "agent.hcl")
	text := fmt.Sprintf("server = true\nbootstrap = true\nnode_name = \"n1\"\nnode_id = %q\nbind_addr = \"127.0.0.1\"\ndata_dir = %q\nlog_level = \"warn\"\n"+
		"disable_update_check = true\nskip_leave_on_interrupt = true\nperformance { raft_multiplier = 1 }\nports {\n%s}\n%s", nodeID, filepath.Join(dir, "data"), &lines, hcl)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "agent", "-config-file", config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // nothing of it is needed any more
		cmd.Wait()
		log.Close()
	})
	if err := a.ready(token); err != nil {
		out, _ := os.ReadFile(log.Name())
		t.Fatalf("%s: %v\n%s\n%s", filepath.Base(binary), err, text, out)
	}
	return a
}

// ready waits until the agent leads, and the catalog has all that it says of itself.
func (a *agent) ready(token string) error {
	last := "nothing was answered"
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		node := a.look("/v1/catalog/node/n1", token)
		health := a.look("/v1/health/node/n1", token)
		if strings.Contains(node, `"consul-network-segment"`) && strings.Contains(node, `"lan"`) &&
			strings.Contains(node, `"Service":"consul"`) && strings.Contains(health, `"passing"`) {
			return a.begin(token)
		}
		last = node + " " + health
	}
	return fmt.Errorf("not ready within 30 s: %s", last)
}

// begin notes the index from which on a scenario's own writes count.
func (a *agent) begin(token string) error {
	var self struct {
		Stats struct{ Raft map[string]string }
	}
	err := json.Unmarshal([]byte(a.look("/v1/agent/self", token)), &self)
	if err == nil {
		a.base, err = strconv.ParseUint(self.Stats.Raft["applied_index"], 10, 64)
	}
	if err != nil {
		return fmt.Errorf("the index at the start: %w", err)
	}
	return nil
}

func (a *agent) look(path, token string) string {
	r, err := http.NewRequest(http.MethodGet, "http://"+a.http+path, nil)
	if err != nil {
		return err.Error()
	}
	r.Header.Set("X-Consul-Token", token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// Ports are handed out once in a run, from below where the kernel takes its own.
var (
	portsMu  sync.Mutex
	nextPort = 10000 + os.Getpid()*53%15000 // guarded by portsMu
)

// freePorts gives n ports that nobody listens on and that no other call gives.
func freePorts(t *testing.T, n int) []int {
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
