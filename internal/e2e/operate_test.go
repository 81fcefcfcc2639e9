package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

// seats gives the servers of the Raft configuration, "name" or, without a vote, "(name)".
func seats(op *consul.Operator) ([]string, *consul.RaftConfiguration, error) {
	c, err := op.RaftGetConfiguration(nil)
	if err != nil {
		return nil, nil, err
	}
	var out []string
	for _, s := range c.Servers {
		name := s.Node
		if !s.Voter {
			name = "(" + name + ")"
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out, c, nil
}

func wantSeats(op *consul.Operator, want ...string) func() error {
	return func() error {
		got, _, err := seats(op)
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("%v, %v", got, err)
		}
		return nil
	}
}

// The life of a server beyond the first three: it follows, gets a vote once it has been
// healthy for a while, leads when it is told to, dies, and is taken out; what an operator
// sees of it at a client agent.
func TestServersComeAndGo(t *testing.T) {
	t.Parallel()
	servers, client := trio(t)
	op := client.client().Operator()
	eventually(t, soon, "three healthy servers", func() error {
		h, err := op.AutopilotServerHealth(nil)
		if err != nil || !h.Healthy || len(h.Servers) != 3 || h.FailureTolerance != 1 {
			return fmt.Errorf("%+v, %v", h, err)
		}
		return nil
	})
	config, err := op.AutopilotGetConfiguration(nil)
	if err != nil || !config.CleanupDeadServers || config.ServerStabilizationTime.Duration() != 10*time.Second {
		t.Fatalf("autopilot's first configuration: %+v, %v", config, err)
	}
	config.ServerStabilizationTime = consul.NewReadableDuration(3 * time.Second)
	if ok, err := op.AutopilotCASConfiguration(config, nil); err != nil || !ok {
		t.Fatalf("written: %t, %v", ok, err)
	}
	if ok, err := op.AutopilotCASConfiguration(config, nil); err != nil || ok {
		t.Errorf("written again on the same condition: %t, %v", ok, err)
	}

	s4 := startAgent(t, "s4", options{}, "-server", "-retry-join="+servers[0].lan)
	lost := startAgent(t, "lost", options{}, "-retry-join="+servers[0].lan)
	brief := startAgent(t, "brief", options{}, "-retry-join="+servers[0].lan, "-hcl=advertise_reconnect_timeout = \"1s\"")
	for _, a := range []*agent{s4, lost, brief} {
		a.awaitLeader()
	}
	eventually(t, 30*time.Second, "s4 has a vote", wantSeats(op, "s1", "s2", "s3", "s4"))
	_, conf, err := seats(op)
	if err != nil {
		t.Fatal(err)
	}
	id := map[string]string{}
	for _, s := range conf.Servers {
		id[s.Node] = s.ID
	}
	if done, err := op.RaftLeaderTransfer(id["s4"], nil); err != nil || !done.Success {
		t.Fatalf("transfer to s4: %+v, %v", done, err)
	}
	eventually(t, soon, "s4 leads", func() error {
		_, conf, err := seats(op)
		if err != nil {
			return err
		}
		for _, s := range conf.Servers {
			if s.Leader && s.Node == "s4" {
				return nil
			}
		}
		return errors.New("it does not")
	})
	if err := client.put("/v1/kv/under", "s4"); err != nil {
		t.Errorf("a write under the new leader: %v", err)
	}
	if _, err := op.RaftLeaderTransfer("nobody", nil); err == nil || !strings.Contains(err.Error(), `id "nobody" was not found`) {
		t.Errorf("transfer to nobody: %v", err)
	}

	for _, a := range []*agent{s4, lost, brief} {
		a.kill()
	}
	eventually(t, 90*time.Second, "s4 has no seat any more", wantSeats(op, "s1", "s2", "s3"))
	eventually(t, 60*time.Second, "a client is taken for dead", func() error {
		members, err := client.client().Agent().Members(false)
		if !slices.ContainsFunc(members, func(m *consul.AgentMember) bool { return m.Name == "lost" && m.Status == 4 }) {
			return fmt.Errorf("%v, %v", members, err)
		}
		return nil
	})
	client.rollcall("force-leave", "-prune", "lost")
	eventually(t, 60*time.Second, "who was taken out, pruned or reaped is not in the catalog any more", func() error {
		var nodes []struct{ Node string }
		if err := client.json("/v1/catalog/nodes", &nodes); err != nil || len(nodes) != 4 {
			return fmt.Errorf("%v, %v", nodes, err)
		}
		return nil
	})
	for i, arg := range s4.args { // its id makes the server, whatever it is called
		s4.args[i] = strings.Replace(arg, "-node=s4", "-node=a4", 1)
	}
	s4.run()
	eventually(t, 60*time.Second, "s4 is back with a vote and another name", wantSeats(op, "a4", "s1", "s2", "s3"))

	if err := op.RaftRemovePeerByAddress("127.0.0.1:1", nil); err == nil || !strings.Contains(err.Error(), `address "127.0.0.1:1" was not found`) {
		t.Errorf("removing nobody: %v", err)
	}
	config.ServerStabilizationTime = consul.NewReadableDuration(10 * time.Minute)
	if err := op.AutopilotSetConfiguration(config, nil); err != nil {
		t.Fatal(err)
	}
	if err := op.RaftRemovePeerByID(id["s4"], nil); err != nil {
		t.Fatal(err)
	}
	// It lives, so the leader takes it in again when it next looks: without a vote first.
	if got, _, err := seats(op); err != nil || slices.Contains(got, "a4") {
		t.Errorf("after a4 was removed: %v, %v", got, err)
	}
	state, err := op.AutopilotState(nil)
	if err != nil || state.Servers[id["s1"]].Name != "s1" || !slices.Contains(state.Voters, id["s2"]) {
		t.Errorf("autopilot's state: %+v, %v", state, err)
	}
}

// An event reaches every agent, and each takes it or not by its own name and services.
func TestEventsReachEveryAgent(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := startAgent(t, "web7", options{}, "-join="+server.lan)
	client.awaitLeader()
	if err := client.put("/v1/agent/service/register", `{"Name":"nginx","Tags":["blue"]}`); err != nil {
		t.Fatal(err)
	}
	_, meta, err := server.client().Event().List("", nil)
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan error, 1)
	go func() {
		events, _, err := server.client().Event().List("", &consul.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: time.Minute})
		if err == nil && (len(events) != 1 || events[0].Name != "all") {
			err = fmt.Errorf("woken with %v", events)
		}
		woken <- err
	}()
	fire := func(a *agent, e consul.UserEvent) string {
		t.Helper()
		id, _, err := a.client().Event().Fire(&e, nil)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	last := fire(client, consul.UserEvent{Name: "all", Payload: []byte("v7")})
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	fire(server, consul.UserEvent{Name: "webs", NodeFilter: "^web"})
	fire(server, consul.UserEvent{Name: "dbs", NodeFilter: "^db"})
	fire(client, consul.UserEvent{Name: "blue", ServiceFilter: "^nginx$", TagFilter: "blu"})
	fire(client, consul.UserEvent{Name: "red", ServiceFilter: "^nginx$", TagFilter: "red"})
	end := fire(client, consul.UserEvent{Name: "end"})
	for _, a := range []struct {
		*agent
		want []string
	}{{server, []string{"all", "end"}}, {client, []string{"all", "blue", "end", "webs"}}} {
		c := a.client()
		eventually(t, soon, "the events at "+a.name, func() error {
			events, meta, err := c.Event().List("", nil)
			if err != nil {
				return err
			}
			var names []string
			for _, e := range events {
				names = append(names, e.Name)
				if e.Name == "all" && (e.ID != last || string(e.Payload) != "v7" || e.LTime == 0) {
					t.Errorf("at %s: %+v", a.name, e)
				}
			}
			index := c.Event().IDToIndex(events[len(events)-1].ID)
			slices.Sort(names)
			if !slices.Equal(names, a.want) || meta.LastIndex != index {
				return fmt.Errorf("%v, index %d, want %d", names, meta.LastIndex, index)
			}
			return nil
		})
	}
	if events, _, err := client.client().Event().List("end", nil); err != nil || len(events) != 1 || events[0].ID != end {
		t.Errorf("by name: %v, %v", events, err)
	}
}

