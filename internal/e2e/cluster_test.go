package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The session that every newcomer types, from top to bottom: a server, an agent on the
// registrator host, and what the two say of themselves.
func TestArticle(t *testing.T) {
	t.Parallel()
	server := startServer(t, "-ui", "-datacenter=dc1")
	host := startAgent(t, "registrator-host", options{}, "-datacenter=dc1", "-join="+server.lan)
	host.awaitLeader()

	lines := fields(server.rollcall("members"))
	if got, want := strings.Join(lines[0], " "), "Node Address Status Type Build Protocol DC Segment"; got != want {
		t.Errorf("members' header: got %q, want %q", got, want)
	}
	rows := map[string][]string{}
	for _, l := range lines[1:] {
		rows[l[0]] = l
	}
	if l := rows["server-host"]; l == nil || l[1] != server.lan || l[2] != "alive" || l[3] != "server" || l[6] != "dc1" {
		t.Errorf("members, the server's row: %v", l)
	}
	if l := rows["registrator-host"]; l == nil || l[1] != host.lan || l[2] != "alive" || l[3] != "client" {
		t.Errorf("members, the client's row: %v", l)
	}
	peers := fields(host.rollcall("operator", "raft", "list-peers"))
	if len(peers) != 2 || peers[1][0] != "server-host" || peers[1][3] != "leader" || peers[1][4] != "true" {
		t.Errorf("list-peers: %v", peers)
	}
	if info := server.rollcall("info"); !strings.Contains(info, "\tleader = true\n") || !strings.Contains(info, "\nraft:\n") {
		t.Errorf("info:\n%s", info)
	}
	var leader string
	if err := host.json("/v1/status/leader", &leader); err != nil || leader != peers[1][2] {
		t.Errorf("status/leader on the client: %q, %v; want %q", leader, err, peers[1][2])
	}
	var list []string
	if err := server.json("/v1/status/peers", &list); err != nil || len(list) != 1 || list[0] != leader {
		t.Errorf("status/peers: %v, %v", list, err)
	}

	if err := host.put("/v1/agent/service/register", `{"Name":"nginx","ID":"n1","Port":80,"Tags":["a"]}`); err != nil {
		t.Fatal(err)
	}
	services := map[string][]string{}
	if err := server.json("/v1/catalog/services", &services); err != nil || len(services) != 2 || strings.Join(services["nginx"], "") != "a" || services["consul"] == nil {
		t.Errorf("catalog/services: %v, %v", services, err)
	}
	var nodes []struct {
		Node, Address string
		ServicePort   int
	}
	if err := server.json("/v1/catalog/service/nginx", &nodes); err != nil || len(nodes) != 1 || nodes[0].Node != "registrator-host" || nodes[0].ServicePort != 80 {
		t.Errorf("catalog/service/nginx: %v, %v", nodes, err)
	}
	eventually(t, soon, "the page has nginx", func() error {
		code, body, err := server.get("/ui/")
		if err != nil || code != 200 || !strings.Contains(body, "nginx") {
			return fmt.Errorf("%d, %v; has nginx: %t", code, err, strings.Contains(body, "nginx"))
		}
		return nil
	})

	for _, a := range []*agent{server, host} { // both doors answer
		m := new(dns.Msg)
		m.SetQuestion("nginx.service.consul.", dns.TypeSRV)
		r, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeContext(t.Context(), m, a.dns)
		if err != nil || len(r.Answer) != 1 || r.Answer[0].(*dns.SRV).Port != 80 {
			t.Errorf("SRV of nginx at %s: %v, %v", a.name, r, err)
		}
	}

	host.rollcall("leave")
	<-host.done
	eventually(t, soon, "the host that left is out of the catalog", func() error {
		var nodes []struct{ Node string }
		if err := server.json("/v1/catalog/nodes", &nodes); err != nil || len(nodes) != 1 {
			return fmt.Errorf("nodes %v, %v", nodes, err)
		}
		return nil
	})
}

// fields splits a table into rows and columns.
func fields(table string) [][]string {
	var out [][]string
	for l := range strings.Lines(table) {
		if f := strings.Fields(l); len(f) > 0 {
			out = append(out, f)
		}
	}
	return out
}

