package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// DNS shows what the token of DNS may see: acl.tokens.dns, else acl.tokens.default, else
// that of the nameless; and at once, also for what was answered before, when one of them
// or its rights change.
func TestTokenOfDNS(t *testing.T) {
	t.Parallel()
	const (
		root  = "11111111-1111-1111-1111-111111111111"
		ofWeb = "22222222-2222-2222-2222-222222222222"
		ofDB  = "33333333-3333-3333-3333-333333333333"
	)
	conf, confDNS := filepath.Join(t.TempDir(), "acl.hcl"), filepath.Join(t.TempDir(), "dns.hcl")
	write(t, conf, fmt.Sprintf(`acl { enabled = true, default_policy = "deny", token_ttl = "0s", tokens { initial_management = %q, agent = %[1]q } }`, root))
	write(t, confDNS, fmt.Sprintf(`acl { tokens { dns = %q } }`, ofWeb))
	server := startAgent(t, "s1", options{}, "-server", "-bootstrap-expect=1", "-config-file="+conf)
	client := startAgent(t, "c1", options{}, "-retry-join="+server.lan, "-config-file="+conf, "-config-file="+confDNS)
	admin := server.as(root)
	// of gives a token that may read one service, on any node.
	policies := map[string]string{}
	of := func(service, secret string) {
		t.Helper()
		p, _, err := admin.ACL().PolicyCreate(&consul.ACLPolicy{Name: service, Rules: fmt.Sprintf(`service %q { policy = "read" } node_prefix "" { policy = "read" }`, service)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		policies[service] = p.ID
		if _, _, err := admin.ACL().TokenCreate(&consul.ACLToken{SecretID: secret, Policies: []*consul.ACLLink{{Name: service}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, soon, "a leader that knows the first token", func() error {
		_, _, err := admin.ACL().TokenReadSelf(nil)
		return err
	})
	for i, service := range []string{"web", "db"} {
		_, err := admin.Catalog().Register(&consul.CatalogRegistration{Node: "n1", Address: "10.0.0.1",
			Service: &consul.AgentService{Service: service, Address: fmt.Sprint("10.1.0.", i+1), Port: 80}}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	of("web", ofWeb)
	of("db", ofDB)
	// sees asks twice: the second answer may be at hand.
	sees := func(a *agent, when, web, db string) {
		t.Helper()
		for service, want := range map[string]string{"web": web, "db": db} {
			for range 2 {
				name := service + ".service.consul"
				if got := strings.ReplaceAll(dig(t, portOf(a.dns), name), name+". A ", ""); got != want {
					t.Errorf("%s: %s answers %s with %q, want %q", when, a.name, name, got, want)
				}
			}
		}
	}
	set := func(a *agent, which, secret string) {
		t.Helper()
		var err error
		if agent := a.as(root).Agent(); which == "dns" {
			_, err = agent.UpdateDNSToken(secret, nil)
		} else {
			_, err = agent.UpdateDefaultACLToken(secret, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const web, db, none = "10.1.0.1", "10.1.0.2", "NXDOMAIN"
	eventually(t, soon, "the client agent reaches the server", func() error {
		_, _, err := client.as(root).Catalog().Services(nil)
		return err
	})
	sees(server, "without a token", none, none)
	sees(client, "with the configuration's token", web, none)
	for _, a := range []*agent{server, client} {
		set(a, "default", ofDB)
		set(a, "dns", "")
		sees(a, "with the default token", none, db)
		set(a, "dns", ofWeb)
		sees(a, "with the token of DNS", web, none)
	}
	set(server, "dns", "")
	set(server, "default", "")
	everybody := &consul.ACLToken{AccessorID: "00000000-0000-0000-0000-000000000002", Policies: []*consul.ACLLink{{Name: "web"}, {Name: "db"}}}
	if _, _, err := admin.ACL().TokenUpdate(everybody, nil); err != nil {
		t.Fatal(err)
	}
	sees(server, "once the nameless may see", web, db)
	if _, _, err := admin.ACL().PolicyUpdate(&consul.ACLPolicy{ID: policies["web"], Name: "web", Rules: `service "web" { policy = "deny" }`}, nil); err != nil {
		t.Fatal(err)
	}
	sees(server, "once a right was withdrawn", none, db)
	sees(client, "once its right was withdrawn", none, none)
}
