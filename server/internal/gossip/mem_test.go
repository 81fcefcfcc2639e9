package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall/rollcall/internal/api"
	_ "github.com/rollcall/rollcall/internal/oneproc"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// on opens a pool on a net in memory and runs it until stop is called.
func (l *lan) on(t *testing.T, ip, name string, change func(*Config)) (p *Pool, stop func()) {
	t.Helper()
	tr, err := servertest.NewTransport(l.net, l.packets, at(ip))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Name: name, ID: "id-" + name, Datacenter: "dc1", Bind: ip, Port: gossipPort, Transport: tr, Log: slog.New(slog.DiscardHandler),
		Tags: Tags(TagInfo{ID: "id-" + name, Datacenter: "dc1"}),
	}
	if change != nil {
		change(&cfg)
	}
	if p, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("Run of %s: %v", name, err)
		}
	})
	return p, sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := p.Close(); err != nil {
			t.Errorf("close %s: %v", name, err)
		}
	})
}

// bubble runs f with a time of its own; what f leaves is given time to end.
func bubble(t *testing.T, f func(*testing.T, *lan)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f(t, newLAN())
		time.Sleep(time.Minute) // Serf does not wait for its goroutines
	})
}

// With the timers of a LAN a dead member counts as failed within ten seconds, and comes
// back by itself when the partition heals.
func TestPartition(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		a, stopA := l.on(t, "10.0.0.1", "a", nil)
		defer stopA()
		b, stopB := l.on(t, "10.0.0.2", "b", nil)
		defer stopB()
		_, stopC := l.on(t, "10.0.0.3", "c", nil)
		defer stopC()
		l.packets.Lose(0.1) // which must not hurt anyone
		join(t, b, at("10.0.0.1"))
		join(t, a, at("10.0.0.3"))
		until(t, b, "all are there", func() bool { return len(b.Members()) == 3 })
		time.Sleep(5 * time.Minute)
		for _, m := range a.Members() {
			if m.Status != api.StatusAlive {
				t.Errorf("with packets lost: %s is %s", m.Name, m.Status)
			}
		}
		l.packets.Lose(0)
		l.net.Partition("10.0.0.3")
		began := time.Now()
		until(t, a, "c has failed", is(a, "c", api.StatusFailed))
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("c counts as failed after %s", took)
		}
		until(t, b, "c has failed", is(b, "c", api.StatusFailed))
		l.net.Heal()
		until(t, a, "c is back", is(a, "c", api.StatusAlive))
		until(t, b, "c is back", is(b, "c", api.StatusAlive))
	})
}

// Whoever closes the pool while it leaves, as at a second signal, waits for nothing and breaks
// nothing; leaving ends by itself.
func TestCloseWhileLeaving(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		a, stopA := l.on(t, "10.0.0.1", "a", nil)
		b, stopB := l.on(t, "10.0.0.2", "b", nil)
		defer stopB()
		join(t, b, at("10.0.0.1"))
		until(t, a, "b is there", is(a, "b", api.StatusAlive))
		l.net.Partition("10.0.0.2") // word does not get out at once
		left := make(chan error, 1)
		go func() { left <- a.Leave() }()
		synctest.Wait()
		began := time.Now()
		stopA()
		if took := time.Since(began); took > 0 {
			t.Errorf("closing took %s", took)
		}
		if err := <-left; err != nil {
			t.Errorf("leave: %v", err)
		}
		if err := a.Leave(); err == nil {
			t.Error("a closed pool leaves")
		}
	})
}

