package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOperation: an agent in memory whose configuration changes under it. The change is
// taken over by itself, what was registered over HTTP stays, a watch's program gets the
// new answer, the log goes to a file and to whoever follows, and a fault changes nothing.
func TestOperation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf, logs, out := filepath.Join(dir, "conf"), filepath.Join(dir, "logs"), filepath.Join(dir, "out")
	if err := os.Mkdir(conf, 0o700); err != nil {
		t.Fatal(err)
	}
	file := func(more string) {
		t.Helper()
		next := filepath.Join(conf, "next") // as editors do: a new file in the old one's place
		write(t, next, fmt.Sprintf(`auto_reload_config = true, log_file = "%s/"
			watches = [{ type = "service", service = "web", args = ["sh", "-c", "cat >> %s"] }]
			%s`, logs, out, more))
		if err := os.Rename(next, filepath.Join(conf, "a.hcl")); err != nil {
			t.Fatal(err)
		}
	}
	file("")
	a := startAgent(t, "op", options{}, "-dev", "-config-dir="+conf)
	a.awaitLeader()
	if err := a.put("/v1/agent/service/register", `{"Name":"registered"}`); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/v1/agent/monitor?loglevel=info", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	follow := bufio.NewScanner(resp.Body)
	said := func(text string) {
		t.Helper()
		for follow.Scan() {
			if strings.Contains(follow.Text(), text) {
				return
			}
		}
		t.Fatalf("the log ends without %q: %v", text, follow.Err())
	}

	file(`service { name = "web", port = 80 }, domain = "other."`)
	said("these changes wait for a restart: keys=domain")
	said("configuration reloaded: services=1")
	services := func(want ...string) func() error {
		return func() error {
			var got map[string]struct{ Service string }
			if err := a.json("/v1/agent/services", &got); err != nil {
				return err
			}
			for _, id := range want {
				if _, ok := got[id]; !ok || len(got) != len(want) {
					return fmt.Errorf("services %v, want %q", got, want)
				}
			}
			return nil
		}
	}
	eventually(t, soon, "both services", services("registered", "web"))
	eventually(t, soon, "the watch's program with the new instance", func() error {
		b, err := os.ReadFile(out)
		if lines := strings.Split(string(b), "\n"); err != nil || lines[0] != "[]" || !strings.Contains(string(b), `"Port":80`) {
			return fmt.Errorf("it got %q, %w", b, err)
		}
		return nil
	})

	file(`service { name = "web", prot = 80 }`)
	said("reload refused; the old configuration stays")
	eventually(t, soon, "the old services", services("registered", "web"))

	file("")
	a.signal(syscall.SIGHUP)
	eventually(t, soon, "the registered service alone", services("registered"))
	b, err := os.ReadFile(filepath.Join(logs, "rollcall.log"))
	if err != nil || !strings.Contains(string(b), "[ERROR] agent: reload refused") {
		t.Errorf("the log file lacks the refusal: %v\n%s", err, b)
	}
}
