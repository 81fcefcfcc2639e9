package httpapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

func (a *agent) Keyring(_ context.Context, _ string, c *command.Keyring) ([]*api.KeyringAnswer, error) {
	err := a.note("keyring %s %q %d %t", c.Do, c.Key, c.Relay, c.Here)
	return []*api.KeyringAnswer{{Datacenter: "dc1", Keys: map[string]int{"k": 1}, PrimaryKeys: map[string]int{"k": 1}, NumNodes: 1}}, err
}

func TestKeyringAnswers(t *testing.T) {
	answers(t, "keyring.golden", []string{
		"GET /v1/operator/keyring", `POST /v1/operator/keyring {"Key":"k"}`, `PUT /v1/operator/keyring {"key":"k"}`, `DELETE /v1/operator/keyring {"Key":"k"}`,
		"PUT /v1/operator/keyring", "GET /v1/operator/keyring?relay-factor=6", "GET /v1/operator/keyring?relay-factor=x", "GET /v1/operator/keyring?local-only=maybe",
		`PUT /v1/operator/keyring?local-only {"Key":"k"}`,
	})
}

func TestKeyringAsks(t *testing.T) {
	h := newHouse(nil)
	h.do(t, http.MethodGet, "/v1/operator/keyring?relay-factor=2&local-only=true", "")
	h.do(t, http.MethodPost, "/v1/operator/keyring", `{"Key":"a"}`)
	h.do(t, http.MethodPut, "/v1/operator/keyring", `{"Key":"b"}`)
	h.do(t, http.MethodDelete, "/v1/operator/keyring?relay-factor=5", `{"Key":"c"}`)
	want := []string{`keyring list "" 2 true`, `keyring install "a" 0 false`, `keyring use "b" 0 false`, `keyring remove "c" 5 false`}
	for i := range want {
		if i >= len(h.agent.calls) || h.agent.calls[i] != want[i] {
			t.Fatalf("asked %q, want %q", h.agent.calls, want)
		}
	}
}

// foundOperating is what the catalog knows of the servers, and for pages.
func foundOperating(q *endpoint.Query) (any, bool) {
	info := &api.NodeInfo{Node: "n1", Address: "10.0.0.1", Services: []*api.Service{oneService}, Checks: []*api.Check{oneCheck}}
	switch q.Kind {
	case endpoint.AutopilotConfig:
		c := api.DefaultAutopilot()
		c.CreateIndex, c.ModifyIndex = 4, 4
		return &c, true
	case endpoint.AutopilotHealth:
		return &api.AutopilotHealth{Healthy: q.Token != "sick", Servers: []api.ServerHealth{{ID: "i", Name: "n1", SerfStatus: "alive", Healthy: true, Voter: true, Leader: true}}}, true
	case endpoint.AutopilotState:
		return &api.AutopilotState{Healthy: true, Leader: "i", Voters: []string{"i"}, Servers: map[string]api.AutopilotServer{"i": {ID: "i", Name: "n1", Status: "leader", Meta: map[string]string{}}}}, true
	case endpoint.Usage:
		return &api.DatacenterUsage{Nodes: 1, Services: 2, ServiceInstances: 3, BillableServiceInstances: 2, ConnectServiceInstances: map[string]int{"connect-proxy": 0}}, true
	case endpoint.UINodes:
		return []*api.NodeInfo{info}, true
	case endpoint.UINode:
		if q.Name == "n1" {
			return []*api.NodeInfo{info}, true
		}
		return []*api.NodeInfo{}, false
	case endpoint.UIServices:
		return []*api.ServiceSummary{{Name: "web", Tags: []string{"a&b"}, Nodes: []string{"n1"}, InstanceCount: 1, ChecksPassing: 1, ExternalSources: []string{}}}, true
	case endpoint.UIOverview:
		return &api.CatalogOverview{Nodes: []*api.HealthCount{{Total: 1, Passing: 1}}, Services: []*api.HealthCount{{Name: "web", Total: 1, Passing: 1}}, Checks: []*api.HealthCount{}}, true
	}
	return nil, false
}

func TestOperatorAnswers(t *testing.T) {
	answers(t, "operator.golden", []string{
		"DELETE /v1/operator/raft/peer", "DELETE /v1/operator/raft/peer?id=i&address=a", "DELETE /v1/operator/raft/peer?id=i", "GET /v1/operator/raft/peer",
		"POST /v1/operator/raft/transfer-leader", "PUT /v1/operator/raft/transfer-leader",
		"GET /v1/operator/autopilot/configuration", `PUT /v1/operator/autopilot/configuration {"CleanupDeadServers":false,"LastContactThreshold":"1s"}`,
		"PUT /v1/operator/autopilot/configuration?cas=x {}", "PUT /v1/operator/autopilot/configuration {", "GET /v1/operator/autopilot/health",
		"GET /v1/operator/autopilot/health?token=sick", "GET /v1/operator/autopilot/state", "GET /v1/operator/usage", "GET /v1/operator/usage?dc=dc2",
	})
}

func TestUIAnswers(t *testing.T) {
	answers(t, "ui.golden", []string{
		"GET /v1/internal/ui/nodes", "GET /v1/internal/ui/node/n1", "GET /v1/internal/ui/node/nope", "GET /v1/internal/ui/node/", "GET /v1/internal/ui/services",
		"GET /v1/internal/ui/catalog-overview",
	})
}

func TestOperatorWrites(t *testing.T) {
	for line, want := range map[string]command.Command{
		"DELETE /v1/operator/raft/peer?id=i":             &command.Operate{Verb: command.RemovePeer, ID: "i"},
		"DELETE /v1/operator/raft/peer?address=a:8300":   &command.Operate{Verb: command.RemovePeer, Address: "a:8300"},
		"POST /v1/operator/raft/transfer-leader":         &command.Operate{Verb: command.TransferLeader},
		"POST /v1/operator/raft/transfer-leader?id=i":    &command.Operate{Verb: command.TransferLeader, ID: "i"},
		"PUT /v1/operator/autopilot/configuration":       &command.Autopilot{Config: api.AutopilotConfig{MinQuorum: 3}},
		"PUT /v1/operator/autopilot/configuration?cas=7": &command.Autopilot{Config: api.AutopilotConfig{MinQuorum: 3, ModifyIndex: 7}, CAS: true},
	} {
		h := newHouse(nil)
		method, url, _ := strings.Cut(line, " ")
		h.do(t, method, url, `{"MinQuorum":3,"ModifyIndex":9}`)
		if d := cmp.Diff([]endpoint.Write{{Command: want}}, h.catalog.wrote); d != "" {
			t.Errorf("%s: want (-) got (+):\n%s", line, d)
		}
	}
}
