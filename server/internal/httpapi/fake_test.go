package httpapi

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// catalog is an endpoint with one node, one service and one key.
type catalog struct {
	mu     sync.Mutex
	asked  []endpoint.Query // guarded by mu
	wrote  []endpoint.Write // guarded by mu
	answer func(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error)
	result func(w *endpoint.Write) (*command.Result, error)
}

var (
	oneNode    = &api.Node{ID: "", Node: "n1", Address: "10.0.0.1", Datacenter: "dc1", TaggedAddresses: map[string]string{}, Meta: map[string]string{}, CreateIndex: 3, ModifyIndex: 4}
	oneService = &api.Service{ID: "web1", Service: "web", Tags: []string{"a&b"}, Meta: map[string]string{}, Port: 80, Weights: api.Weights{Passing: 1, Warning: 1}, CreateIndex: 5, ModifyIndex: 6}
	oneCheck   = &api.Check{Node: "n1", CheckID: "service:web1", Name: "Service 'web' check", Status: api.Passing, Output: "<ok>", ServiceID: "web1", ServiceName: "web", ServiceTags: []string{"a&b"}, Type: "ttl"}
	onePair    = &api.KVPair{Key: "a", Flags: 42, Value: []byte("x\n"), CreateIndex: 7, ModifyIndex: 8}
)

// found is what the catalog has, by kind and name.
func found(q *endpoint.Query) (any, bool) {
	known := q.Name == "web" || q.Name == "n1" || q.Name == "a" || q.Name == "passing"
	switch q.Kind {
	case endpoint.Datacenters:
		return []string{"dc1"}, true
	case endpoint.Leader:
		return "10.0.0.1:8300", true
	case endpoint.Peers:
		return []string{"10.0.0.1:8300"}, true
	case endpoint.Raft:
		return &api.RaftConfiguration{Servers: []*api.RaftServer{{ID: "i", Node: "n1", Address: "10.0.0.1:8300", Leader: true, ProtocolVersion: "3", Voter: true}}}, true
	case endpoint.Nodes:
		return []*api.Node{oneNode}, true
	case endpoint.Services:
		return map[string][]string{"web": {"a&b"}}, true
	case endpoint.ServiceNodes:
		if known {
			return []*api.ServiceNode{{Node: "n1", Address: "10.0.0.1", ServiceID: "web1", ServiceName: "web", ServiceTags: []string{}}}, true
		}
		return []*api.ServiceNode{}, true
	case endpoint.NodeServices:
		if known {
			return &api.NodeServices{Node: oneNode, Services: map[string]*api.Service{"web1": oneService}}, true
		}
		return (*api.NodeServices)(nil), true
	case endpoint.NodeList:
		return &endpoint.NodeServiceList{Node: oneNode, Services: []*api.Service{oneService}}, true
	case endpoint.HealthNode, endpoint.HealthChecks, endpoint.HealthState:
		if known {
			return []*api.Check{oneCheck}, true
		}
		return []*api.Check{}, true
	case endpoint.HealthService:
		if known {
			return []*api.Instance{{Node: oneNode, Service: oneService, Checks: []*api.Check{oneCheck}}}, true
		}
		return []*api.Instance{}, true
	case endpoint.KVGet, endpoint.KVList:
		return []*api.KVPair{onePair}, known
	case endpoint.KVKeys:
		return []string{"a", "a/"}, known
	}
	return foundMore(q)
}

func (c *catalog) Read(ctx context.Context, q *endpoint.Query) (*endpoint.Answer, error) {
	c.mu.Lock()
	c.asked = append(c.asked, *q)
	c.mu.Unlock()
	if c.answer != nil {
		return c.answer(ctx, q)
	}
	v, ok := found(q)
	b, err := marshal(v)
	if err != nil {
		return nil, err
	}
	return endpoint.Encoded(api.QueryMeta{Index: 12, KnownLeader: true, Consistency: q.Consistency}, ok, b), nil
}

func (c *catalog) Write(_ context.Context, w *endpoint.Write) (*command.Result, error) {
	c.mu.Lock()
	c.wrote = append(c.wrote, *w)
	c.mu.Unlock()
	if c.result != nil {
		return c.result(w)
	}
	return &command.Result{Index: 13, OK: true}, nil
}

