package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

// federation is two datacenters: a server and a client in dc1, two servers and a client in
// dc2.
type federation struct {
	one, client, two, second, far *agent
}

// startFederation starts two datacenters and joins them by one pair of servers.
func startFederation(t testing.TB, args ...string) *federation {
	t.Helper()
	f := &federation{}
	with := func(more ...string) []string { return append(more, args...) }
	f.one = startAgent(t, "one", options{}, with("-server", "-bootstrap-expect=1")...)
	f.two = startAgent(t, "two", options{}, with("-server", "-bootstrap-expect=2", "-datacenter=dc2")...)
	f.second = startAgent(t, "second", options{}, with("-server", "-bootstrap-expect=2", "-datacenter=dc2", "-retry-join="+f.two.lan, "-retry-interval=1s")...)
	f.client = startAgent(t, "client", options{}, with("-hcl=translate_wan_addrs = true", "-retry-join="+f.one.lan, "-retry-interval=1s")...)
	f.far = startAgent(t, "far", options{}, with("-datacenter=dc2", "-retry-join="+f.two.lan, "-retry-interval=1s")...)
	for _, a := range []*agent{f.one, f.two, f.second, f.client, f.far} {
		a.awaitLeader()
	}
	return f
}

// join joins the datacenters by hand and waits until all servers know all.
func (f *federation) join(t testing.TB) {
	t.Helper()
	f.one.rollcall("join", "-wan", f.two.wan)
	for _, a := range []*agent{f.one, f.two, f.second} {
		eventually(t, soon, a.name+" knows all servers", a.wantWAN("one.dc1 alive", "second.dc2 alive", "two.dc2 alive"))
	}
}

// wantWAN is for eventually: these are the servers of all datacenters, with their states.
func (a *agent) wantWAN(want ...string) func() error {
	return func() error {
		out, errs, code := outcome(a.t, []string{"CONSUL_HTTP_ADDR=" + a.http}, bins(a.t, "rollcall"), "members", "-wan")
		if code != 0 {
			return fmt.Errorf("members -wan: exit %d: %s", code, errs)
		}
		got := []string{}
		for _, l := range fields(out)[1:] {
			got = append(got, l[0]+" "+l[2])
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("members -wan: %q, want %q", got, want)
		}
		return nil
	}
}

// Two datacenters: joined by one command, each answers for the other through whichever
// agent is asked, and a prepared query goes where instances are.
func TestTwoDatacenters(t *testing.T) {
	t.Parallel()
	f := startFederation(t)
	code, body, err := f.client.get("/v1/kv/a?dc=dc2")
	if err != nil || code != 500 || body != "No path to datacenter" {
		t.Errorf("before the join: %d %q, %v", code, body, err)
	}
	f.join(t)
	for a, want := range map[*agent][]string{f.one: {"dc1", "dc2"}, f.client: {"dc1", "dc2"}, f.two: {"dc2", "dc1"}, f.far: {"dc2", "dc1"}} {
		if got, err := a.client().Catalog().Datacenters(); err != nil || !slices.Equal(got, want) {
			t.Errorf("datacenters as %s knows them: %v, %v; want %v", a.name, got, err, want)
		}
	}
	if out := f.client.rollcall("catalog", "datacenters"); out != "dc1\ndc2\n" {
		t.Errorf("catalog datacenters: %q", out)
	}
	t.Run("data", f.data)
	t.Run("waiting", f.waiting)
	t.Run("names", f.names)
	t.Run("addresses", f.addresses)
	t.Run("events", f.events)
	t.Run("places", f.places)
	t.Run("snapshot", f.snapshot)
	t.Run("unknown", f.unknown)
	t.Run("failover", f.failover)
	t.Run("lost", f.lost)
}

