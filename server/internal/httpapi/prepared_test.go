package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const oneQueryID = "f1575ee8-92f1-4ba1-9eb9-2f4fcc3d7da0"

// foundMore is what the catalog has of prepared queries, coordinates and operation.
func foundMore(q *endpoint.Query) (any, bool) {
	query := &api.PreparedQuery{ID: oneQueryID, Name: "q", Service: api.ServiceQuery{Service: "web"}, CreateIndex: 9, ModifyIndex: 9}
	place := &api.CoordinateEntry{Node: "n1", Coord: &api.Coordinate{Vec: make([]float64, 8), Error: 1.5, Height: 0.00001}}
	switch q.Kind {
	case endpoint.QueryList:
		return []*api.PreparedQuery{query}, true
	case endpoint.QueryGet:
		return []*api.PreparedQuery{query}, q.Name == oneQueryID
	case endpoint.QueryExecute:
		return &api.QueryResult{Service: "web", Nodes: []*api.Instance{}, Datacenter: "dc1", KnownLeader: true, ConsistencyLevel: "leader"}, true
	case endpoint.QueryExplain:
		return &api.QueryExplanation{Query: query, KnownLeader: true, ConsistencyLevel: "leader"}, true
	case endpoint.CoordinateNodes:
		return []*api.CoordinateEntry{place}, true
	case endpoint.CoordinateNode:
		return []*api.CoordinateEntry{place}, q.Name == "n1"
	case endpoint.CoordinateDatacenters:
		return []*api.DatacenterCoordinates{{Datacenter: "dc1", AreaID: "wan", Coordinates: []*api.CoordinateEntry{place}}}, true
	}
	return foundOperating(q)
}

// answers holds the bytes of what a list of requests gets.
func answers(t *testing.T, file string, requests []string) {
	t.Helper()
	var b strings.Builder
	for _, line := range requests {
		h := newHouse(nil)
		method, rest, _ := strings.Cut(line, " ")
		url, body, _ := strings.Cut(rest, " ")
		fmt.Fprintf(&b, "== %s\n%s\n", line, plain(t, h.do(t, method, url, body)))
	}
	golden(t, file, b.String())
}

func TestQueryAnswers(t *testing.T) {
	answers(t, "query.golden", []string{
		"GET /v1/query", "PUT /v1/query", `POST /v1/query {"ID":"x"}`, "POST /v1/query {",
		"GET /v1/query/" + oneQueryID, "GET /v1/query/f1575ee8-92f1-4ba1-9eb9-2f4fcc3d7da1", "GET /v1/query/nope", "GET /v1/query/" + strings.Repeat("x", 36),
		"PUT /v1/query/nope {}", "DELETE /v1/query/nope", `PUT /v1/query/` + oneQueryID + ` {"Name":"q"}`, "DELETE /v1/query/" + oneQueryID,
		"GET /v1/query/q/execute", "GET /v1/query/q/execute?limit=x", "GET /v1/query/execute", "PUT /v1/query/q/execute", "DELETE /v1/query/q/explain",
		"GET /v1/query/q/explain",
	})
}

func TestCoordinateAnswers(t *testing.T) {
	answers(t, "coordinate.golden", []string{
		"GET /v1/coordinate/nodes", "GET /v1/coordinate/node/n1", "GET /v1/coordinate/node/nope", "GET /v1/coordinate/datacenters",
		`PUT /v1/coordinate/update {"Node":"n1"}`, "PUT /v1/coordinate/update {",
	})
}

// A new query gets an id, which is the one that is written.
func TestQueryCreateWritesWhatItAnswers(t *testing.T) {
	h := newHouse(nil)
	resp := h.do(t, http.MethodPost, "/v1/query", `{"Name":"q","Service":{"Service":"web","Tags":["!x"]},"DNS":{"TTL":"5s"}}`, "X-Consul-Token: t")
	var got map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode, err)
	}
	want := &command.Query{Verb: command.CreateQuery, Query: api.PreparedQuery{
		ID: got["ID"], Name: "q", Service: api.ServiceQuery{Service: "web", Tags: []string{"!x"}}, DNS: api.QueryDNS{TTL: "5s"},
	}}
	if d := cmp.Diff([]endpoint.Write{{Token: "t", Command: want}}, h.catalog.wrote); d != "" || len(got["ID"]) != 36 {
		t.Errorf("answer %v; written, want (-) got (+):\n%s", got, d)
	}
}

// What an execution is told of the caller and of the agent that is asked.
func TestQueryExecuteAsks(t *testing.T) {
	for url, want := range map[string]endpoint.Execution{
		"/v1/query/a/b/execute":                         {Source: endpoint.Source{IP: "192.0.2.7"}},
		"/v1/query/a/b/execute?near=_agent&limit=3":     {Limit: 3, Source: endpoint.Source{Node: "_agent", IP: "192.0.2.7"}},
		"/v1/query/a/b/execute?near=n7&dc=dc2&limit=-1": {Limit: -1, Source: endpoint.Source{Node: "n7", Datacenter: "dc2", IP: "192.0.2.7"}},
	} {
		h := newHouse(nil)
		h.do(t, http.MethodGet, url, "")
		want.Agent = endpoint.Source{Datacenter: "dc1", Node: "n1"}
		if len(h.catalog.asked) != 1 || h.catalog.asked[0].Name != "a/b" {
			t.Fatalf("%s: asked %+v", url, h.catalog.asked)
		}
		if d := cmp.Diff(&want, h.catalog.asked[0].Execution); d != "" {
			t.Errorf("%s: want (-) got (+):\n%s", url, d)
		}
	}
	h := newHouse(nil)
	h.do(t, http.MethodGet, "/v1/query/q/execute", "", "X-Forwarded-For: 203.0.113.9, 10.0.0.1")
	if got := h.catalog.asked[0].Execution.Source.IP; got != "203.0.113.9" {
		t.Errorf("behind a proxy the caller is %q", got)
	}
}

// near=_agent is this agent, but not in another datacenter.
func TestNear(t *testing.T) {
	for url, want := range map[string]string{
		"/v1/catalog/nodes?near=_agent": "n1", "/v1/catalog/nodes?near=n7": "n7", "/v1/catalog/nodes": "",
		"/v1/health/service/web?near=_agent&dc=dc1": "n1", "/v1/health/service/web?near=_agent&dc=dc2": "",
	} {
		h := newHouse(nil)
		h.do(t, http.MethodGet, url, "")
		if got := h.catalog.asked[0].Near; got != want {
			t.Errorf("%s: near %q, want %q", url, got, want)
		}
	}
}

// What is of no datacenter is asked here, whatever dc says.
func TestEverywhere(t *testing.T) {
	for _, url := range []string{"/v1/catalog/datacenters?dc=dc9", "/v1/coordinate/datacenters?dc=dc9"} {
		h := newHouse(nil)
		h.do(t, http.MethodGet, url, "")
		if len(h.catalog.asked) != 1 || h.catalog.asked[0].Datacenter != "" {
			t.Errorf("%s asks %+v", url, h.catalog.asked)
		}
	}
}

func TestNoCoordinates(t *testing.T) {
	h := newHouse(func(c *Config) { c.NoCoordinates = true })
	for _, line := range []string{
		"GET /v1/coordinate/nodes", "GET /v1/coordinate/node/n1", "GET /v1/coordinate/datacenters", `PUT /v1/coordinate/update {"Node":"n1"}`,
	} {
		method, rest, _ := strings.Cut(line, " ")
		url, body, _ := strings.Cut(rest, " ")
		if resp := h.do(t, method, url, body); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", line, resp.StatusCode)
		}
	}
}