// agent is an agent that notes what is asked of it.
type agent struct {
	mu    sync.Mutex
	calls []string      // guarded by mu
	next  chan struct{} // guarded by mu; closes at the next event
	fired uint64        // guarded by mu
	err   error         // of all that change something
}

func (a *agent) note(format string, args ...any) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf(format, args...))
	return a.err
}

func (a *agent) Self(context.Context) (*api.Self, error) {
	return &api.Self{Config: map[string]any{"Datacenter": "dc1", "NodeName": "n1"}, Meta: map[string]string{}}, a.err
}

func (a *agent) Members(wan bool) ([]api.Member, error) {
	name := "n1"
	if wan {
		name = "n1.dc1"
	}
	return []api.Member{{Name: name, Addr: "10.0.0.1", Port: 8301, Status: api.StatusAlive}}, a.err
}

func (a *agent) Services() map[string]*api.Service {
	return map[string]*api.Service{"web1": oneService}
}

func (a *agent) Checks() map[string]*api.Check {
	return map[string]*api.Check{
		oneCheck.CheckID: oneCheck,
		"node":           {Node: "n1", CheckID: "node", Name: "disk", Status: api.Warning, ServiceTags: []string{}},
		"other":          {Node: "n1", CheckID: "other", Name: "db", Status: api.Critical, ServiceID: "db", ServiceTags: []string{}},
	}
}

func (a *agent) Service(id string) *api.Service { return a.Services()[id] }
func (a *agent) Check(id string) *api.Check     { return a.Checks()[id] }

func (a *agent) ServiceChecks(id string) (all []*api.Check, known bool) {
	checks := a.Checks()
	for _, cid := range slices.Sorted(maps.Keys(checks)) {
		if c := checks[cid]; c.ServiceID == "" || c.ServiceID == id {
			all = append(all, c)
		}
	}
	return all, a.Service(id) != nil
}

func (a *agent) Join(_ context.Context, addr string, wan bool) error {
	return a.note("join %s %v", addr, wan)
}
func (a *agent) Leave(context.Context) error { return a.note("leave") }
func (a *agent) ForceLeave(node string, prune, wan bool) error {
	return a.note("force-leave %s %v %v", node, prune, wan)
}
func (a *agent) Reload(context.Context) error { return a.note("reload") }
func (a *agent) RegisterService(_ context.Context, d *api.ServiceDefinition, replace bool) error {
	return a.note("service %s %s port=%d checks=%d token=%s %v", d.ID, d.Name, d.Port, len(d.AllChecks()), d.Token, replace)
}
func (a *agent) DeregisterService(_ context.Context, id string) error {
	return a.note("-service %s", id)
}
func (a *agent) RegisterCheck(_ context.Context, d *api.CheckDefinition) error {
	return a.note("check %s %s ttl=%s token=%s", d.Name, d.ServiceID, d.TTL, d.Token)
}
func (a *agent) DeregisterCheck(_ context.Context, id string) error { return a.note("-check %s", id) }
func (a *agent) UpdateTTL(_ context.Context, id, status, output string) error {
	return a.note("ttl %s %s %q", id, status, output)
}
func (a *agent) ServiceMaintenance(_ context.Context, id string, on bool, reason string) error {
	return a.note("maint %s %v %q", id, on, reason)
}
func (a *agent) NodeMaintenance(_ context.Context, on bool, reason string) error {
	return a.note("maint %v %q", on, reason)
}

// house is a server with its fakes.
type house struct {
	*Server
	catalog *catalog
	agent   *agent
}

func newHouse(change func(*Config)) *house {
	h := &house{catalog: &catalog{}, agent: &agent{}}
	cfg := Config{Endpoint: h.catalog, Agent: h.agent, Events: h.agent, Operator: h.agent, Datacenter: "dc1", Node: "n1"}
	if change != nil {
		change(&cfg)
	}
	h.Server = New(cfg)
	return h
}

// do carries out one request; header is "Name: value" lines.
func (h *house) do(t *testing.T, method, url, body string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequest(method, "http://agent"+url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "192.0.2.7:1234"
	for _, line := range header {
		k, v, _ := strings.Cut(line, ": ")
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	return w.Result()
}
