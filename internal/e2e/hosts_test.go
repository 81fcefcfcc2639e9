package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// host is a Docker host of its own: an engine in a network namespace with an address on
// a bridge that only this machine sees, a client agent and a registrator.
type host struct {
	*engine
	name        string
	agent       *agent
	registrator *process
}

var (
	lanNet    = fmt.Sprintf("10.213.%d", os.Getpid()%256)
	lanBridge = fmt.Sprintf("rce2e%d", os.Getpid()%10000)
)

// hosts runs deploy/lab/hosts.sh; it has to succeed.
func hosts(t testing.TB, args ...string) string {
	t.Helper()
	out, err := hostsScript(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("hosts.sh %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func hostsScript(args ...string) *exec.Cmd {
	cmd := exec.Command("../../deploy/lab/hosts.sh", args...)
	cmd.Env = append(os.Environ(), "LAB_NET="+lanNet, "LAB_BR="+lanBridge, "LAB_BASE=/tmp/"+own("rollcall-e2e-hosts"))
	return cmd
}

// startHost brings a host up at lanNet.n, with the workload's image in its engine.
func startHost(t testing.TB, name string, n int, server *agent) *host {
	t.Helper()
	hosts(t, "up", name, fmt.Sprint(n))
	t.Cleanup(func() {
		if out, err := hostsScript("down", name).CombinedOutput(); err != nil {
			t.Errorf("hosts.sh down %s: %v\n%s", name, err, out)
		}
	})
	ip := fmt.Sprintf("%s.%d", lanNet, n)
	h := &host{engine: &engine{t: t, host: hosts(t, "sock", name), ip: ip}, name: name}
	hosts(t, "load", name, webTag)
	h.agent = startAgent(t, name, options{ns: name, ip: ip}, "-retry-join="+server.lan, "-retry-interval=1s")
	h.agent.awaitLeader()
	h.registrator = startIn(t, name, bins(t, "registrator"), "-docker="+h.host, "-host="+name, "-ip="+ip, "-resync=2s", "consul://"+h.agent.http)
	return h
}

// The article's two hosts, as two real engines: containers of both are served; an engine
// that crashes, a host that is cut off and comes back, each heals by itself.
func TestTwoEngines(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("network namespaces and engines need root")
	}
	machine(t)
	hosts(t, "lan")
	t.Cleanup(func() {
		if out, err := hostsScript("lan-down").CombinedOutput(); err != nil {
			t.Errorf("hosts.sh lan-down: %v\n%s", err, out)
		}
	})
	server := startAgent(t, "server-host", options{ip: lanNet + ".1"}, "-server", "-bootstrap-expect=1")
	server.awaitLeader()
	// an interface's name has 15 characters at most
	host := func(letter string) string { return fmt.Sprintf("rc%d%s", os.Getpid()%1e6, letter) }
	a, b := startHost(t, host("a"), 11, server), startHost(t, host("b"), 12, server)
	h := &house{t: t, engine: a.engine, server: server, nginx: startNginx(t)}
	h.startTemplater()

	onA, onB := a.web("web"), b.web("web")
	eventually(t, soon, "both hosts serve", h.wantServed("web", onA, onB))
	if got, err := server.instances("web"); err != nil || !sameSet(got, []string{a.published(onA), b.published(onB)}) {
		t.Errorf("addresses: %v, %v; want %v", got, err, []string{a.published(onA), b.published(onB)})
	}

	t.Run("an engine crashes", func(t *testing.T) {
		hosts(t, "kill", a.name)
		// its containers serve on, and nobody deregisters what cannot be seen
		for range 20 {
			if err := h.wantServed("web", onA, onB)(); err != nil {
				t.Fatalf("while the engine is down: %v", err)
			}
		}
		hosts(t, "start", a.name)
		eventually(t, 30*time.Second, "what the restart ended is gone", h.wantServed("web", onB))
		a.docker("start", onA)
		eventually(t, soon, "and back when it is started", h.wantServed("web", onA, onB))
	})
	t.Run("a host is cut off", func(t *testing.T) {
		stop := h.load("web", 20)
		link(t, a.name, "down")
		eventually(t, 60*time.Second, "the catalog knows", server.wantInstances("web", b.published(onB)))
		eventually(t, soon, "nginx knows", h.wantServed("web", onB))
		link(t, a.name, "up")
		eventually(t, 60*time.Second, "both hosts serve again", h.wantServed("web", onA, onB))
		if total, failures := stop(); len(failures) > 0 {
			t.Errorf("%d of %d requests failed: %v", len(failures), total, failures[:min(len(failures), 5)])
		}
	})
}

func link(t *testing.T, host, state string) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", "v"+host, state).CombinedOutput(); err != nil {
		t.Fatalf("link of %s %s: %v\n%s", host, state, err, out)
	}
}