// A prepared query at a client agent: over HTTP and DNS, near, from a template, bound to
// a session, and after a restart of the server.
func TestPreparedQueries(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := startAgent(t, "c1", options{}, "-join="+server.lan)
	client.awaitLeader()
	c := client.client()
	for i, ms := range []float64{30, 10, 20} {
		node := fmt.Sprintf("n%d", i+1)
		body := fmt.Sprintf(`{"Node":%q,"Address":"10.0.0.%d","Service":{"ID":"w","Service":"web","Tags":["t%d"]}}`, node, i+1, i+1)
		if err := client.put("/v1/catalog/register", body); err != nil {
			t.Fatal(err)
		}
		if err := client.put("/v1/coordinate/update", fmt.Sprintf(`{"Node":%q,"Coord":{"Vec":[%g,0,0,0,0,0,0,0],"Height":1e-5}}`, node, ms/1000)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, soon, "coordinates of all, the agents' own too", func() error {
		all, _, err := c.Coordinate().Nodes(nil)
		if err != nil || len(all) != 5 {
			return fmt.Errorf("%d, %v", len(all), err)
		}
		return nil
	})
	nodes := func(query, params string) (string, error) {
		var res struct {
			Nodes []struct{ Node struct{ Node string } }
		}
		err := client.json("/v1/query/"+query+"/execute?"+params, &res)
		var out []string
		for _, n := range res.Nodes {
			out = append(out, n.Node.Node)
		}
		return strings.Join(out, " "), err
	}
	id, _, err := c.PreparedQuery().Create(&consul.PreparedQueryDefinition{
		Name: "nearby", Service: consul.ServiceQuery{Service: "web", Near: "n2"}, DNS: consul.QueryDNSOptions{TTL: "7s"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.PreparedQuery().Create(&consul.PreparedQueryDefinition{
		Name: "pick-", Template: consul.QueryTemplate{Type: "name_prefix_match", Regexp: "^pick-(.*)$"},
		Service: consul.ServiceQuery{Service: "web", Tags: []string{"${match(1)}"}},
	}, nil); err != nil {
		t.Fatal(err)
	}
	session, _, err := c.Session().CreateNoChecks(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.PreparedQuery().Create(&consul.PreparedQueryDefinition{Name: "bound", Session: session, Service: consul.ServiceQuery{Service: "web"}}, nil); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for _, q := range []struct{ query, params, want string }{
			{"nearby", "", "n2 n3 n1"}, {id, "limit=1", "n2"}, {"nearby", "near=n1", "n1 n3 n2"}, {"nearby", "near=_ip", "n2 n3 n1"}, {"pick-t3", "", "n3"}, {"pick-t9", "", ""},
		} {
			if got, err := nodes(q.query, q.params); err != nil || got != q.want && q.params != "near=_ip" {
				t.Errorf("%s?%s: %q, %v, want %q", q.query, q.params, got, err, q.want)
			}
		}
		for name, want := range map[string]string{"nearby": "10.0.0.2", "pick-t1": "10.0.0.1"} {
			m := new(dns.Msg)
			m.SetQuestion(name+".query.consul.", dns.TypeA)
			r, _, err := (&dns.Client{Timeout: 5 * time.Second, Net: "tcp"}).ExchangeContext(t.Context(), m, client.dns)
			if err != nil || len(r.Answer) == 0 || r.Answer[0].(*dns.A).A.String() != want {
				t.Fatalf("%s over DNS: %v, %v", name, r, err)
			}
			if ttl := r.Answer[0].Header().Ttl; name == "nearby" && ttl != 7 {
				t.Errorf("TTL %d, want 7", ttl)
			}
		}
	}
	check()
	if code, body, err := client.get("/v1/query/nope/execute"); err != nil || code != http.StatusNotFound {
		t.Errorf("an unknown query: %d %s, %v", code, body, err)
	}
	if _, err := nodes("bound", ""); err != nil {
		t.Errorf("bound: %v", err)
	}
	if _, err := c.Session().Destroy(session, nil); err != nil {
		t.Fatal(err)
	}
	if code, _, err := client.get("/v1/query/bound/execute"); err != nil || code != http.StatusNotFound {
		t.Errorf("after its session: %d, %v", code, err)
	}
	server.kill()
	server.run()
	eventually(t, soon, "the server is back", func() error { _, err := nodes("nearby", ""); return err })
	check()
}

// Keys are changed at a client agent while the cluster runs, and outlive a restart with
// the old key in the configuration.
func TestKeyringRotation(t *testing.T) {
	t.Parallel()
	key := func(b byte) string { return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(b), 32))) }
	server := startServer(t, "-encrypt="+key('a'))
	client := startAgent(t, "c1", options{}, "-encrypt="+key('a'), "-join="+server.lan)
	client.awaitLeader()
	op := client.client().Operator()
	for _, do := range []func() error{
		func() error { return op.KeyringInstall(key('b'), nil) },
		func() error { return op.KeyringUse(key('b'), nil) },
		func() error { return op.KeyringRemove(key('a'), nil) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	rings, err := server.client().Operator().KeyringList(nil)
	if err != nil || len(rings) == 0 {
		t.Fatal(rings, err)
	}
	for _, r := range rings {
		agents := 2
		if r.WAN { // of servers alone
			agents = 1
		}
		if want := map[string]int{key('b'): agents}; !maps.Equal(r.Keys, want) || !maps.Equal(r.PrimaryKeys, want) || r.NumNodes != agents {
			t.Errorf("%+v", r)
		}
	}
	var kept []string
	if b, err := os.ReadFile(filepath.Join(client.dir, "serf", "local.keyring")); err != nil || json.Unmarshal(b, &kept) != nil || len(kept) != 1 || kept[0] != key('b') {
		t.Errorf("the client's file has %d keys, %v", len(kept), err)
	}
	client.kill()
	client.run()
	client.awaitLeader()
	there := server.client().Agent()
	eventually(t, soon, "both are alive", func() error {
		members, err := there.Members(false)
		if err != nil || len(members) != 2 || members[0].Status != 1 || members[1].Status != 1 {
			return fmt.Errorf("%v, %v", members, err)
		}
		return nil
	})
	if err := op.KeyringRemove(key('b'), nil); err == nil || !strings.Contains(err.Error(), "primary key is not allowed") {
		t.Errorf("removing the key in use: %v", err)
	}
}
