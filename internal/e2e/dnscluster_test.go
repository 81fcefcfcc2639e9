package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// DNS of a cluster: every agent answers the same; a client agent hears of changes at
// once; and when the servers have no leader, and then are gone, those go on answering
// that can.
func TestDNSOfCluster(t *testing.T) {
	t.Parallel()
	tool(t, "dig")
	servers, client := trio(t)
	conf := filepath.Join(t.TempDir(), "dns.hcl")
	if err := os.WriteFile(conf, []byte(`dns_config { use_cache = true }`), 0o600); err != nil {
		t.Fatal(err)
	}
	follower := startAgent(t, "c2", options{}, "-retry-join="+servers[0].lan, "-config-file="+conf)
	follower.awaitLeader()
	register := func(n int) {
		t.Helper()
		body := fmt.Sprintf(`{"Node": "n%d", "Address": "10.0.0.%d", "Service": {"Service": "web", "Port": 80}}`, n, n)
		if err := client.put("/v1/catalog/register", body); err != nil {
			t.Fatal(err)
		}
	}
	answers := func(a *agent, want string) {
		t.Helper()
		eventually(t, soon, fmt.Sprintf("%s answers %q", a.name, want), func() error {
			if got := strings.ReplaceAll(dig(t, portOf(a.dns), "web.service.consul", "A"), "web.service.consul. A ", ""); got != want {
				return errors.New(got)
			}
			return nil
		})
	}
	all := append(servers[:3:3], client, follower)
	register(1)
	for _, a := range all {
		answers(a, "10.0.0.1")
	}
	register(2)
	for _, a := range all {
		answers(a, "10.0.0.1; 10.0.0.2")
	}
	leader, err := leaderAmong(servers)
	if err != nil {
		t.Fatal(err)
	}
	var last *agent
	for _, s := range servers {
		if s != leader && last == nil {
			last = s
			continue
		}
		s.kill()
	}
	eventually(t, soon, "the last server has no leader", func() error {
		if _, body, err := last.get("/v1/status/leader"); err != nil || body != `""` {
			return fmt.Errorf("leader %s, %v", body, err)
		}
		return nil
	})
	for _, a := range []*agent{last, client, follower} {
		answers(a, "10.0.0.1; 10.0.0.2")
	}
	last.kill()
	answers(follower, "10.0.0.1; 10.0.0.2")
	answers(client, "SERVFAIL")
}