// trio starts three servers that expect each other, and a client.
func trio(t testing.TB) (servers []*agent, client *agent) {
	t.Helper()
	for i := range 3 {
		args := []string{"-server", "-bootstrap-expect=3"}
		if i > 0 {
			args = append(args, "-retry-join="+servers[0].lan)
		}
		servers = append(servers, startAgent(t, fmt.Sprintf("s%d", i+1), options{}, args...))
	}
	client = startAgent(t, "c1", options{}, "-retry-join="+servers[1].lan, "-retry-join="+servers[2].lan)
	for _, a := range append(servers, client) {
		a.awaitLeader()
	}
	return servers, client
}

// Writers go on through a client agent while the leader dies by kill -9: no write that
// was acknowledged is lost, and writes go on.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	servers, client := trio(t)
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	acked := map[string]string{}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key, value := fmt.Sprintf("w%d/%d", w, i), fmt.Sprintf("v%d", i)
				if err := client.put("/v1/kv/"+key, value); err != nil {
					continue // not acknowledged: either fate is right
				}
				mu.Lock()
				acked[key] = value
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acked) }
	eventually(t, soon, "a hundred writes", func() error {
		if n := count(); n < 100 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	leader, err := leaderAmong(servers)
	if err != nil {
		t.Fatal(err)
	}
	leader.kill()
	killed, before := time.Now(), count()
	eventually(t, 30*time.Second, "writes after the leader's death", func() error {
		if n := count(); n < before+100 {
			return fmt.Errorf("%d more", n-before)
		}
		return nil
	})
	t.Logf("a hundred writes after the leader's death took %v", time.Since(killed).Round(time.Millisecond))
	stop()
	writers.Wait()

	leader.run() // it comes back as a follower, with the same data
	leader.awaitLeader()
	var rows []struct{ Key, Value string }
	if err := client.json("/v1/kv/?recurse&consistent", &rows); err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, r := range rows {
		b, err := base64.StdEncoding.DecodeString(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		have[r.Key] = string(b)
	}
	lost := 0
	for k, v := range acked {
		if have[k] != v {
			lost++
		}
	}
	if lost > 0 || len(acked) < 200 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(acked))
	}
	eventually(t, soon, "the old leader has it all", func() error {
		var keys []string
		if err := leader.json("/v1/kv/?keys&stale", &keys); err != nil || len(keys) != len(have) {
			return fmt.Errorf("%d keys of %d, %v", len(keys), len(have), err)
		}
		return nil
	})
}

// What was registered over HTTP, with the state of its TTL check, outlives kill -9.
func TestAgentKilled(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	body := `{"Name":"job","ID":"job1","Port":1234,"Check":{"CheckID":"alive","TTL":"10m","Status":"critical"}}`
	if err := server.put("/v1/agent/service/register", body); err != nil {
		t.Fatal(err)
	}
	if err := server.put("/v1/agent/check/pass/alive?note=well", ""); err != nil {
		t.Fatal(err)
	}
	if err := server.put("/v1/kv/a", "1"); err != nil {
		t.Fatal(err)
	}
	server.kill()
	server.run()
	server.awaitLeader()
	eventually(t, soon, "the service is back and passing", server.wantInstances("job", "127.0.0.1:1234"))
	var checks map[string]struct{ Status, Output string }
	if err := server.json("/v1/agent/checks", &checks); err != nil || checks["alive"].Status != "passing" || checks["alive"].Output != "well" {
		t.Errorf("the TTL check: %+v, %v", checks["alive"], err)
	}
	if code, body, err := server.get("/v1/kv/a?raw"); err != nil || code != 200 || body != "1" {
		t.Errorf("kv a: %d %q, %v", code, body, err)
	}
}

// An agent that is killed and made anew at once under its name, as a container without a
// volume is, takes its node over: nobody waits for the old one to be missed.
func TestAgentMadeAnew(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	dir := t.TempDir()
	a := startAgent(t, "anew", options{dir: dir}, "-retry-join="+server.lan)
	a.awaitLeader()
	if err := a.put("/v1/agent/service/register", `{"Name":"web","Port":80}`); err != nil {
		t.Fatal(err)
	}
	id := func() (string, error) {
		n, _, err := server.client().Catalog().Node("anew", nil)
		if err != nil || n == nil {
			return "", fmt.Errorf("%v, %w", n, err)
		}
		return fmt.Sprint(n.Node.ID, " with ", len(n.Services), " services"), nil
	}
	before, err := id()
	if err != nil {
		t.Fatal(err)
	}
	a.kill()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	a.run()
	eventually(t, soon, "the node is the new one's", func() error {
		now, err := id()
		if err == nil && (now[:36] == before[:36] || !strings.HasSuffix(now, " 0 services")) {
			err = fmt.Errorf("%s, before %s", now, before)
		}
		return err
	})
}