// A member that comes and goes quicker than a suspicion lasts hardly ever counts as failed (of a
// thousand times about once, where what it is suspected of reaches it too late); one that
// stays away longer fails and comes back once each time, and not more often.
func TestFlapping(t *testing.T) {
	for _, c := range []struct {
		away            time.Duration
		atLeast, atMost int // changes that the others see in ten times
	}{{time.Second, 0, 2}, {20 * time.Second, 1, 20}} {
		t.Run(c.away.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lan) {
				a, stopA := l.on(t, "10.0.0.1", "a", nil)
				defer stopA()
				b, stopB := l.on(t, "10.0.0.2", "b", nil)
				defer stopB()
				_, stopC := l.on(t, "10.0.0.3", "c", nil)
				defer stopC()
				join(t, b, at("10.0.0.1"))
				join(t, a, at("10.0.0.3"))
				until(t, a, "all are there", func() bool { return len(a.Members()) == 3 })
				ctx, cancel := context.WithCancel(t.Context())
				var watching sync.WaitGroup
				changes := 0
				watching.Go(func() {
					last := api.StatusAlive
					for ctx.Err() == nil {
						changed := a.Watch()
						if m, _ := a.Member("c"); m.Status != last {
							last = m.Status
							changes++
						}
						select {
						case <-changed:
						case <-ctx.Done():
						}
					}
				})
				for range 10 {
					l.net.Partition("10.0.0.3")
					time.Sleep(c.away)
					l.net.Heal()
					time.Sleep(max(c.away, 10*time.Second)) // it hears that it is suspected, and says that it lives
				}
				until(t, a, "c is there", is(a, "c", api.StatusAlive))
				cancel()
				watching.Wait()
				t.Logf("away ten times for %s: %d changes", c.away, changes)
				if changes > c.atMost || changes < c.atLeast {
					t.Errorf("%d changes, %d to %d are right", changes, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// Members come back by their snapshot: after a fall always, after a leave when asked to.
func TestRejoin(t *testing.T) {
	for name, c := range map[string]struct{ leave, rejoin, back bool }{
		"after a fall":                    {false, false, true},
		"after a leave":                   {true, false, false},
		"after a leave, asked to come in": {true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, l *lan) {
				a, stopA := l.on(t, "10.0.0.1", "a", nil)
				defer stopA()
				remember := func(cfg *Config) {
					cfg.Snapshot, cfg.Rejoin = filepath.Join(t.TempDir(), "serf", "local.snapshot"), c.rejoin
				}
				var file string
				b, stopB := l.on(t, "10.0.0.2", "b", func(cfg *Config) { remember(cfg); file = cfg.Snapshot })
				join(t, b, at("10.0.0.1"))
				until(t, b, "a is there", is(b, "a", api.StatusAlive))
				time.Sleep(time.Second) // the snapshot is written a moment after
				gone := api.StatusFailed
				if c.leave {
					gone = api.StatusLeft
					if err := b.Leave(); err != nil {
						t.Fatal(err)
					}
				}
				stopB()
				until(t, a, "b is gone", is(a, "b", gone))
				_, stopB = l.on(t, "10.0.0.2", "b", func(cfg *Config) { remember(cfg); cfg.Snapshot = file })
				defer stopB()
				time.Sleep(10 * time.Second)
				if got := is(a, "b", api.StatusAlive)(); got != c.back {
					t.Errorf("back: %t, want %t; members %+v", got, c.back, a.Members())
				}
			})
		})
	}
}

func TestTagsTravel(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		a, stopA := l.on(t, "10.0.0.1", "a", nil)
		defer stopA()
		b, stopB := l.on(t, "10.0.0.2", "b", nil)
		defer stopB()
		join(t, b, at("10.0.0.1"))
		tags := Tags(TagInfo{Server: true, ID: "id-a", Datacenter: "dc1", Port: 8300, Expect: 3})
		if err := a.SetTags(tags); err != nil {
			t.Fatal(err)
		}
		until(t, a, "a sees its own tags", func() bool { return len(a.Servers()) == 1 })
		until(t, b, "b sees a as a server", func() bool { s := b.Servers(); return len(s) == 1 && s[0].Expect == 3 })
	})
}

