package httpapi

import (
	"context"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
)

// atServers are the areas whose routes the servers judge.
var atServers = []string{"/v1/status/", "/v1/catalog/", "/v1/health/", "/v1/coordinate/", "/v1/kv/", "/v1/txn", "/v1/session/", "/v1/query", "/v1/snapshot",
	"/v1/operator/", "/v1/internal/ui/", "/v1/acl/", "/v1/connect/ca/roots"}

// Every route is judged by somebody: here, or, in areas where nothing is this agent's own, by
// the servers. Whoever adds a route about the agent meets this test.
func TestEveryRouteIsJudged(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, r := range everyRoute() {
		known[r.path] = true
		if rights[r.path] != nil {
			continue
		}
		judged := false
		for _, area := range atServers {
			judged = judged || strings.HasPrefix(r.path, area)
		}
		if !judged {
			t.Errorf("%s is about this agent, and has no right in the table rights", r.path)
		}
	}
	for path := range rights {
		if !known[path] {
			t.Errorf("rights has %s, which is no route", path)
		}
	}
}

// guarded is a house where tokens decide: the secret is a policy.
func guarded(t *testing.T) *house {
	t.Helper()
	return newHouse(func(c *Config) {
		c.ACL = ACL{Enabled: true, DefaultPolicy: "deny", Resolve: func(_ context.Context, secret string) (*acl.Holder, error) {
			if secret == "" {
				return &acl.Holder{Authorizer: acl.New(false), Accessor: acl.AnonymousID}, nil
			}
			if secret == "unknown" {
				return nil, api.ErrACLNotFound
			}
			p, err := acl.Parse(secret)
			return &acl.Holder{Authorizer: acl.New(false, p), Accessor: "acc"}, err
		}}
	})
}

