package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// lan is a network of hosts, on a bridge that only this machine sees.
type lan struct {
	t           testing.TB
	net, bridge string
	letter      string // each test's own
}

// host is a Docker host of its own: an engine in a network namespace, a client agent and a
// registrator.
type host struct {
	*engine
	name        string
	agent       *agent
	registrator *process
}

func startLAN(t testing.TB, n int) *lan {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces and engines need root")
	}
	machine(t)
	l := &lan{
		t: t, net: fmt.Sprintf("10.%d.%d", 213+n, os.Getpid()%256), bridge: fmt.Sprintf("rce%d-%d", n, os.Getpid()%10000), letter: string(rune('a' + n)),
	}
	l.hosts("lan")
	t.Cleanup(func() { l.gone("lan-down") })
	return l
}

// hosts runs deploy/lab/hosts.sh; it has to succeed.
func (l *lan) hosts(args ...string) string {
	l.t.Helper()
	out, err := l.script(args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("hosts.sh %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// gone does so at the test's end.
func (l *lan) gone(args ...string) {
	if out, err := l.script(args...).CombinedOutput(); err != nil {
		l.t.Errorf("hosts.sh %v: %v\n%s", args, err, out)
	}
}

func (l *lan) script(args ...string) *exec.Cmd {
	cmd := exec.Command("../../deploy/lab/hosts.sh", args...)
	cmd.Env = append(os.Environ(), "LAB_NET="+l.net, "LAB_BR="+l.bridge, "LAB_BASE=/tmp/"+own("rollcall-e2e-hosts")+l.letter)
	return cmd
}

func (l *lan) ip(n int) string { return fmt.Sprintf("%s.%d", l.net, n) }

// plain brings up a host without an engine, and gives its name.
func (l *lan) plain(n int) string {
	l.t.Helper()
	name := fmt.Sprintf("rc%d%s%d", os.Getpid()%1e5, l.letter, n) // an interface's name has 15 characters at most
	l.hosts("plain", name, fmt.Sprint(n))
	l.t.Cleanup(func() { l.gone("down", name) })
	return name
}

// host brings up a Docker host, with the workload's image in its engine.
func (l *lan) host(n int, servers ...*agent) *host {
	t := l.t
	t.Helper()
	name, ip := l.plain(n), l.ip(n)
	l.hosts("start", name)
	h := &host{engine: &engine{t: t, host: l.hosts("sock", name), ip: ip}, name: name}
	l.hosts("load", name, webTag)
	h.agent = startAgent(t, name, options{ns: name, ip: ip}, joining(servers)...)
	h.agent.awaitLeader()
	h.registrator = startIn(t, name, bins(t, "registrator"), "-docker="+h.engine.host, "-host="+name, "-ip="+ip, "-resync=2s", "consul://"+h.agent.http)
	return h
}

// joining are the flags of an agent that keeps joining servers.
func joining(servers []*agent) []string {
	args := []string{"-retry-interval=1s"}
	for _, s := range servers {
		args = append(args, "-retry-join="+s.lan)
	}
	return args
}

// link plugs a host's cable in or out: "up" or "down".
func (l *lan) link(host, state string) {
	l.t.Helper()
	if out, err := exec.Command("ip", "link", "set", "v"+host, state).CombinedOutput(); err != nil {
		l.t.Fatalf("link of %s %s: %v\n%s", host, state, err, out)
	}
}

// The article's two hosts, as two real engines: containers of both are served; an engine
// that crashes, a host that is cut off and comes back, each heals by itself.
func TestTwoEngines(t *testing.T) {
	t.Parallel()
	l := startLAN(t, 0)
	server := startAgent(t, "server-host", options{ip: l.ip(1)}, "-server", "-bootstrap-expect=1")
	server.awaitLeader()
	a, b := l.host(11, server), l.host(12, server)
	h := &house{t: t, engine: a.engine, server: server, nginx: startNginx(t)}
	h.startTemplater()

	onA, onB := a.web("web"), b.web("web")
	eventually(t, soon, "both hosts serve", h.wantServed("web", onA, onB))
	if got, err := server.instances("web"); err != nil || !sameSet(got, []string{a.published(onA), b.published(onB)}) {
		t.Errorf("addresses: %v, %v; want %v", got, err, []string{a.published(onA), b.published(onB)})
	}

	t.Run("an engine crashes", func(t *testing.T) {
		l.hosts("kill", a.name)
		// its containers serve on, and nobody deregisters what cannot be seen
		for range 20 {
			if err := h.wantServed("web", onA, onB)(); err != nil {
				t.Fatalf("while the engine is down: %v", err)
			}
		}
		l.hosts("start", a.name)
		eventually(t, 30*time.Second, "what the restart ended is gone", h.wantServed("web", onB))
		a.docker("start", onA)
		eventually(t, soon, "and back when it is started", h.wantServed("web", onA, onB))
	})
	t.Run("a host is cut off", func(t *testing.T) {
		stop := h.load("web", 20)
		l.link(a.name, "down")
		eventually(t, 60*time.Second, "the catalog knows", server.wantInstances("web", b.published(onB)))
		eventually(t, soon, "nginx knows", h.wantServed("web", onB))
		l.link(a.name, "up")
		eventually(t, 60*time.Second, "both hosts serve again", h.wantServed("web", onA, onB))
		if total, failures := stop(); len(failures) > 0 {
			t.Errorf("%d of %d requests failed: %v", len(failures), total, failures[:min(len(failures), 5)])
		}
	})
}