// Signals mean what they mean to Consul: HUP reads the configuration again, INT stops a
// server without leaving (exit 1), TERM makes a client leave (exit 0).
func TestSignals(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/services.hcl"
	write(t, file, "service {\n  name = \"one\"\n  port = 1\n}\n")
	server := startServer(t, "-config-file="+file)
	eventually(t, soon, "service one", server.wantInstances("one", "127.0.0.1:1"))
	write(t, file, "service {\n  name = \"two\"\n  port = 2\n}\nlog_level = \"debug\"\n")
	server.signal(syscall.SIGHUP)
	eventually(t, soon, "service two", server.wantInstances("two", "127.0.0.1:2"))
	eventually(t, soon, "service one is gone", server.wantInstances("one"))
	write(t, file, "service { naem = \"three\" }")
	server.signal(syscall.SIGHUP)
	eventually(t, soon, "a line about the fault", func() error {
		if out := server.output(); !strings.Contains(out, "naem") {
			return fmt.Errorf("not in the log")
		}
		return nil
	})
	if err := server.wantInstances("two", "127.0.0.1:2")(); err != nil {
		t.Errorf("after a broken reload: %v", err)
	}
	write(t, file, "service {\n  name = \"two\"\n  port = 2\n}\n")

	client := startAgent(t, "leaver", options{}, "-join="+server.lan)
	client.awaitLeader()
	client.stop(syscall.SIGTERM)
	if code := client.exitCode(); code != 0 {
		t.Errorf("a client after SIGTERM: exit %d, want 0", code)
	}
	eventually(t, soon, "the client left", func() error {
		if out := server.rollcall("members", "-status=left"); !strings.Contains(out, "leaver") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	server.stop(syscall.SIGINT)
	if code := server.exitCode(); code != 1 {
		t.Errorf("a server after SIGINT: exit %d, want 1", code)
	}
}

// One clear line that says what to do, the exit code of the old tool, nothing changed.
func TestBadInput(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	port := busy.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	write(t, dir+"/unknown.json", `{"server": true, "bind_adr": "127.0.0.1"}`)
	write(t, dir+"/value.hcl", "retry_interval = \"soon\"\n")
	write(t, dir+"/file", "")
	free := freePorts(t, 4)
	ports := []string{"-bind=127.0.0.1", fmt.Sprintf("-serf-lan-port=%d", free[0]), fmt.Sprintf("-server-port=%d", free[1]), fmt.Sprintf("-dns-port=%d", free[2]), fmt.Sprintf("-http-port=%d", free[3])}
	agentArgs := func(args ...string) []string { return append(append([]string{"agent"}, ports...), args...) }
	for name, c := range map[string]struct {
		bin  string
		args []string
		want []string
		code int
	}{
		"unknown flag":        {"rollcall", agentArgs("-data-dir="+dir+"/d", "-sever"), []string{"-sever", "-server"}, 1},
		"unknown key":         {"rollcall", agentArgs("-data-dir="+dir+"/d", "-config-file="+dir+"/unknown.json"), []string{"bind_adr", "bind_addr", "unknown.json:1"}, 1},
		"bad value":           {"rollcall", agentArgs("-data-dir="+dir+"/d", "-config-file="+dir+"/value.hcl"), []string{"retry_interval", "soon", "10s"}, 1},
		"no data dir":         {"rollcall", agentArgs("-server"), []string{"data_dir", "-dev"}, 1},
		"data dir is a file":  {"rollcall", agentArgs("-data-dir=" + dir + "/file"), []string{"data_dir", "/file", "-data-dir"}, 1},
		"busy port":           {"rollcall", agentArgs("-data-dir="+dir+"/d", fmt.Sprintf("-http-port=%d", port)), []string{fmt.Sprint(port), "in use", "-http-port"}, 1},
		"unknown command":     {"rollcall", []string{"membres"}, []string{"membres"}, 127},
		"registrator's flag":  {"registrator", []string{"-interal", "consul://127.0.0.1:1"}, []string{"-interal"}, 2},
		"registrator's URI":   {"registrator", []string{"etcd://127.0.0.1:2379"}, []string{"etcd", "consul://"}, 2},
		"templater's flag":    {"templater", []string{"-onc"}, []string{"-onc"}, 13},
		"templater's key":     {"templater", []string{"-once", "-config=" + dir + "/unknown.json"}, []string{"bind_adr"}, 15},
		"templater's missing": {"templater", []string{"-once", "-template=" + dir + "/none:" + dir + "/out"}, []string{"/none"}, 14},
	} {
		t.Run(name, func(t *testing.T) {
			_, errs, code := outcome(t, nil, bins(t, c.bin), c.args...)
			if code != c.code {
				t.Errorf("%s %v: exit %d, want %d", c.bin, c.args, code, c.code)
			}
			if n := strings.Count(strings.TrimSpace(errs), "\n") + 1; n > 2 {
				t.Errorf("%d lines on stderr:\n%s", n, errs)
			}
			for _, w := range c.want {
				if !strings.Contains(errs, w) {
					t.Errorf("stderr does not name %q:\n%s", w, errs)
				}
			}
			if exists(dir + "/d") {
				t.Error("the data directory was made")
			}
		})
	}
}

// Two servers that both elect themselves are two clusters: the second is refused, says
// why, and the first goes on.
func TestTwoBootstraps(t *testing.T) {
	t.Parallel()
	first := startServer(t, "-bootstrap-expect=1")
	second := startAgent(t, "second", options{}, "-server", "-bootstrap", "-retry-join="+first.lan)
	eventually(t, soon, "a line that says what to do", func() error {
		if out := second.output() + first.output(); !strings.Contains(out, "bootstrap") || !strings.Contains(out, "second") {
			return fmt.Errorf("no word of it")
		}
		return nil
	})
	if out := first.rollcall("members"); strings.Contains(out, "second") {
		t.Errorf("the second bootstrap server was let in:\n%s", out)
	}
	if err := first.put("/v1/kv/a", "1"); err != nil {
		t.Errorf("the first server: %v", err)
	}
}

// A server that a client found first still looks for the other servers: who found it may
// know no more than it does.
func TestFoundByAClientFirst(t *testing.T) {
	t.Parallel()
	ports := freePorts(t, 1)
	late := fmt.Sprintf("127.0.0.1:%d", ports[0]) // where the first server will be
	early := startAgent(t, "early", options{}, "-server", "-bootstrap-expect=2", "-retry-join="+late)
	client := startAgent(t, "client", options{}, "-retry-join="+early.lan)
	eventually(t, soon, "the client is there", func() error {
		var members []struct{ Name string }
		if err := early.json("/v1/agent/members", &members); err != nil || len(members) != 2 {
			return fmt.Errorf("%v, %v", members, err)
		}
		return nil
	})
	first := startAgent(t, "first", options{}, "-server", "-bootstrap-expect=2", "-serf-lan-port="+fmt.Sprint(ports[0]))
	for _, a := range []*agent{early, first, client} {
		a.awaitLeader()
	}
}

// Who writes to the catalog past a node's agent is told that it will not last; nodes
// without one are nobody else's.
func TestWrittenPastTheAgent(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	for _, tt := range []struct {
		name, path, body string
		warned           bool
	}{
		{"a service of an agent's node", "register", `{"Node":"server-host","Address":"127.0.0.1","Service":{"Service":"stray"}}`, true},
		{"and away again", "deregister", `{"Node":"server-host","ServiceID":"stray"}`, true},
		{"a node without an agent", "register", `{"Node":"printer","Address":"10.0.0.9","Service":{"Service":"print"}}`, false},
		{"and away again", "deregister", `{"Node":"printer"}`, false},
	} {
		req, err := http.NewRequest(http.MethodPut, server.url+"/v1/catalog/"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		warning := resp.Header.Get("X-Rollcall-Warning")
		if resp.StatusCode != http.StatusOK || (warning != "") != tt.warned || tt.warned && !strings.Contains(warning, `"server-host" has an agent`) {
			t.Errorf("%s: %s, warning %q; want one: %t", tt.name, resp.Status, warning, tt.warned)
		}
	}
}
