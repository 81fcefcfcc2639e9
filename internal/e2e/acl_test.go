package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// as is an agent's stock client with a token.
func (a *agent) as(token string) *consul.Client {
	a.t.Helper()
	c, err := consul.NewClient(&consul.Config{Address: a.http, Token: token})
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// acl runs a command about ACLs with a token, and decodes what it prints.
func (a *agent) acl(into any, token string, args ...string) {
	a.t.Helper()
	out, errs, code := outcome(a.t, []string{"CONSUL_HTTP_ADDR=" + a.http, "CONSUL_HTTP_TOKEN=" + token}, bins(a.t, "rollcall"), append([]string{"acl"}, args...)...)
	if code != 0 {
		a.t.Fatalf("rollcall acl %v: exit %d\n%s%s", args, code, out, errs)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		a.t.Fatalf("rollcall acl %v: %v\n%s", args, err, out)
	}
}

// Default deny holds for a whole cluster: agents with tokens of their own keep their nodes
// right, a service's token writes that service and no other, and nobody without a token
// sees or changes anything, on whatever route.
func TestDefaultDeny(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "acl.hcl")
	if err := os.WriteFile(conf, []byte(`acl { enabled = true, default_policy = "deny", enable_token_persistence = true, token_ttl = "1s" }`), 0o600); err != nil {
		t.Fatal(err)
	}
	server := startAgent(t, "hidden-server", options{}, "-server", "-bootstrap-expect=1", "-config-file="+conf)
	client := startAgent(t, "hidden-client", options{}, "-ui", "-retry-join="+server.lan, "-config-file="+conf)
	agents := []*agent{server, client}

	var root consul.ACLToken
	eventually(t, soon, "bootstrap through the client agent", func() error {
		out, errs, code := outcome(t, []string{"CONSUL_HTTP_ADDR=" + client.http}, bins(t, "rollcall"), "acl", "bootstrap", "-format=json")
		if code != 0 {
			return fmt.Errorf("%s", errs)
		}
		return json.Unmarshal([]byte(out), &root)
	})
	for _, a := range agents {
		var tok consul.ACLToken
		client.acl(&tok, root.SecretID, "token", "create", "-format=json", "-description", a.name, "-node-identity", a.name+":dc1")
		a.acl(nil, root.SecretID, "set-agent-token", "agent", tok.SecretID)
	}
	admin := client.as(root.SecretID)
	eventually(t, soon, "both nodes with what only their agents say", func() error {
		nodes, _, err := admin.Catalog().Nodes(nil)
		if err != nil {
			return err
		}
		full := 0
		for _, n := range nodes {
			if n.TaggedAddresses["lan"] != "" {
				full++
			}
		}
		if full != 2 {
			return fmt.Errorf("%d of %d nodes are as their agents say", full, len(nodes))
		}
		return nil
	})

	// A service's token registers that service, on a node that it may not write.
	var web consul.ACLToken
	client.acl(&web, root.SecretID, "token", "create", "-format=json", "-service-identity", "hidden-web")
	owner := client.as(web.SecretID)
	if err := owner.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "hidden-web", Check: &consul.AgentServiceCheck{CheckID: "hidden-check", TTL: "1h", Status: "passing"}}); err != nil {
		t.Fatal(err)
	}
	err := owner.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "db"})
	if err == nil || !strings.Contains(err.Error(), "token with AccessorID '"+web.AccessorID+"' lacks permission 'service:write' on \"db\"") {
		t.Errorf("registering another service: %v", err)
	}
	registered := func() error {
		rows, _, err := admin.Health().Service("hidden-web", "", true, nil)
		if err == nil && len(rows) != 1 {
			err = fmt.Errorf("%d instances", len(rows))
		}
		return err
	}
	eventually(t, soon, "the service in the catalog", registered)
	if _, err := admin.KV().Put(&consul.KVPair{Key: "hidden/key", Value: []byte("hidden value")}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := admin.PreparedQuery().Create(&consul.PreparedQueryDefinition{Name: "hidden-query", Service: consul.ServiceQuery{Service: "any"}}, nil); err != nil {
		t.Fatal(err)
	}
	client.awaitAlive(admin)
	if _, _, err := admin.Session().Create(&consul.SessionEntry{Name: "hidden-session"}, nil); err != nil {
		t.Fatal(err)
	}

	for _, a := range agents {
		anonymously(t, a)
	}
	if code, page, err := client.get("/ui/"); err != nil || code != http.StatusOK || strings.Contains(page, "hidden-server") || strings.Contains(page, "hidden-web") {
		t.Errorf("the page shows what is hidden: %d, %v, %.300s", code, err, page)
	}
	eventually(t, soon, "all there after whoever has no token tried everything", registered)
	if pair, _, err := admin.KV().Get("hidden/key", nil); err != nil || pair == nil {
		t.Errorf("the key is gone: %v, %v", pair, err)
	}

	// What the agents were given outlives a kill, and is used.
	client.stop(syscall.SIGKILL)
	client.run()
	eventually(t, soon, "deregistration after a restart, with the token that was kept", func() error {
		if err := owner.Agent().ServiceDeregister("hidden-web"); err != nil && !strings.Contains(err.Error(), "Unknown service") {
			return err
		}
		rows, _, err := admin.Health().Service("hidden-web", "", false, nil)
		if err == nil && len(rows) != 0 {
			err = fmt.Errorf("%d instances", len(rows))
		}
		return err
	})

	// DNS and the nameless, once everybody may see.
	client.acl(nil, root.SecretID, "policy", "create", "-name", "everybody", "-rules", `node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }`)
	client.acl(nil, root.SecretID, "token", "update", "-id", "anonymous", "-policy-name", "everybody")
	eventually(t, soon, "a name over DNS", func() error {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, client.dns)
		}}
		_, err := r.LookupHost(t.Context(), "hidden-server.node.consul")
		return err
	})

	// Nothing of this is in a log, and no secret in what the servers keep.
	for _, a := range agents {
		for _, secret := range []string{root.SecretID, web.SecretID} {
			noSecret(t, a.log.Name(), secret)
			for _, dir := range []string{"raft", "serf"} {
				err := filepath.WalkDir(filepath.Join(a.dir, dir), func(path string, d os.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						noSecret(t, path, secret)
					}
					return nil // a client has no raft
				})
				if err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func noSecret(t *testing.T, path, secret string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	if bytes.Contains(b, []byte(secret)) {
		t.Errorf("%s shows a secret", filepath.Base(path))
	}
}

// tells are routes that tell everybody something: which servers there are, and for how far.
var tells = map[string]bool{"/v1/coordinate/datacenters": true}

// anonymously tries every route of docs/http-api.md with every verb, without a token: no
// answer may show what is hidden, but where it repeats what was asked for.
func anonymously(t *testing.T, a *agent) {
	t.Helper()
	page, err := os.ReadFile("../../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	tails := []string{"hidden-web", "hidden-client", "hidden-server", "hidden/key", "hidden?recurse", "hidden-query", "hidden-query/execute", "hidden-check", "any", ""}
	asked := 0
	for _, m := range regexp.MustCompile("`(GET|PUT|POST|DELETE) (/v1/[^` ]*)`").FindAllStringSubmatch(string(page), -1) {
		verb, path := m[1], m[2]
		if tells[path] || strings.HasSuffix(path, "/metrics/stream") || strings.HasSuffix(path, "/monitor") {
			continue
		}
		paths := []string{path}
		if strings.HasSuffix(path, "/") {
			paths = nil
			for _, tail := range tails {
				paths = append(paths, path+tail)
			}
		}
		for _, p := range paths {
			for _, body := range []string{"", `{"Node":"hidden-client","Name":"hidden-web","ServiceID":"hidden-web"}`, `[{"KV":{"Verb":"get-tree","Key":"hidden"}},{"KV":{"Verb":"delete-tree","Key":"hidden"}}]`} {
				if body != "" && verb == http.MethodGet {
					continue
				}
				asked++
				code, got := try(t, a, verb, p, body)
				shown := strings.Contains(got, "hidden")
				if code == http.StatusOK && shown {
					t.Errorf("%s: %s %s without a token shows %.200s", a.name, verb, p, got)
				}
			}
		}
	}
	if asked < 200 {
		t.Errorf("only %d requests were made: is the page read?", asked)
	}
	select {
	case <-a.done:
		t.Errorf("%s was ended by somebody without a token", a.name)
	default:
	}
}

func try(t *testing.T, a *agent, verb, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(verb, a.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := oneShot.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", verb, path, err)
		return 0, ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s %s: %v", verb, path, err)
	}
	return resp.StatusCode, string(b)
}