// A pruned member is gone from the list at once, everywhere; others are told by Watch.
func TestPrune(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		a, stopA := l.on(t, "10.0.0.1", "a", nil)
		defer stopA()
		b, stopB := l.on(t, "10.0.0.2", "b", nil)
		defer stopB()
		c, stopC := l.on(t, "10.0.0.3", "c", nil)
		join(t, b, at("10.0.0.1"))
		join(t, c, at("10.0.0.1"))
		until(t, b, "c is there", is(b, "c", api.StatusAlive))
		stopC()
		until(t, a, "c has failed", is(a, "c", api.StatusFailed))
		until(t, b, "c has failed", is(b, "c", api.StatusFailed))
		if err := a.ForceLeave("c", true); err != nil {
			t.Fatal(err)
		}
		for _, p := range []*Pool{a, b} {
			until(t, p, "c is forgotten", func() bool { _, ok := p.Member("c"); return !ok })
		}
	})
}

// journal is a log that a test may read while others write.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// Two members of one name: the one who has it keeps it, and both logs say where the
// other is.
func TestNameClash(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		var first, second, third journal
		log := func(j *journal) func(*Config) {
			return func(c *Config) { c.Log = slog.New(slog.NewTextHandler(j, nil)) }
		}
		a, stopA := l.on(t, "10.0.0.1", "a", log(&first))
		defer stopA()
		b, stopB := l.on(t, "10.0.0.2", "b", log(&second))
		defer stopB()
		join(t, b, at("10.0.0.1"))
		until(t, a, "b is there", is(a, "b", api.StatusAlive))
		twin, stopTwin := l.on(t, "10.0.0.3", "b", log(&third))
		defer stopTwin()
		_, _ = twin.Join(t.Context(), []string{at("10.0.0.1")}) // that it reached somebody counts for nothing here
		time.Sleep(time.Minute)
		if m, _ := a.Member("b"); m.Addr != "10.0.0.2" || m.Status != api.StatusAlive {
			t.Errorf("the name went over: %+v", m)
		}
		for who, w := range map[string]struct {
			log  *journal
			want []string
		}{
			"a bystander": {&first, []string{"Name conflict for 'b'", "10.0.0.2", "10.0.0.3"}},
			"the twin":    {&third, []string{"level=ERROR", "Node name conflicts with another node at 10.0.0.2"}},
		} {
			for _, text := range w.want {
				if !strings.Contains(w.log.String(), text) {
					t.Errorf("the log of %s lacks %q:\n%s", who, text, w.log)
				}
			}
			if n := strings.Count(w.log.String(), "conflict"); n > 8 { // a few kinds of line, each once a minute
				t.Errorf("the log of %s says it %d times:\n%s", who, n, w.log)
			}
		}
	})
}

// Once the one who had a name is dead, another with that name comes in, and its own id counts.
func TestNameTakenOver(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		a, stopA := l.on(t, "10.0.0.1", "a", nil)
		defer stopA()
		b, stopB := l.on(t, "10.0.0.2", "b", nil)
		join(t, b, at("10.0.0.1"))
		until(t, a, "b is there", is(a, "b", api.StatusAlive))
		stopB()
		until(t, a, "b has failed", is(a, "b", api.StatusFailed))
		time.Sleep(reclaimAfter + time.Second)
		anew, stopAnew := l.on(t, "10.0.0.3", "b", func(c *Config) { c.Tags = Tags(TagInfo{ID: "another", Datacenter: "dc1"}) })
		defer stopAnew()
		join(t, anew, at("10.0.0.1"))
		until(t, a, "the new b is there", func() bool {
			m, _ := a.Member("b")
			return m.Status == api.StatusAlive && m.Addr == "10.0.0.3" && m.Tags["id"] == "another"
		})
	})
}