// What the agent has itself is shown, and changed, as far as the token allows.
func TestAgentRights(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	for _, c := range []struct {
		token, request string
		code           int
		has            string // in the body
	}{
		{"", "GET /v1/agent/self", 403, `anonymous token lacks permission 'agent:read' on "n1"`},
		{`agent "n1" { policy = "read" }`, "GET /v1/agent/self", 200, `"NodeName":"n1"`},
		{`agent "n1" { policy = "read" }`, "PUT /v1/agent/reload", 403, `'agent:write' on "n1"`},
		{`agent "n1" { policy = "write" }`, "PUT /v1/agent/reload", 200, ""},
		{"unknown", "GET /v1/agent/services", 403, "ACL not found"},
		{"", "GET /v1/agent/members", 200, "[]"},
		{`node "n1" { policy = "read" }`, "GET /v1/agent/members", 200, `"n1"`},
		{"", "GET /v1/agent/services", 200, "{}"},
		{`service "web" { policy = "read" }`, "GET /v1/agent/services", 200, `"web1"`},
		{`service "web" { policy = "read" }`, "GET /v1/agent/checks", 200, `{"service:web1":`},
		{"", "GET /v1/agent/service/web1", 403, `'service:read' on "web"`},
		{"", "GET /v1/agent/service/nope", 404, "unknown service ID"},
		{"", "GET /v1/agent/health/service/id/web1", 403, `'service:read' on "web"`},
		{"", "GET /v1/agent/health/service/name/web", 403, `'service:read' on "web"`},
		{`service "web" { policy = "read" }`, "PUT /v1/agent/service/deregister/web1", 403, `'service:write' on "web"`},
		{`service "web" { policy = "write" }`, "PUT /v1/agent/service/deregister/web1", 200, ""},
		{`service "new" { policy = "write" }`, `PUT /v1/agent/service/register {"Name":"new"}`, 200, ""},
		{`service "new" { policy = "write" }`, `PUT /v1/agent/service/register {"Name":"new","ID":"web1"}`, 403, `'service:write' on "web"`},
		{`service "web" { policy = "write" }`, `PUT /v1/agent/check/register {"Name":"c","ServiceID":"web1","TTL":"9s"}`, 200, ""},
		{`service "web" { policy = "write" }`, `PUT /v1/agent/check/register {"Name":"c","TTL":"9s"}`, 403, `'node:write' on "n1"`},
		{`service "web" { policy = "write" }`, `PUT /v1/agent/check/register {"Name":"node","ServiceID":"web1","TTL":"9s"}`, 403, `'node:write' on "n1"`},
		{`service "web" { policy = "write" }`, "PUT /v1/agent/check/pass/service:web1", 200, ""},
		{`service "web" { policy = "write" }`, "PUT /v1/agent/check/pass/node", 403, `'node:write' on "n1"`},
		{`node "n1" { policy = "write" }`, "PUT /v1/agent/maintenance?enable=true", 200, ""},
		{`agent "n1" { policy = "write" }`, "PUT /v1/agent/force-leave/x", 403, "'operator:write'"},
		{`event "deploy" { policy = "write" }`, "PUT /v1/event/fire/deploy", 200, ""},
		{`event "deploy" { policy = "read" }`, "PUT /v1/event/fire/deploy", 403, `'event:write' on "deploy"`},
		{`event "other" { policy = "read" }`, "GET /v1/event/list", 200, "[]"},
		{`keyring = "read"`, "POST /v1/operator/keyring {}", 403, "'keyring:write'"},
		{`acl = "write"`, `POST /v1/internal/acl/authorize [{"Resource":"acl","Access":"write"},{"Resource":"key","Segment":"a","Access":"read"}]`, 200,
			`[{"Resource":"acl","Access":"write","Allow":true},{"Resource":"key","Segment":"a","Access":"read","Allow":false}]`},
		{"", `POST /v1/internal/acl/authorize [{"Resource":"nope","Access":"write"}]`, 400, "nothing that rights are about"},
		{"", "POST /v1/acl/rules/translate key \"\" { policy = \"read\" }", 403, "'acl:read'"},
		{`acl = "read"`, "POST /v1/acl/rules/translate key \"\" { policy = \"read\" }", 200, "key_prefix \"\" {\n"},
	} {
		method, rest, _ := strings.Cut(c.request, " ")
		url, body, _ := strings.Cut(rest, " ")
		resp := h.do(t, method, url, body, "X-Consul-Token: "+c.token)
		got := plain(t, resp)
		if resp.StatusCode != c.code || !strings.Contains(got, c.has) {
			t.Errorf("%s with %q: %s\nwant %d with %s", c.request, c.token, got, c.code, c.has)
		}
	}
	resp := h.do(t, "GET", "/v1/agent/services", "", `X-Consul-Token: service "x" { policy = "read" }`)
	if resp.Header.Get("X-Consul-Results-Filtered-By-Acls") != "true" {
		t.Error("the answer does not say that it was filtered")
	}
	if resp = h.do(t, "GET", "/v1/agent/services", ""); resp.Header.Get("X-Consul-Results-Filtered-By-Acls") != "" {
		t.Error("who brings no token is told that there is something")
	}
}

// A refusal says where it was the agent's token that lacked the right.
func TestDefaultToken(t *testing.T) {
	t.Parallel()
	h := guarded(t)
	h.cfg.ACL.DefaultToken = func() string { return `agent "n1" { policy = "read" }` }
	if got := plain(t, h.do(t, "GET", "/v1/agent/self", "")); !strings.Contains(got, "NodeName") {
		t.Errorf("with the default token: %s", got)
	}
	if got := plain(t, h.do(t, "PUT", "/v1/agent/reload", "")); !strings.Contains(got, "this agent's default token was used: acl.tokens.default") {
		t.Errorf("refused with the default token: %s", got)
	}
	if got := plain(t, h.do(t, "PUT", "/v1/agent/reload", "", `X-Consul-Token: acl = "read"`)); strings.Contains(got, "default token") {
		t.Errorf("refused with a token of one's own: %s", got)
	}
}
