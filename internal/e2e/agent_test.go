package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// agent is a rollcall agent as a process, with its ports on one address.
type agent struct {
	*process
	t    testing.TB
	name string
	ip   string
	dir  string
	http string // host:port
	dns  string
	lan  string
	wan  string
	rpc  string
	url  string
}

// options of an agent beside its flags.
type options struct {
	ns, ip string // network namespace and address; "" is the machine and 127.0.0.1
	dir    string // data dir; "" is a new one
	bin    string // another program than rollcall, with the same flags
}

// startAgent starts `rollcall agent` with free ports and args.
func startAgent(t testing.TB, name string, opt options, args ...string) *agent {
	t.Helper()
	if opt.ip == "" {
		opt.ip = "127.0.0.1"
	}
	if opt.dir == "" {
		opt.dir = t.TempDir()
	}
	p := freePorts(t, 5)
	a := &agent{t: t, name: name, ip: opt.ip, dir: opt.dir}
	at := func(port int) string { return fmt.Sprintf("%s:%d", opt.ip, port) }
	a.http, a.dns, a.lan = at(p[0]), at(p[1]), at(p[2])
	a.rpc, a.wan = at(p[3]), at(p[4])
	a.url = "http://" + a.http
	all := append([]string{"agent", "-node=" + name, "-data-dir=" + opt.dir, "-bind=" + opt.ip, "-client=" + opt.ip,
		fmt.Sprintf("-http-port=%d", p[0]), fmt.Sprintf("-dns-port=%d", p[1]), fmt.Sprintf("-serf-lan-port=%d", p[2]),
		fmt.Sprintf("-server-port=%d", p[3]), fmt.Sprintf("-serf-wan-port=%d", p[4])}, args...)
	if opt.bin == "" {
		opt.bin = bins(t, "rollcall")
	}
	a.process = startIn(t, opt.ns, opt.bin, all...)
	return a
}

// startServer starts a server of a cluster of one and waits for it to lead.
func startServer(t testing.TB, args ...string) *agent {
	t.Helper()
	a := startAgent(t, "server-host", options{}, append([]string{"-server", "-bootstrap-expect=1"}, args...)...)
	a.awaitLeader()
	return a
}

// awaitLeader waits until the agent knows a leader that has taken this node in.
func (a *agent) awaitLeader() {
	a.t.Helper()
	a.awaitAlive(a.client())
}

// awaitAlive waits until the catalog says of an agent's node that it lives, asking with c:
// only then may a session be made for it. A server that is killed just after a node has
// joined may not know of it when it is back, until gossip's next full exchange: 30 seconds.
func (a *agent) awaitAlive(c *consul.Client) {
	a.t.Helper()
	eventually(a.t, time.Minute, a.name+" lives in the catalog", func() error {
		checks, _, err := c.Health().Node(a.name, nil)
		if err != nil {
			return err
		}
		for _, check := range checks {
			if check.CheckID == "serfHealth" && check.Status == "passing" {
				return nil
			}
		}
		return fmt.Errorf("%d checks, serfHealth not passing among them", len(checks))
	})
}

// get asks the agent's HTTP API.
func (a *agent) get(path string) (int, string, error) { return get(a.url + path) }

// json asks for a value; any status but 200 is an error.
func (a *agent) json(path string, v any) error {
	code, body, err := a.get(path)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s: %d %s", path, code, body)
	}
	return json.Unmarshal([]byte(body), v)
}

// put sends a body; any status but 200 is an error.
func (a *agent) put(path, body string) error { return a.send(http.MethodPut, path, body) }

func (a *agent) send(method, path, body string) error {
	req, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := oneShot.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, b)
	}
	return err
}

// rollcall runs a command line against the agent; it has to succeed.
func (a *agent) rollcall(args ...string) string {
	a.t.Helper()
	out, errs, code := outcome(a.t, []string{"CONSUL_HTTP_ADDR=" + a.http}, bins(a.t, "rollcall"), args...)
	if code != 0 {
		a.t.Fatalf("rollcall %v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// client is the stock Go client.
func (a *agent) client() *consul.Client {
	a.t.Helper()
	c, err := consul.NewClient(&consul.Config{Address: a.http})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// instances gives the addresses of a service's passing instances.
func (a *agent) instances(service string) ([]string, error) {
	var rows []struct {
		Node    struct{ Address string }
		Service struct {
			ID, Address string
			Port        int
		}
	}
	if err := a.json("/v1/health/service/"+service+"?passing", &rows); err != nil {
		return nil, err
	}
	out := []string{}
	for _, r := range rows {
		addr := r.Service.Address
		if addr == "" {
			addr = r.Node.Address
		}
		out = append(out, fmt.Sprintf("%s:%d", addr, r.Service.Port))
	}
	return out, nil
}

// wantInstances is for eventually: exactly these are passing.
func (a *agent) wantInstances(service string, want ...string) func() error {
	return func() error {
		got, err := a.instances(service)
		if err != nil {
			return err
		}
		if !sameSet(got, want) {
			return fmt.Errorf("%s: got %v, want %v", service, got, want)
		}
		return nil
	}
}

func sameSet(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	count := map[string]int{}
	for _, s := range a {
		count[s]++
	}
	for _, s := range b {
		if count[s]--; count[s] < 0 {
			return false
		}
	}
	return true
}

// leaderAmong gives the agent that leads.
func leaderAmong(agents []*agent) (*agent, error) {
	for _, a := range agents {
		var self struct{ Stats map[string]map[string]string }
		if err := a.json("/v1/agent/self", &self); err == nil && self.Stats["consul"]["leader"] == "true" {
			return a, nil
		}
	}
	return nil, errors.New("nobody leads")
}
