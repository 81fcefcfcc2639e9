package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// A client agent whose cable is pulled turns critical in the catalog, and what it has
// registered leaves health answers and DNS; plugged in again, all of it comes back.
func TestAgentCutOff(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	const bridge, ns, here, there = "rce2ecbr", "rce2ecut", "10.213.9.1", "10.213.9.11"
	ip := func(args string) error {
		out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
		return nil
	}
	clean := func() error { return errors.Join(ip("netns del "+ns), ip("link del "+bridge)) }
	_ = clean() // what an earlier run left behind, if anything
	t.Cleanup(func() {
		if err := clean(); err != nil {
			t.Error(err)
		}
	})
	for _, args := range []string{
		"link add " + bridge + " type bridge", "addr add " + here + "/24 dev " + bridge, "link set " + bridge + " up",
		"netns add " + ns, "link add v" + ns + " type veth peer name eth0 netns " + ns, "link set v" + ns + " master " + bridge + " up",
		"-n " + ns + " addr add " + there + "/24 dev eth0", "-n " + ns + " link set eth0 up", "-n " + ns + " link set lo up",
	} {
		if err := ip(args); err != nil {
			t.Fatal(err)
		}
	}
	server := startAgent(t, "server-host", options{ip: here}, "-server", "-bootstrap-expect=1")
	server.awaitLeader()
	client := startAgent(t, "cut", options{ns: ns, ip: there}, "-retry-join="+server.lan)
	client.awaitLeader()
	if err := client.put("/v1/agent/service/register", `{"Name":"web","Port":80}`); err != nil {
		t.Fatal(err)
	}
	state := func(health string, instances int) func() error {
		return func() error {
			var checks []struct{ CheckID, Status string }
			if err := server.json("/v1/health/node/cut", &checks); err != nil {
				return err
			}
			if len(checks) != 1 || checks[0].CheckID != "serfHealth" || checks[0].Status != health {
				return fmt.Errorf("checks %v", checks)
			}
			if got, err := server.instances("web"); err != nil || len(got) != instances {
				return fmt.Errorf("passing %v, %v", got, err)
			}
			m := new(dns.Msg)
			m.SetQuestion("web.service.consul.", dns.TypeA)
			r, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeContext(t.Context(), m, server.dns)
			if err != nil || len(r.Answer) != instances {
				return fmt.Errorf("DNS says %v, %v", r, err)
			}
			return nil
		}
	}
	eventually(t, soon, "it serves", state("passing", 1))
	if err := ip("link set v" + ns + " down"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "it is out", state("critical", 0))
	if err := ip("link set v" + ns + " up"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "it is back", state("passing", 1))
}