// A server that comes back with its id under another name and address is one server, at its new
// address, whatever order the names have; the old name is still a member that failed.
func TestServerRenamed(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		a, stopA := l.on(t, "10.0.0.1", "a", nil)
		defer stopA()
		s, port := func(c *Config) {
			c.ID, c.Tags = "id-s", Tags(TagInfo{Server: true, ID: "id-s", Datacenter: "dc1", Port: 8300})
		}, ":8300"
		for i, name := range []string{"m", "z", "b"} { // after and before the other names
			ip := fmt.Sprintf("10.0.0.%d", 10+i)
			p, stop := l.on(t, ip, name, s)
			join(t, p, at("10.0.0.1"))
			until(t, a, name+" is the server", func() bool {
				got := a.Servers()
				return len(got) == 1 && got[0].Name == name && got[0].Addr == ip+port && got[0].Status == api.StatusAlive
			})
			if stop(); i < 2 {
				until(t, a, name+" has failed", is(a, name, api.StatusFailed))
			}
		}
	})
}

// A server with the id of another that lives, as a copied machine has it, is not let in and told
// why; once the other is dead it is. Clients are the catalog's to tell apart.
func TestServerTwin(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		var mine, its journal
		as := func(j *journal, id string) func(*Config) {
			return func(c *Config) {
				c.ID, c.Tags = id, Tags(TagInfo{Server: true, ID: id, Datacenter: "dc1", Port: 8300})
				c.Log = slog.New(slog.NewTextHandler(j, nil))
			}
		}
		a, stopA := l.on(t, "10.0.0.1", "a", as(&mine, "id-a"))
		defer stopA()
		s, stopS := l.on(t, "10.0.0.2", "s", as(new(journal), "id-s"))
		join(t, s, at("10.0.0.1"))
		until(t, a, "s is there", is(a, "s", api.StatusAlive))
		twin, stopTwin := l.on(t, "10.0.0.3", "b", as(&its, "id-s"))
		defer stopTwin()
		join(t, twin, at("10.0.0.1"))
		time.Sleep(time.Minute)
		if got := a.Servers(); len(got) != 2 || got[1].Name != "s" {
			t.Errorf("the servers: %+v", got)
		}
		for who, log := range map[string]*journal{"a bystander": &mine, "the twin": &its} {
			if n := strings.Count(log.String(), "not let in"); n != 1 || !strings.Contains(log.String(), "have the same node id, id-s") {
				t.Errorf("%s says it %d times, want once:\n%s", who, n, log)
			}
		}
		stopS()
		until(t, a, "s has failed", is(a, "s", api.StatusFailed))
		join(t, twin, at("10.0.0.1"))
		until(t, a, "the twin is the server", func() bool { got := a.Servers(); return len(got) == 2 && got[1].Name == "b" })
	})
}

// Members, Leave and Close go on while nobody runs the pool, whatever storm there is.
func TestStormWithoutRun(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		a, stopA := l.on(t, "10.0.0.1", "a", nil)
		defer stopA()
		tr, err := servertest.NewTransport(l.net, l.packets, at("10.0.0.2"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Open(Config{Name: "b", ID: "id-b", Datacenter: "dc1", Bind: "10.0.0.2", Port: gossipPort, Transport: tr, Log: slog.New(slog.DiscardHandler), Fast: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := range eventBuffer + 1500 { // more than all buffers on the way hold
			tags := Tags(TagInfo{ID: "id-b", Datacenter: "dc1", Expect: i % 2, Server: true, Port: 8300})
			if err := b.SetTags(tags); err != nil {
				t.Fatal(err)
			}
		}
		join(t, b, at("10.0.0.1"))
		if len(b.Members()) != 2 {
			t.Errorf("members: %+v", b.Members())
		}
		if err := b.Leave(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		until(t, a, "b has left", is(a, "b", api.StatusLeft))
	})
}

// What is wrong with the settings is told as that, not as a port.
func TestBadKey(t *testing.T) {
	t.Parallel()
	_, err := Open(Config{Name: "a", Bind: "127.0.0.1", Key: make([]byte, 5), Log: slog.New(slog.DiscardHandler)})
	if err == nil || strings.Contains(err.Error(), "listen") || !strings.Contains(err.Error(), "16, 24 or 32") {
		t.Errorf("a key of five bytes: %v", err)
	}
}
