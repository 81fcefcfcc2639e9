package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// open opens a pool on loopback and runs it until the test ends or stop is called.
func open(t *testing.T, name string, change func(*Config)) (_ *Pool, addr string, stop func()) {
	t.Helper()
	cfg := Config{
		Name: name, ID: "id-" + name, Datacenter: "dc1", Bind: "127.0.0.1", Fast: true, Log: slog.New(slog.DiscardHandler),
		Tags: Tags(TagInfo{ID: "id-" + name, Datacenter: "dc1"}),
	}
	if change != nil {
		change(&cfg)
	}
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	stop = sync.OnceFunc(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return p, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(p.Local().Port))), stop
}

// until waits for a fact about a pool, by its own watch.
func until(t *testing.T, p *Pool, what string, ok func() bool) {
	t.Helper()
	bound := time.NewTimer(5 * time.Minute) // Serf tries by chance, now and then, to reach who has failed
	defer bound.Stop()
	for {
		changed := p.Watch()
		if ok() {
			return
		}
		select {
		case <-changed:
		case <-bound.C:
			t.Fatalf("waited in vain until %s: %+v", what, p.Members())
		}
	}
}

func is(p *Pool, name string, s api.MemberStatus) func() bool {
	return func() bool { m, _ := p.Member(name); return m.Status == s }
}

func join(t *testing.T, p *Pool, addr string) {
	t.Helper()
	if n, err := p.Join(t.Context(), []string{addr}); n != 1 || err != nil {
		t.Fatalf("join: %d, %v", n, err)
	}
}

func TestMembership(t *testing.T) {
	t.Parallel()
	a, addr, _ := open(t, "a", func(c *Config) {
		c.Tags = Tags(TagInfo{Server: true, ID: c.ID, Datacenter: "dc1", Port: 8300, Expect: 3, Build: "1:x"})
	})
	b, _, _ := open(t, "b", nil)
	c, _, stopC := open(t, "c", nil)
	join(t, b, addr)
	join(t, c, addr)
	until(t, b, "all are there", func() bool { return len(b.Members()) == 3 })
	want := Server{Name: "a", ID: "id-a", Datacenter: "dc1", Addr: "127.0.0.1:8300", Build: "1:x", Expect: 3, Status: api.StatusAlive}
	until(t, b, fmt.Sprintf("the server is %+v", want), func() bool { // a busy machine counts as failed for a moment
		servers := b.Servers()
		return len(servers) == 1 && servers[0] == want
	})
	stopC() // without a word
	until(t, a, "c has failed", is(a, "c", api.StatusFailed))
	if err := a.ForceLeave("c", false); err != nil {
		t.Fatal(err)
	}
	until(t, b, "c counts as left", is(b, "c", api.StatusLeft))
	if err := b.Leave(); err != nil {
		t.Fatal(err)
	}
	until(t, a, "b has left", is(a, "b", api.StatusLeft))
	if err := a.ForceLeave("nobody", false); err == nil || !strings.Contains(err.Error(), "No node found") {
		t.Errorf("force-leave of nobody: %v", err)
	}
	got := a.Local()
	if got.Name != "a" || got.ProtocolMin != 1 || got.ProtocolMax != 5 || got.ProtocolCur != 2 || got.DelegateMin != 2 || got.DelegateMax != 5 || got.DelegateCur != 4 {
		t.Errorf("local: %+v", got)
	}
	stats := a.Stats()
	for _, key := range []string{
		"coordinate_resets", "encrypted", "event_queue", "event_time", "failed", "health_score", "intent_queue",
		"left", "member_time", "members", "query_queue", "query_time",
	} {
		if stats[key] == "" {
			t.Errorf("stats lack %q: %v", key, stats)
		}
	}
}

func TestNotLetIn(t *testing.T) {
	t.Parallel()
	bootstrap := func(c *Config) {
		c.Tags = Tags(TagInfo{Server: true, ID: c.ID, Datacenter: "dc1", Port: 8300, Bootstrap: true})
	}
	a, addr, _ := open(t, "a", bootstrap)
	for name, c := range map[string]struct {
		change func(*Config)
		why    string // in the error of who joins
	}{
		"another datacenter": {func(c *Config) { c.Datacenter, c.Tags = "dc2", Tags(TagInfo{ID: c.ID, Datacenter: "dc2"}) }, `member "a" is in datacenter "dc1"`},
		"a second bootstrap": {bootstrap, "both run with bootstrap"},
		"another key":        {func(c *Config) { c.Key = make([]byte, 32) }, ""},
	} {
		b, _, _ := open(t, "b", c.change)
		if n, err := b.Join(t.Context(), []string{addr}); n != 0 || err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: joined %d, %v; want it refused: %s", name, n, err, c.why)
		}
		if len(a.Members()) != 1 {
			t.Errorf("%s: members %+v", name, a.Members())
		}
	}
}

func TestBusyPort(t *testing.T) {
	t.Parallel()
	_, addr, _ := open(t, "a", nil)
	var port int
	fmt.Sscanf(addr, "127.0.0.1:%d", &port)
	_, err := Open(Config{Name: "b", Bind: "127.0.0.1", Port: port, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), addr) || !strings.Contains(err.Error(), "-serf-lan-port") {
		t.Errorf("a busy port: %v", err)
	}
}

func TestServerOf(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]api.Member{
		"a client":   {Tags: map[string]string{"role": "node"}},
		"no port":    {Tags: map[string]string{"role": "consul"}},
		"a bad port": {Tags: map[string]string{"role": "consul", "port": "99999"}},
		"not a port": {Tags: map[string]string{"role": "consul", "port": "x"}},
	} {
		if s, ok := ServerOf(m); ok {
			t.Errorf("%s is a server: %+v", name, s)
		}
	}
}

func TestTidy(t *testing.T) {
	t.Parallel()
	err := tidy(fmt.Errorf("2 errors occurred:\n\t* Failed to join 10.0.0.1: refused\n\t* Failed to join 10.0.0.2: refused\n\n"))
	if want := "Failed to join 10.0.0.1: refused; Failed to join 10.0.0.2: refused"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}
