package httpapi

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// TestWritesReachTheEndpoint: each request that changes the catalog is one command.
func TestWritesReachTheEndpoint(t *testing.T) {
	kv := func(v command.Verb, p api.KVPair) *command.KV { return &command.KV{Verb: v, Pair: p} }
	for _, c := range []struct {
		method, url, body string
		want              endpoint.Write
	}{
		{"PUT", "/v1/kv/a/b?flags=42&dc=dc2&token=t", "x", endpoint.Write{Datacenter: "dc2", Token: "t", Command: kv(command.Set, api.KVPair{Key: "a/b", Flags: 42, Value: []byte("x")})}},
		{"PUT", "/v1/kv//lead", "", endpoint.Write{Command: kv(command.Set, api.KVPair{Key: "/lead"})}},
		{"PUT", "/v1/kv/a?cas=0", "x", endpoint.Write{Command: kv(command.CAS, api.KVPair{Key: "a", Value: []byte("x")})}},
		{"PUT", "/v1/kv/a?cas=9", "x", endpoint.Write{Command: kv(command.CAS, api.KVPair{Key: "a", Value: []byte("x"), ModifyIndex: 9})}},
		{"PUT", "/v1/kv/a?acquire=s", "x", endpoint.Write{Command: kv(command.Lock, api.KVPair{Key: "a", Value: []byte("x"), Session: "s"})}},
		{"PUT", "/v1/kv/a?release=s", "x", endpoint.Write{Command: kv(command.Unlock, api.KVPair{Key: "a", Value: []byte("x"), Session: "s"})}},
		{"DELETE", "/v1/kv/a", "", endpoint.Write{Command: kv(command.Delete, api.KVPair{Key: "a"})}},
		{"DELETE", "/v1/kv/a?cas=3", "", endpoint.Write{Command: kv(command.DeleteCAS, api.KVPair{Key: "a", ModifyIndex: 3})}},
		{"DELETE", "/v1/kv/a/?recurse", "", endpoint.Write{Command: kv(command.DeleteTree, api.KVPair{Key: "a/"})}},
		{"DELETE", "/v1/kv/?recurse", "", endpoint.Write{Command: kv(command.DeleteTree, api.KVPair{})}},
		{"PUT", "/v1/catalog/register", `{"datacenter":"dc3","node":"n","ADDRESS":"1.2.3.4","service":{"service":"web","port":8},"Unknown":1}`, endpoint.Write{
			Datacenter: "dc3",
			Command:    &command.Register{Registration: api.Registration{Datacenter: "dc3", Node: "n", Address: "1.2.3.4", Service: &api.Service{Service: "web", Port: 8}}},
		}},
		{"PUT", "/v1/catalog/deregister?dc=dc4", `{"Node":"n","ServiceID":"w"}`, endpoint.Write{
			Datacenter: "dc4", Command: &command.Deregister{Deregistration: api.Deregistration{Node: "n", ServiceID: "w"}},
		}},
	} {
		h := newHouse(nil)
		r := h.do(t, c.method, c.url, c.body)
		if got := read(t, r); r.StatusCode != 200 || got != "true" {
			t.Errorf("%s %s: %d %q", c.method, c.url, r.StatusCode, got)
		}
		if d := cmp.Diff([]endpoint.Write{c.want}, h.catalog.wrote); d != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.method, c.url, d)
		}
	}
}

func TestAConditionThatDoesNotHold(t *testing.T) {
	h := newHouse(nil)
	h.catalog.result = func(*endpoint.Write) (*command.Result, error) { return &command.Result{}, nil }
	r := h.do(t, "PUT", "/v1/kv/a?cas=1", "x")
	if got := read(t, r); r.StatusCode != 200 || got != "false" {
		t.Errorf("%d %q", r.StatusCode, got)
	}
}

// TestCallsReachTheAgent: each request to the agent is one call.
func TestCallsReachTheAgent(t *testing.T) {
	for _, c := range []struct{ url, body, want string }{
		{"/v1/agent/service/register?token=t", `{"ID":"w","Name":"web","port":80,"checks":[{"ttl":"1s"},{"TTL":"2s"}]}`, "service w web port=80 checks=2 token=t false"},
		{"/v1/agent/service/register?token=t&replace-existing-checks", `{"Name":"web","Token":"own","Check":{"Script":"x","Interval":"1s"}}`, "service  web port=0 checks=1 token=own true"},
		{"/v1/agent/service/register?replace-existing-checks=true", `{"Name":"web"}`, "service  web port=0 checks=0 token= true"},
		{"/v1/agent/service/register?replace-existing-checks=false", `{"Name":"web"}`, "service  web port=0 checks=0 token= false"},
		{"/v1/agent/service/deregister/host:nginx:80:udp", "", "-service host:nginx:80:udp"},
		{"/v1/agent/service/deregister/a%2Fb", "", "-service a/b"},
		{"/v1/agent/service/maintenance/w?enable=true&reason=too+hot", "", `maint w true "too hot"`},
		{"/v1/agent/service/maintenance/w?enable=0", "", `maint w false ""`},
		{"/v1/agent/maintenance?enable=true&reason=r", "", `maint true "r"`},
		{"/v1/agent/check/register", `{"name":"c","service_id":"w","ttl":"10s"}`, "check c w ttl=10s token="},
		{"/v1/agent/check/deregister/service:w", "", "-check service:w"},
		{"/v1/agent/check/pass/c?note=fine", "", `ttl c passing "fine"`},
		{"/v1/agent/check/warn/c", "", `ttl c warning ""`},
		{"/v1/agent/check/fail/c?note=a%0Ab", "", `ttl c critical "a\nb"`},
		{"/v1/agent/check/update/c", `{"Status":"warning","Output":"o"}`, `ttl c warning "o"`},
		{"/v1/agent/join/10.0.0.9?wan=1", "", "join 10.0.0.9 true"},
		{"/v1/agent/leave", "", "leave"},
		{"/v1/agent/force-leave/n9?prune", "", "force-leave n9 true false"},
		{"/v1/agent/reload", "", "reload"},
	} {
		h := newHouse(nil)
		r := h.do(t, "PUT", c.url, c.body)
		if got := read(t, r); r.StatusCode != 200 || got != "" {
			t.Errorf("%s: %d %q", c.url, r.StatusCode, got)
		}
		if len(h.agent.calls) != 1 || h.agent.calls[0] != c.want {
			t.Errorf("%s: calls %q, want %q", c.url, h.agent.calls, c.want)
		}
		h.agent.err = api.Errorf(api.NotFound, "Unknown it")
		if r := h.do(t, "PUT", c.url, c.body); r.StatusCode != 404 || read(t, r) != "Unknown it" {
			t.Errorf("%s: %d", c.url, r.StatusCode)
		}
	}
}
