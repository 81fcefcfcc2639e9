package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	shared "github.com/rollcall/rollcall/internal/config"
	"github.com/rollcall/rollcall/server/internal/agent"
	"github.com/rollcall/rollcall/server/internal/config"
)

var agents = flag.Int("agents", 30, "client agents of TestManyAgents; with a full minute of quiet from 100 on")

const (
	eachHas = 20 // services of an agent
	inside  = "ROLLCALL_FAULTS_INSIDE"
)

// A server and many client agents, all in one process on loopback, begin at the same moment:
// the catalog has every service of theirs soon after, without a herd at the server. What
// they cost when all is quiet is shown. With the right to, it happens in a network of its
// own, so that all that is counted there is theirs.
func TestManyAgents(t *testing.T) {
	if os.Getuid() == 0 && os.Getenv(inside) == "" {
		cmd := exec.Command("unshare", "--net", "--", "sh", "-c", `ip link set lo up && exec "$0" "$@"`, os.Args[0], "-test.run=^TestManyAgents$", "-test.v", fmt.Sprint("-agents=", *agents))
		cmd.Env = append(os.Environ(), inside+"=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	var logs tail
	began := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	run := func(conf string) {
		running.Go(func() {
			err := agent.Run(ctx, agent.Options{Stdout: io.Discard, Stderr: &logs, Load: func() (*config.Config, []string, error) {
				src, err := shared.Parse("agent.hcl", []byte(conf), "")
				if err != nil {
					return nil, nil, err
				}
				return config.Load(false, src)
			}})
			if err != nil && ctx.Err() == nil { // a busy machine may not end hundreds in time
				t.Error(err)
			}
		})
	}
	dir := t.TempDir()
	const server = "127.9.0.1"
	common := `datacenter = "dc1", log_level = "warn", ports { dns = -1, serf_wan = -1 }, node_name = "%s", data_dir = "%s", bind_addr = "%s", client_addr = "%s", retry_join = ["` + server + "\"]\n"
	// All calls come from one host here, which by default may have a hundred connections.
	run(fmt.Sprintf(common, "server", filepath.Join(dir, "server"), server, server) + `server = true, bootstrap_expect = 1, limits { rpc_max_conns_per_client = 10000 }`)
	for i := range *agents {
		ip := fmt.Sprintf("127.9.%d.%d", 1+i/200, 1+i%200)
		var services strings.Builder
		for s := range eachHas {
			fmt.Fprintf(&services, "service { name = \"web-%d\", port = %d, check { id = \"ttl-%d\", ttl = \"1h\", status = \"passing\" } }\n", s, 1000+s, s)
		}
		run(fmt.Sprintf(common, fmt.Sprintf("client-%d", i), filepath.Join(dir, fmt.Sprint(i)), ip, ip) + services.String())
	}

	self := func() (calls, entries int, err error) {
		var s struct{ Stats map[string]map[string]string }
		if err := ask("http://"+server+":8500/v1/agent/self", &s); err != nil {
			return 0, 0, err
		}
		calls, err = strconv.Atoi(s.Stats["rpc"]["calls"])
		if err != nil {
			return 0, 0, err
		}
		entries, err = strconv.Atoi(s.Stats["raft"]["last_log_index"])
		return calls, entries, err
	}
	// busiest is the most calls that the server took within a second.
	busiest, before, at := 0, 0, time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	bound := time.After(8 * time.Minute)
	last := ""
	for whole := false; !whole; {
		select {
		case <-tick.C:
		case <-bound:
			t.Fatalf("not converged after eight minutes: %s; the log ends with\n%s", last, logs.String())
		}
		calls, _, err := self()
		if err != nil {
			continue // it is still starting
		}
		if since := time.Since(at); since > time.Second/2 { // a tick may come late, and the next soon after
			busiest = max(busiest, int(float64(calls-before)/since.Seconds()))
			before, at = calls, time.Now()
		}
		var services []json.RawMessage
		whole = true
		for s := range eachHas {
			if err := ask(fmt.Sprintf("http://%s:8500/v1/health/service/web-%d?passing", server, s), &services); err != nil || len(services) != *agents {
				whole, last = false, fmt.Sprintf("web-%d has %d instances, %v", s, len(services), err)
				break
			}
		}
	}
	took := time.Since(began)
	calls, entries, err := self()
	if err != nil {
		t.Fatal(err)
	}
	services := *agents * eachHas
	t.Logf("%d agents with %d services each are in the catalog %s after a cold start of everything, for %.1f s of processor time", *agents, eachHas, took.Round(100*time.Millisecond), processor(t))
	t.Logf("the server took %d calls for it, at most %d a second, and wrote %d log entries", calls, busiest, entries)
	if calls > 4*services {
		t.Errorf("%d calls for %d services: somebody asks again and again", calls, services)
	}
	if *agents < 100 || os.Getenv(inside) == "" {
		return
	}
	quiet := time.NewTimer(time.Minute) // what joining brought about fades out
	<-quiet.C
	calls0, entries0, err := self()
	if err != nil {
		t.Fatal(err)
	}
	bytes0 := loopback(t)
	quiet.Reset(time.Minute)
	<-quiet.C
	calls, entries, err = self()
	if err != nil {
		t.Fatal(err)
	}
	n := float64(*agents + 1)
	t.Logf("a quiet minute: %.0f bytes a second of each agent on the network, %.1f calls a second at the server, %d log entries",
		float64(loopback(t)-bytes0)/60/n, float64(calls-calls0)/60, entries-entries0)
}

// processor is the time that processors have spent on this process, in seconds.
func processor(t *testing.T) float64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// ask reads JSON.
func ask(url string, into any) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// loopback is how many bytes this network's loopback has sent.
func loopback(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/net/dev") // what is below /sys is of another network
	if err != nil {
		t.Fatal(err)
	}
	_, of, ok := strings.Cut(string(b), "lo:")
	sent := strings.Fields(of)
	if !ok || len(sent) < 9 {
		t.Fatalf("no loopback in %s", b)
	}
	n, err := strconv.Atoi(sent[8])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// tail keeps the end of a log.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 64<<10 {
		l.b.Next(32 << 10)
	}
	return l.b.Write(b)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