func (f *federation) data(t *testing.T) {
	f.client.rollcall("kv", "put", "-datacenter=dc2", "app/color", "blue")
	if out := f.far.rollcall("kv", "get", "app/color"); out != "blue\n" {
		t.Errorf("written from dc1, read in dc2: %q", out)
	}
	if out := f.one.rollcall("kv", "get", "-datacenter=dc2", "app/color"); out != "blue\n" {
		t.Errorf("read from dc1: %q", out)
	}
	if code, _, err := f.one.get("/v1/kv/app/color"); err != nil || code != 404 {
		t.Errorf("keys stay where they were written: %d, %v", code, err)
	}
	c := f.client.client()
	there := &consul.WriteOptions{Datacenter: "dc2"}
	id, _, err := c.Session().Create(&consul.SessionEntry{Node: "far", Name: "s", TTL: "60s"}, there)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := c.KV().Acquire(&consul.KVPair{Key: "app/lock", Session: id}, there); err != nil || !ok {
		t.Errorf("a lock in dc2: %t, %v", ok, err)
	}
	if _, err := c.Session().Destroy(id, there); err != nil {
		t.Error(err)
	}
	if _, err := c.Catalog().Register(&consul.CatalogRegistration{Datacenter: "dc2", Node: "ext", Address: "10.9.9.9", Service: &consul.AgentService{Service: "ext", Port: 7}}, nil); err != nil {
		t.Fatal(err)
	}
	rows, _, err := f.client.client().Health().Service("ext", "", false, &consul.QueryOptions{Datacenter: "dc2"})
	if err != nil || len(rows) != 1 || rows[0].Node.Datacenter != "dc2" || rows[0].Service.Port != 7 {
		t.Errorf("health across: %+v, %v", rows, err)
	}
}

// A blocking query wakes in the other datacenter.
func (f *federation) waiting(t *testing.T) {
	c := f.client.client()
	_, meta, err := c.KV().Get("app/waited", &consul.QueryOptions{Datacenter: "dc2"})
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan error, 1)
	go func() {
		p, _, err := c.KV().Get("app/waited", &consul.QueryOptions{Datacenter: "dc2", WaitIndex: meta.LastIndex, WaitTime: 30 * time.Second})
		if err == nil && (p == nil || string(p.Value) != "now") {
			err = fmt.Errorf("woke with %+v", p)
		}
		woken <- err
	}()
	f.far.rollcall("kv", "put", "app/waited", "now")
	select {
	case err := <-woken:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it did not wake")
	}
}

// Names with a datacenter are answered from there.
func (f *federation) names(t *testing.T) {
	if err := f.far.put("/v1/agent/service/register", `{"Name":"web","Port":81}`); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*agent{f.one, f.client} {
		f.wantPorts(t, a, "web.service.dc2.consul.", 81)
		f.wantPorts(t, a, "web.service.consul.")
		f.wantPorts(t, a, "web.service.dc9.consul.")
	}
	// what changes there is seen here
	if err := f.far.put("/v1/agent/service/register", `{"Name":"web","Port":82}`); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*agent{f.one, f.client} {
		f.wantPorts(t, a, "web.service.dc2.consul.", 82)
	}
}

// wantPorts waits until an agent's DNS gives these ports, all of dc2: any server there
// answers, also one that is a little behind.
func (f *federation) wantPorts(t *testing.T, a *agent, name string, want ...int) {
	t.Helper()
	eventually(t, soon, name+" at "+a.name, func() error {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeSRV)
		r, _, err := (&dns.Client{Timeout: 8 * time.Second}).ExchangeContext(t.Context(), m, a.dns)
		if err != nil {
			return err
		}
		var got []int
		for _, rr := range r.Answer {
			if s, ok := rr.(*dns.SRV); ok && strings.HasSuffix(s.Target, ".dc2.consul.") {
				got = append(got, int(s.Port))
			}
		}
		if len(r.Answer) != len(want) || !slices.Equal(got, want) {
			return fmt.Errorf("ports %v, want %v: %v", got, want, r)
		}
		return nil
	})
}

// Whoever wants it gets the addresses that are for those from afar.
func (f *federation) addresses(t *testing.T) {
	if err := f.far.put("/v1/agent/service/register", `{"Name":"nat","Address":"10.1.1.1","Port":80,"TaggedAddresses":{"wan":{"Address":"192.0.2.9","Port":8080}}}`); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[*agent]string{f.client: "192.0.2.9:8080", f.one: "10.1.1.1:80"} {
		rows, _, err := a.client().Health().Service("nat", "", false, &consul.QueryOptions{Datacenter: "dc2", RequireConsistent: true})
		if err != nil || len(rows) != 1 || fmt.Sprintf("%s:%d", rows[0].Service.Address, rows[0].Service.Port) != want {
			t.Errorf("%s sees %+v, %v; want %s", a.name, rows, err, want)
		}
	}
	f.wantPorts(t, f.client, "nat.service.dc2.consul.", 8080)
	rows, _, err := f.far.client().Health().Service("nat", "", false, nil)
	if err != nil || len(rows) != 1 || rows[0].Service.Address != "10.1.1.1" {
		t.Errorf("at home: %+v, %v", rows, err)
	}
}

