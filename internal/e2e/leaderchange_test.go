package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// A client agent's users do not notice that the leader died by kill -9: a lock stays held
// and its command runs on, a watch sees the next change, events and commands get through.
func TestUsersOfAClientSurviveTheLeader(t *testing.T) {
	t.Parallel()
	servers, _ := trio(t)
	dir := t.TempDir()
	conf, out, held := filepath.Join(dir, "a.hcl"), filepath.Join(dir, "out"), filepath.Join(dir, "held")
	write(t, conf, fmt.Sprintf(`disable_remote_exec = false
		watches = [{ type = "key", key = "watched", args = ["sh", "-c", "cat >> %s"] }]`, out))
	client := startAgent(t, "willing", options{}, "-retry-join="+servers[0].lan, "-retry-join="+servers[1].lan, "-config-file="+conf)
	client.awaitLeader()
	holding := start(t, bins(t, "rollcall"), "lock", "-http-addr="+client.http, "jobs/one", "echo held > "+held+"; exec sleep 600")
	eventually(t, soon, "the lock is held", func() error { _, err := os.Stat(held); return err })
	holder := func() string {
		t.Helper()
		p, _, err := client.client().KV().Get("jobs/one/.lock", &consul.QueryOptions{RequireConsistent: true})
		if err != nil || p == nil {
			t.Fatalf("the lock: %v, %v", p, err)
		}
		return p.Session
	}
	before := holder()
	leader, err := leaderAmong(servers)
	if err != nil {
		t.Fatal(err)
	}
	leader.kill()
	eventually(t, 30*time.Second, "a write after the leader's death", func() error { return client.put("/v1/kv/watched", "anew") })
	if got := holder(); got == "" || got != before {
		t.Errorf("the lock is held by %q, before by %q", got, before)
	}
	eventually(t, soon, "the watch sees the change", func() error {
		b, err := os.ReadFile(out)
		if err == nil && !strings.Contains(string(b), base64.StdEncoding.EncodeToString([]byte("anew"))) {
			err = fmt.Errorf("it saw %s", b)
		}
		return err
	})
	client.rollcall("event", "-name=deploy", "v2")
	for _, s := range servers {
		if s == leader {
			continue
		}
		eventually(t, soon, s.name+" has the event", func() error {
			events, _, err := s.client().Event().List("deploy", nil)
			if err == nil && len(events) != 1 {
				err = fmt.Errorf("%d events", len(events))
			}
			return err
		})
	}
	if got := client.rollcall("exec", "-node=^willing$", "echo here"); !strings.Contains(got, "willing: here") {
		t.Errorf("exec says %s", got)
	}
	select {
	case <-holding.done:
		t.Error("the command under the lock has ended")
	default:
	}
}
