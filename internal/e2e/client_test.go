package e2e

import (
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// The stock Go client, unchanged: KV, catalog, health with blocking queries, and
// registration with the agent.
func TestStockClient(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	c := server.client()
	t.Run("kv", func(t *testing.T) { stockKV(t, c.KV()) })
	t.Run("catalog", func(t *testing.T) { stockCatalog(t, c) })
	t.Run("agent", func(t *testing.T) { stockAgent(t, c) })
	t.Run("status", func(t *testing.T) {
		leader, err := c.Status().Leader()
		if err != nil || leader == "" {
			t.Errorf("leader: %q, %v", leader, err)
		}
		self, err := c.Agent().Self()
		if err != nil || self["Config"]["Datacenter"] != "dc1" || self["Config"]["NodeName"] != "server-host" {
			t.Errorf("self: %v, %v", self["Config"], err)
		}
		raft, err := c.Operator().RaftGetConfiguration(nil)
		if err != nil || len(raft.Servers) != 1 || !raft.Servers[0].Leader || raft.Servers[0].Node != "server-host" {
			t.Errorf("raft: %+v, %v", raft, err)
		}
	})
}

func stockKV(t *testing.T, kv *consul.KV) {
	if p, meta, err := kv.Get("app/none", nil); err != nil || p != nil || meta.LastIndex == 0 {
		t.Errorf("a missing key: %v, %+v, %v", p, meta, err)
	}
	if _, err := kv.Put(&consul.KVPair{Key: "app/a", Value: []byte("1"), Flags: 42}, nil); err != nil {
		t.Fatal(err)
	}
	p, meta, err := kv.Get("app/a", nil)
	if err != nil || string(p.Value) != "1" || p.Flags != 42 || meta.LastIndex != p.ModifyIndex {
		t.Fatalf("get: %+v, %+v, %v", p, meta, err)
	}
	if ok, _, err := kv.CAS(&consul.KVPair{Key: "app/a", Value: []byte("2"), ModifyIndex: p.ModifyIndex + 1}, nil); err != nil || ok {
		t.Errorf("cas with a wrong index: %t, %v", ok, err)
	}
	if ok, _, err := kv.CAS(&consul.KVPair{Key: "app/a", Value: []byte("2"), ModifyIndex: p.ModifyIndex}, nil); err != nil || !ok {
		t.Errorf("cas: %t, %v", ok, err)
	}
	// an idempotent write moves nothing
	before, _, _ := kv.Get("app/a", nil)
	if _, err := kv.Put(&consul.KVPair{Key: "app/a", Value: []byte("2")}, nil); err != nil {
		t.Fatal(err)
	}
	if after, _, err := kv.Get("app/a", nil); err != nil || after.ModifyIndex != before.ModifyIndex {
		t.Errorf("the same value again: index %d, was %d, %v", after.ModifyIndex, before.ModifyIndex, err)
	}
	for _, k := range []string{"app/b/1", "app/b/2", "app/c"} {
		if _, err := kv.Put(&consul.KVPair{Key: k}, nil); err != nil {
			t.Fatal(err)
		}
	}
	keys, _, err := kv.Keys("app/", "/", nil)
	if err != nil || len(keys) != 3 || keys[1] != "app/b/" {
		t.Errorf("keys: %v, %v", keys, err)
	}
	_, list, err := kv.List("app/", nil)
	if err != nil {
		t.Fatal(err)
	}
	woken := make(chan *consul.QueryMeta, 1)
	go func() {
		_, m, err := kv.List("app/", &consul.QueryOptions{WaitIndex: list.LastIndex, WaitTime: 20 * time.Second})
		if err != nil {
			t.Error(err)
		}
		woken <- m
	}()
	if _, err := kv.Put(&consul.KVPair{Key: "elsewhere"}, nil); err != nil { // wakes nobody
		t.Fatal(err)
	}
	if _, err := kv.DeleteTree("app/b/", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-woken:
		if m == nil || m.LastIndex <= list.LastIndex {
			t.Errorf("woken at %+v, was %d", m, list.LastIndex)
		}
	case <-time.After(10 * time.Second):
		t.Error("a deletion below the prefix does not wake its watcher")
	}
}

func stockCatalog(t *testing.T, c *consul.Client) {
	reg := &consul.CatalogRegistration{
		Node: "ext", Address: "10.9.9.9", NodeMeta: map[string]string{"kind": "external"},
		Service: &consul.AgentService{ID: "db1", Service: "db", Port: 5432, Tags: []string{"primary"}},
		Checks:  consul.HealthChecks{{Node: "ext", CheckID: "ping", Name: "Ping", Status: "passing", ServiceID: "db1"}},
	}
	if _, err := c.Catalog().Register(reg, nil); err != nil {
		t.Fatal(err)
	}
	rows, meta, err := c.Catalog().Service("db", "primary", nil)
	if err != nil || len(rows) != 1 || rows[0].Address != "10.9.9.9" || rows[0].ServicePort != 5432 || rows[0].NodeMeta["kind"] != "external" {
		t.Fatalf("service: %+v, %v", rows, err)
	}
	nodes, _, err := c.Catalog().Nodes(&consul.QueryOptions{NodeMeta: map[string]string{"kind": "external"}})
	if err != nil || len(nodes) != 1 || nodes[0].Node != "ext" {
		t.Errorf("nodes by meta: %+v, %v", nodes, err)
	}
	woken := make(chan []*consul.ServiceEntry, 1)
	go func() {
		es, _, err := c.Health().Service("db", "", true, &consul.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 20 * time.Second})
		if err != nil {
			t.Error(err)
		}
		woken <- es
	}()
	reg.Checks[0].Status = "critical"
	reg.SkipNodeUpdate = true
	if _, err := c.Catalog().Register(reg, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case es := <-woken:
		if len(es) != 0 {
			t.Errorf("passing instances after the check turned critical: %+v", es)
		}
	case <-time.After(10 * time.Second):
		t.Error("a change of status does not wake a health watcher")
	}
	if _, err := c.Catalog().Deregister(&consul.CatalogDeregistration{Node: "ext"}, nil); err != nil {
		t.Fatal(err)
	}
	if rows, _, err := c.Catalog().Service("db", "", nil); err != nil || len(rows) != 0 {
		t.Errorf("after the node is gone: %+v, %v", rows, err)
	}
}