func (f *federation) events(t *testing.T) {
	f.client.rollcall("event", "-datacenter=dc2", "-name=deploy", "v8")
	eventually(t, soon, "the event is there", func() error {
		var list []struct{ Name string }
		if err := f.far.json("/v1/event/list?name=deploy", &list); err != nil || len(list) != 1 {
			return fmt.Errorf("%v, %v", list, err)
		}
		return nil
	})
	var list []struct{ Name string }
	if err := f.client.json("/v1/event/list?name=deploy", &list); err != nil || len(list) != 0 {
		t.Errorf("in dc1: %v, %v", list, err)
	}
}

func (f *federation) places(t *testing.T) {
	c := f.client.client()
	eventually(t, 60*time.Second, "all servers have a place", func() error {
		all, err := c.Coordinate().Datacenters()
		if err != nil || len(all) != 2 || all[0].Datacenter != "dc1" || all[1].Datacenter != "dc2" || all[0].AreaID != "wan" {
			return fmt.Errorf("%+v, %v", all, err)
		}
		if len(all[0].Coordinates) != 1 || all[0].Coordinates[0].Node != "one" || len(all[1].Coordinates) != 2 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
	if out := f.one.rollcall("rtt", "-wan", "one.dc1", "two.dc2"); !strings.Contains(out, "Estimated one.dc1 <-> two.dc2 rtt:") || !strings.Contains(out, "WAN") {
		t.Errorf("rtt -wan: %q", out)
	}
}

func (f *federation) snapshot(t *testing.T) {
	file := t.TempDir() + "/dc2.snap"
	f.client.rollcall("snapshot", "save", "-datacenter=dc2", file)
	if out := f.client.rollcall("snapshot", "inspect", file); !strings.Contains(out, "Index") {
		t.Errorf("inspect: %q", out)
	}
	f.far.rollcall("kv", "put", "app/color", "red")
	f.client.rollcall("snapshot", "restore", "-datacenter=dc2", file)
	if out := f.far.rollcall("kv", "get", "app/color"); out != "blue\n" {
		t.Errorf("after the restore: %q", out)
	}
}

func (f *federation) unknown(t *testing.T) {
	for _, path := range []string{"/v1/kv/a?dc=dc9", "/v1/catalog/services?dc=dc9", "/v1/health/service/web?dc=dc9&stale", "/v1/query?dc=dc9", "/v1/snapshot?dc=dc9"} {
		code, body, err := f.client.get(path)
		if err != nil || code != http.StatusInternalServerError || body != "No path to datacenter" {
			t.Errorf("%s: %d %q, %v", path, code, body, err)
		}
	}
	if err := f.client.put("/v1/kv/a?dc=dc9", "x"); err == nil || !strings.Contains(err.Error(), "500 No path to datacenter") {
		t.Errorf("a write: %v", err)
	}
}

// When the instances here die, those of the other datacenter are found.
func (f *federation) failover(t *testing.T) {
	if err := f.client.put("/v1/agent/service/register", `{"Name":"shop","Port":80,"Check":{"TTL":"1h","Status":"passing"}}`); err != nil {
		t.Fatal(err)
	}
	if err := f.far.put("/v1/agent/service/register", `{"Name":"shop","Port":8080}`); err != nil {
		t.Fatal(err)
	}
	c := f.client.client()
	for name, by := range map[string]consul.QueryFailoverOptions{
		"nearest": {NearestN: 2}, "listed": {Datacenters: []string{"dc9", "dc2"}},
		"targets": {Targets: []consul.QueryFailoverTarget{{Datacenter: "dc9"}, {Datacenter: "dc2"}}},
	} {
		if _, _, err := c.PreparedQuery().Create(&consul.PreparedQueryDefinition{Name: name, Service: consul.ServiceQuery{Service: "shop", Failover: by}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	want := func(dc string, port, failovers int) {
		t.Helper()
		for _, name := range []string{"nearest", "listed", "targets"} {
			got, _, err := c.PreparedQuery().Execute(name, nil)
			if err != nil || got.Datacenter != dc || len(got.Nodes) != 1 || got.Nodes[0].Service.Port != port || got.Failovers != failovers {
				t.Errorf("query %s: %+v, %v; want port %d of %s after %d failovers", name, got, err, port, dc, failovers)
			}
		}
	}
	want("dc1", 80, 0)
	if err := f.client.put("/v1/agent/check/fail/service:shop", ""); err != nil {
		t.Fatal(err)
	}
	want("dc2", 8080, 1)
	f.wantPorts(t, f.client, "nearest.query.consul.", 8080)
	if err := f.client.put("/v1/agent/check/pass/service:shop", ""); err != nil {
		t.Fatal(err)
	}
	want("dc1", 80, 0)
}

// A datacenter whose servers are all dead is told so at once, and is there again when they
// are.
func (f *federation) lost(t *testing.T) {
	eventually(t, soon, "the one that stays has all", func() error {
		if code, body, err := f.second.get("/v1/kv/app/color?stale&raw"); err != nil || code != 200 || body != "blue" {
			return fmt.Errorf("%d %q, %v", code, body, err)
		}
		return nil
	})
	f.two.kill()
	if out := f.client.rollcall("kv", "get", "-stale", "-datacenter=dc2", "app/color"); out != "blue\n" {
		t.Errorf("with one server there of two: %q", out)
	}
	f.second.kill()
	for range 2 {
		code, body, err := f.client.get("/v1/kv/app/color?dc=dc2&stale")
		if err != nil || code != 500 || !strings.HasPrefix(body, `No path to datacenter: no server of "dc2" answers: rpc error: not sent to 127.0.0.1:`) {
			t.Errorf("without servers: %d %q, %v", code, body, err)
		}
	}
	f.two.run()
	f.second.run()
	eventually(t, 30*time.Second, "dc2 is back", func() error {
		code, body, err := f.client.get("/v1/kv/app/color?dc=dc2&raw")
		if err != nil || code != 200 || body != "blue" {
			return fmt.Errorf("%d %q, %v", code, body, err)
		}
		return nil
	})
}

// site is a network namespace with an address on a link that only this machine sees.
type site struct {
	t        testing.TB
	ns, link string
	here, ip string // of the machine and of the site
}

func newSite(t testing.TB) *site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n := os.Getpid() % 200
	s := &site{t: t, ns: fmt.Sprintf("rcwan%d", n), link: fmt.Sprintf("rcwanv%d", n), here: fmt.Sprintf("10.214.%d.1", n), ip: fmt.Sprintf("10.214.%d.2", n)}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", s.ns).Run() }) // the link goes with it
	for _, args := range []string{
		"netns add " + s.ns, "link add " + s.link + " type veth peer name eth0 netns " + s.ns,
		"addr add " + s.here + "/24 dev " + s.link, "link set " + s.link + " up",
		"-n " + s.ns + " addr add " + s.ip + "/24 dev eth0", "-n " + s.ns + " link set eth0 up", "-n " + s.ns + " link set lo up",
	} {
		s.do(strings.Fields(args)...)
	}
	return s
}

func (s *site) do(args ...string) {
	s.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// A datacenter behind a line that is cut: whoever asks for it is told so, the own one does
// not notice, queries fail over to nobody, and everything is there again when the line is.
func TestWANPartition(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := startAgent(t, "one", options{ip: s.here}, "-server", "-bootstrap-expect=1")
	client := startAgent(t, "client", options{ip: s.here}, "-retry-join="+one.lan)
	two := startAgent(t, "two", options{ip: s.ip, ns: s.ns}, "-server", "-bootstrap-expect=1", "-datacenter=dc2", "-retry-join-wan="+one.wan)
	for _, a := range []*agent{one, client, two} {
		a.awaitLeader()
	}
	patient := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() (int, string, error) {
		resp, err := patient.Get(client.url + "/v1/kv/a?raw&dc=dc2")
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b), err
	}
	reached := func() error {
		code, body, err := ask()
		if err != nil || code != 200 || body != "b" {
			return fmt.Errorf("%d %q, %v", code, body, err)
		}
		return nil
	}
	eventually(t, soon, "a key of dc2", func() error {
		if err := client.put("/v1/kv/a?dc=dc2", "b"); err != nil {
			return err
		}
		return reached()
	})
	s.do("link", "set", s.link, "down")
	for range 3 {
		began := time.Now()
		code, body, err := ask()
		if err != nil || code != 500 || !strings.HasPrefix(body, `No path to datacenter: no server of "dc2" answers`) {
			t.Errorf("cut off: %d %q, %v", code, body, err)
		}
		t.Logf("told after %s", time.Since(began).Round(time.Millisecond))
	}
	if err := client.put("/v1/kv/a", "here"); err != nil {
		t.Errorf("a write at home: %v", err)
	}
	eventually(t, 2*time.Minute, "gossip knows", one.wantWAN("one.dc1 alive", "two.dc2 failed"))
	s.do("link", "set", s.link, "up")
	eventually(t, time.Minute, "dc2 is back", reached)
	eventually(t, 2*time.Minute, "gossip knows", one.wantWAN("one.dc1 alive", "two.dc2 alive"))
}