func stockAgent(t *testing.T, c *consul.Client) {
	a := c.Agent()
	reg := &consul.AgentServiceRegistration{
		ID: "w1", Name: "worker", Port: 9, Tags: []string{"x"}, Meta: map[string]string{"v": "1"},
		Checks: consul.AgentServiceChecks{{CheckID: "beat", TTL: "10m"}, {TCP: "127.0.0.1:1", Interval: "10m"}},
	}
	if err := a.ServiceRegister(reg); err != nil {
		t.Fatal(err)
	}
	if err := a.UpdateTTL("beat", "fine", "pass"); err != nil {
		t.Fatal(err)
	}
	if err := a.UpdateTTL("none", "", "pass"); err == nil {
		t.Error("an unknown check was updated")
	}
	es, _, err := c.Health().Service("worker", "", false, nil)
	if err != nil || len(es) != 1 || es[0].Service.Meta["v"] != "1" || len(es[0].Checks) != 3 {
		t.Fatalf("health of the service: %+v, %v", es, err)
	}
	if got := es[0].Checks.AggregatedStatus(); got != "critical" {
		t.Errorf("status: %s, want critical", got)
	}
	if err := a.EnableServiceMaintenance("w1", "tea"); err != nil {
		t.Fatal(err)
	}
	if es, _, err = c.Health().Service("worker", "", false, nil); err != nil || es[0].Checks.AggregatedStatus() != consul.HealthMaint {
		t.Errorf("in maintenance: %v, %v", es[0].Checks.AggregatedStatus(), err)
	}
	if err := a.DisableServiceMaintenance("w1"); err != nil {
		t.Fatal(err)
	}
	if err := a.ServiceDeregister("w1"); err != nil {
		t.Fatal(err)
	}
	if services, err := a.Services(); err != nil || services["w1"] != nil {
		t.Errorf("after deregistration: %v, %v", services, err)
	}
	if members, err := a.Members(false); err != nil || len(members) != 1 || members[0].Tags["role"] != "consul" {
		t.Errorf("members: %+v, %v", members, err)
	}
}
