package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// errRefused is an answer of the fake agent; errGone is none.
var (
	errRefused = errors.New("500: refused")
	errGone    = errors.New("connection refused")
)

// agent is a catalog in memory.
type agent struct {
	mu       sync.Mutex
	services map[string]Registered
	away     bool
	refuse   map[string]bool // ids
	writes   []string
	most     int // writes at once
	now      int
	slow     time.Duration
}

var _ Catalog = (*agent)(nil)

func newAgent() *agent { return &agent{services: map[string]Registered{}, refuse: map[string]bool{}} }

func (a *agent) IsAnswer(err error) bool { return errors.Is(err, errRefused) }

func (a *agent) Read(context.Context) (Reading, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return Reading{}, errGone
	}
	out := Reading{NodeAddress: "10.0.0.5", Services: map[string]Registered{}}
	for id, s := range a.services {
		s.Checks = maps.Clone(s.Checks)
		out.Services[id] = s
	}
	return out, nil
}

func (a *agent) Hash(_ context.Context, id string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return "", errGone
	}
	return a.services[id].Hash, nil
}

// write runs one write, as slow and as refusing as the test says.
func (a *agent) write(ctx context.Context, id, what string, f func() error) error {
	a.mu.Lock()
	a.now++
	a.most = max(a.most, a.now)
	slow := a.slow
	a.mu.Unlock()
	if slow > 0 {
		t := time.NewTimer(slow)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now--
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if a.away {
		return errGone
	}
	if a.refuse[id] {
		return errRefused
	}
	a.writes = append(a.writes, what+" "+id)
	return f()
}

func (a *agent) Register(ctx context.Context, s *mapping.Service) error {
	return a.write(ctx, s.ID, "register", func() error {
		n := Registered{Owner: s.Meta[mapping.MetaOwner], Container: s.Meta[mapping.MetaContainer], Hash: s.Hash, Address: s.Address, Port: s.Port,
			Checks: maps.Clone(a.services[s.ID].Checks), Maintenance: a.services[s.ID].Maintenance, Reason: a.services[s.ID].Reason}
		if n.Checks == nil {
			n.Checks = map[string]Check{}
		}
		for _, c := range s.Checks {
			if _, ok := n.Checks[c.CheckID]; !ok {
				n.Checks[c.CheckID] = Check{Status: c.Status}
			}
		}
		a.services[s.ID] = n
		return nil
	})
}

func (a *agent) Deregister(ctx context.Context, id, _ string) error {
	return a.write(ctx, id, "deregister", func() error { delete(a.services, id); return nil })
}

func (a *agent) SetCheck(ctx context.Context, id, status, output, _ string) error {
	return a.write(ctx, id, "check", func() error {
		for _, s := range a.services {
			if _, ok := s.Checks[id]; ok {
				s.Checks[id] = Check{status, output}
				return nil
			}
		}
		return errRefused // unknown check
	})
}

func (a *agent) DropCheck(ctx context.Context, id, _ string) error {
	return a.write(ctx, id, "drop", func() error {
		for _, s := range a.services {
			delete(s.Checks, id)
		}
		return nil
	})
}

func (a *agent) Maintain(ctx context.Context, id, reason, _ string) error {
	return a.write(ctx, id, "maintain", func() error {
		s, ok := a.services[id]
		if !ok {
			return errRefused
		}
		s.Maintenance, s.Reason = reason != "", reason
		a.services[id] = s
		return nil
	})
}

func (a *agent) do(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// took gives the writes since the last call, sorted.
func (a *agent) took() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.writes
	a.writes = nil
	slices.Sort(w)
	return strings.Join(w, ", ")
}

// has gives what is registered: "id@port", with the states that matter.
func (a *agent) has() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for id, s := range a.services {
		line := fmt.Sprintf("%s@%d", id, s.Port)
		if s.Maintenance {
			line += "(out)"
		}
		if c, ok := s.Checks["docker:"+id]; ok {
			line += "(" + c.Status + ")"
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// bench runs a reconciler in a synctest bubble.
type bench struct {
	t    *testing.T
	a    *agent
	r    *Reconciler
	sets chan watcher.Set
	stop func()
}

func config() Config {
	return Config{
		Resync: 30 * time.Second, Drain: DrainDeregister, Adopt: AdoptUnowned, OnShutdown: ShutdownKeep,
		Mapping: mapping.Config{Host: "h", Owner: "me", Prefix: "SERVICE_", Address: mapping.AddressPublished, Family: mapping.FamilyIPv4,
			Suffix: mapping.SuffixAuto, Health: true, HealthStarting: "critical", HealthTTL: 15 * time.Minute},
	}
}

func run(t *testing.T, a *agent, change func(*Config)) *bench {
	t.Helper()
	cfg := config()
	if change != nil {
		change(&cfg)
	}
	b := &bench{t: t, a: a, sets: make(chan watcher.Set)}
	b.r = New(cfg, a, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.r.Run(ctx, b.sets) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *bench) set(items ...*watcher.Item) {
	b.t.Helper()
	s := watcher.Set{}
	for _, i := range items {
		s[i.ID] = i
	}
	select {
	case b.sets <- s:
	case <-time.After(time.Minute):
		b.t.Fatal("the set was not taken")
	}
	synctest.Wait()
}

func (b *bench) pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (b *bench) want(when, want string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.a.has(); got != want {
		b.t.Errorf("%s: catalog has %q, want %q", when, got, want)
	}
}

func (b *bench) wantWrites(when, want string) {
	b.t.Helper()
	synctest.Wait()
	if got := b.a.took(); got != want {
		b.t.Errorf("%s: writes %q, want %q", when, got, want)
	}
}

// box is a running container that publishes port 80.
func box(name string, port uint16, with ...func(*docker.Container)) *watcher.Item {
	p := docker.Port{Number: 80, Proto: "tcp"}
	c := &docker.Container{ID: strings.Repeat(fmt.Sprintf("%08x", uint32(port)), 8), Name: name, Image: "img", State: docker.StateRunning,
		Exposed: []docker.Port{p}, Published: map[docker.Port][]docker.Binding{p: {{IP: netip.IPv4Unspecified(), Port: port}}}}
	for _, f := range with {
		f(c)
	}
	return &watcher.Item{Container: c, Phase: watcher.Running}
}

func env(kv ...string) func(*docker.Container) { return func(c *docker.Container) { c.Env = kv } }

func healthy(status string) func(*docker.Container) {
	return func(c *docker.Container) { c.Health = &docker.Health{Status: status, Output: "because"} }
}

func phase(i *watcher.Item, p watcher.Phase) *watcher.Item {
	return &watcher.Item{Container: i.Container, Phase: p, Reason: "so it is"}
}

func TestFollowsSets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		one, two := box("one", 1), box("two", 2)
		b.set(one, two)
		b.want("two run", "h:one:80@1 h:two:80@2")
		b.set(one)
		b.want("one ended", "h:one:80@1")
		b.set(phase(one, watcher.Draining))
		b.want("draining", "")
		b.set(one)
		b.want("it lives on", "h:one:80@1")
		b.set(phase(one, watcher.Held))
		b.want("crash loop", "")
	})
}

func TestNothingIsWrittenWhenNothingDiffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		b.set(box("one", 1), box("two", 2, healthy("healthy")))
		b.wantWrites("at first", "register h:one:80, register h:two:80")
		for range 8 {
			b.set(box("one", 1), box("two", 2, healthy("healthy"))) // inspected anew
			b.pass(30 * time.Second)
		}
		b.wantWrites("four minutes", "")
		b.pass(3 * time.Minute)
		b.wantWrites("the check is refreshed, nothing else", "check docker:h:two:80")
	})
}

func TestRestartWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		first := run(t, a, nil)
		first.set(box("one", 1), box("two", 2))
		first.stop()
		a.took()
		second := run(t, a, nil)
		second.set(box("one", 1))
		second.wantWrites("only what ended meanwhile", "deregister h:two:80")
	})
}

func TestNothingBeforeTheFirstSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		a.services["h:one:80"] = Registered{Owner: "me", Hash: "x"}
		b := run(t, a, nil)
		b.pass(5 * time.Minute)
		b.wantWrites("no set yet", "")
		b.set()
		b.wantWrites("nothing runs", "deregister h:one:80")
	})
}

func TestOnlyOursAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		a.services["by-hand"] = Registered{}
		a.services["h:old:80"] = Registered{}
		a.services["other"] = Registered{Owner: "engine-2"}
		a.services["mine"] = Registered{Owner: "me"}
		b := run(t, a, nil)
		b.set()
		b.pass(5 * time.Minute)
		b.want("only ours is gone", "by-hand@0 h:old:80@0 other@0")
	})
}

func TestCatalogAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		b.set(box("a", 1), box("b", 2))
		a.do(func() { a.away = true })
		b.set(box("b", 2), box("c", 3))
		b.pass(10 * time.Minute)
		if s := b.r.State(); s.Connected || s.Err == "" {
			t.Errorf("State() = %+v, want away", s)
		}
		a.do(func() { a.away = false })
		b.pass(3 * time.Second)
		b.want("back", "h:b:80@2 h:c:80@3")
		if !b.r.State().Connected {
			t.Error("State() is not connected")
		}
	})
}

func TestCatalogRestartsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, func(c *Config) { c.Resync = time.Hour })
		b.set(box("a", 1), box("b", 2))
		b.pass(10 * time.Second)
		a.do(func() { a.services = map[string]Registered{} }) // so quick that nobody saw it go
		b.pass(4 * time.Second)
		b.want("registered again", "h:a:80@1 h:b:80@2")
	})
}

func TestOneIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		a.refuse["h:bad:80"] = true
		b := run(t, a, nil)
		b.set(box("bad", 1), box("good", 2))
		b.want("the other is not held up", "h:good:80@2")
		v, err := b.r.Verdicts(t.Context())
		if err != nil || v[0].Verdict != "failing" || !strings.Contains(v[0].Services[0].Reason, "refused") {
			t.Errorf("verdict %+v, %v; want failing, and why", v[0], err)
		}
		b.pass(10 * time.Minute)
		a.do(func() { delete(a.refuse, "h:bad:80") })
		b.pass(11 * time.Second)
		b.want("it arrives", "h:bad:80@1 h:good:80@2")
	})
}

func TestRefusedDeregistrationIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		b.set(box("a", 1))
		a.do(func() { a.refuse["h:a:80"] = true })
		b.set()
		b.pass(time.Minute)
		a.do(func() { delete(a.refuse, "h:a:80") })
		b.pass(11 * time.Second)
		b.want("gone at last", "")
	})
}

// While a write is slow the container comes, goes and comes: the last word counts, and at
// no time are two writes of one id under way.
func TestLatestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		a.do(func() { a.slow = 2 * time.Second })
		b.set(box("a", 1))
		b.set()
		b.set(box("a", 2))
		b.set()
		b.set(box("a", 3))
		b.pass(10 * time.Second)
		b.want("the last", "h:a:80@3")
		if a.most != 1 {
			t.Errorf("%d writes of one id at once", a.most)
		}
		b.wantWrites("what lay between was not written", "register h:a:80, register h:a:80")
	})
}

func TestStormIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		a.slow = 5 * time.Millisecond
		b := run(t, a, nil)
		var items []*watcher.Item
		for n := range 100 {
			items = append(items, box(fmt.Sprint("c", n), uint16(n+1)))
		}
		b.set(items...)
		b.pass(time.Second)
		b.set()
		b.pass(time.Second)
		b.want("all gone", "")
		if a.most > inFlight || a.most < 2 {
			t.Errorf("%d writes at once, want up to %d", a.most, inFlight)
		}
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		b.set(box("a", 1, healthy("starting")))
		b.want("never passing before it is healthy", "h:a:80@1(critical)")
		b.wantWrites("in the same registration", "register h:a:80")
		b.set(box("a", 1, healthy("healthy")))
		b.want("healthy", "h:a:80@1(passing)")
		b.set(box("a", 1, healthy("unhealthy")))
		b.want("unhealthy", "h:a:80@1(critical)")
		b.wantWrites("only the check is written", "check docker:h:a:80, check docker:h:a:80")
		if out := b.a.services["h:a:80"].Checks["docker:h:a:80"].Output; out != "unhealthy: because" {
			t.Errorf("output %q", out)
		}
		b.a.do(func() { b.a.services["h:a:80"].Checks["docker:h:a:80"] = Check{"passing", "by hand"} })
		b.pass(40 * time.Second)
		b.want("set right", "h:a:80@1(critical)")
		b.a.do(func() { delete(b.a.services["h:a:80"].Checks, "docker:h:a:80") })
		b.pass(40 * time.Second)
		b.want("a lost check comes back", "h:a:80@1(critical)")
	})
}

func TestCheckThatIsGoneFromTheLabels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		b.set(box("a", 1, env("SERVICE_CHECK_TCP=1")))
		b.a.do(func() { b.a.services["h:a:80"].Checks["by-hand"] = Check{} })
		b.pass(40 * time.Second)
		b.set(box("a", 2))
		b.pass(time.Second)
		if got := slices.Collect(maps.Keys(b.a.services["h:a:80"].Checks)); len(got) != 1 || got[0] != "by-hand" {
			t.Errorf("checks %v, want only the one that is not ours", got)
		}
	})
}

func TestPausedIsOutOfService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		paused := func(c *docker.Container) { c.State = docker.StatePaused }
		b.set(box("a", 1))
		b.set(box("a", 1, paused), box("b", 2, paused))
		b.want("paused", "h:a:80@1(out)")
		b.set(box("a", 1), box("b", 2))
		b.want("goes on", "h:a:80@1 h:b:80@2")
		b.a.do(func() { b.a.services["h:a:80"] = with(b.a.services["h:a:80"], "for an upgrade") })
		b.pass(5 * time.Minute)
		b.want("an operator's maintenance is none of ours", "h:a:80@1(out) h:b:80@2")
	})
}

func with(s Registered, reason string) Registered {
	s.Maintenance, s.Reason = true, reason
	return s
}

func TestDrainModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), func(c *Config) { c.Drain = DrainMaintenance })
		a, off, dereg := box("a", 1), box("off", 2, env("SERVICE_DRAIN=off")), box("d", 3, env("SERVICE_DRAIN=deregister"))
		b.set(a, off, dereg)
		b.a.took()
		b.set(phase(a, watcher.Draining), phase(off, watcher.Draining), phase(dereg, watcher.Draining))
		b.want("draining", "h:a:80@1(out) h:off:80@2")
		if err := b.r.Drained(t.Context(), []string{a.ID, off.ID, dereg.ID}); err != nil {
			t.Errorf("Drained = %v", err)
		}
		b.set(a)
		b.want("a lives on", "h:a:80@1")
	})
}

func TestDrainedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		a := box("a", 1)
		b.set(a)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.r.Drained(ctx, []string{a.ID}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Drained of what is not draining = %v, want the deadline", err)
		}
		got := make(chan error)
		go func() { got <- b.r.Drained(t.Context(), []string{a.ID}) }()
		synctest.Wait()
		b.a.do(func() { b.a.slow = 3 * time.Second })
		b.set(phase(a, watcher.Draining))
		select {
		case err := <-got:
			t.Errorf("Drained = %v before the catalog had it", err)
		default:
		}
		if err := <-got; err != nil || b.a.has() != "" {
			t.Errorf("Drained = %v with %q in the catalog", err, b.a.has())
		}
	})
}

func TestExitedAndUnknownStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		a, c := box("a", 1), box("b", 2)
		b.set(a, c)
		failed := *a.Container
		failed.State = docker.StateExited
		b.set(&watcher.Item{Container: &failed, Phase: watcher.Exited}, &watcher.Item{Container: &docker.Container{ID: c.ID}, Phase: watcher.Unknown})
		b.pass(5 * time.Minute)
		b.want("left as they were", "h:a:80@1 h:b:80@2")
		b.set()
		b.want("gone", "")
	})
}

func TestAdoption(t *testing.T) {
	for adopt, want := range map[string]string{
		AdoptUnowned: "register h:free:80",
		AdoptNone:    "",
		AdoptAll:     "register h:free:80, register h:taken:80",
	} {
		t.Run(adopt, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAgent()
				a.services["h:free:80"] = Registered{Port: 9}
				a.services["h:taken:80"] = Registered{Port: 9, Owner: "engine-2"}
				b := run(t, a, func(c *Config) { c.Adopt = adopt })
				b.set(box("free", 1), box("taken", 2))
				b.wantWrites("adopt", want)
				v, err := b.r.Verdicts(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if adopt != AdoptAll && (v[1].Verdict != "conflict" || !strings.Contains(v[1].Services[0].Reason, "engine-2")) {
					t.Errorf("verdict %+v, want the conflict and the owner", v[1])
				}
				b.set()
				if adopt == AdoptUnowned {
					b.want("the other owner's stays", "h:taken:80@9")
				}
			})
		})
	}
}

func TestCleanup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		for _, id := range []string{"h:gone:80", "h:gone:53:udp", "h:lives:81", "else:gone:80", "by-hand", "h:odd", "h:x:y"} {
			a.services[id] = Registered{Address: "10.0.0.5"}
		}
		a.services["h:away:80"] = Registered{Address: "10.0.0.77"}
		b := run(t, a, func(c *Config) { c.Cleanup = true })
		b.set(box("lives", 1))
		b.pass(10 * time.Second)
		b.want("what gliderlabs left", "by-hand@0 else:gone:80@0 h:away:80@0 h:lives:80@1 h:lives:81@0 h:odd@0 h:x:y@0")
	})
}

// Two with the same owner and the same settings: the second writes nothing.
func TestTwoAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		one, two := run(t, a, nil), run(t, a, nil)
		one.set(box("a", 1))
		a.took()
		two.set(box("a", 1))
		one.pass(10 * time.Minute)
		one.wantWrites("in ten minutes", "")
		one.stop()
		two.pass(5 * time.Minute)
		two.want("one is gone", "h:a:80@1")
	})
}

// Two with the same owner and different settings do not fight for ever.
func TestTwoThatDisagree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		one := run(t, a, nil)
		two := run(t, a, func(c *Config) { c.Mapping.Meta = map[string]string{"x": "y"} })
		one.set(box("a", 1))
		two.set(box("a", 1))
		one.pass(8 * time.Minute)
		a.took()
		one.pass(90 * time.Second)
		one.wantWrites("after a while", "")
		if a.has() != "h:a:80@1" {
			t.Errorf("catalog has %q", a.has())
		}
	})
}

func TestTwoOwnersWithEqualNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		one := run(t, a, nil)
		two := run(t, a, func(c *Config) { c.Mapping.Owner = "engine-2" })
		one.set(box("a", 1), box("same", 2))
		two.set(box("b", 3), box("same", 4))
		one.pass(5 * time.Minute)
		one.want("neither touches the other's", "h:a:80@1 h:b:80@3 h:same:80@2")
		one.set()
		one.pass(5 * time.Minute)
		two.want("and takes the id when it is free", "h:b:80@3 h:same:80@4")
	})
}

func TestOneIDForTwoContainers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		old, young := box("old", 1, env("SERVICE_ID=x")), box("young", 2, env("SERVICE_ID=x"))
		young.StartedAt = time.Now()
		b.set(old, young)
		b.want("the oldest has it", "x@1")
		b.set(phase(old, watcher.Draining), young)
		b.want("until it goes", "x@2")
	})
}

func TestShutdown(t *testing.T) {
	for how, want := range map[string]string{
		ShutdownKeep: "h:a:80@1 other@0", ShutdownDeregister: "other@0", ShutdownMaintenance: "h:a:80@1(out) other@0",
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAgent()
				a.services["other"] = Registered{}
				b := run(t, a, func(c *Config) { c.OnShutdown = how })
				b.set(box("a", 1))
				b.stop()
				b.want("ended", want)
				if how == ShutdownMaintenance {
					again := run(t, a, nil)
					again.set(box("a", 1))
					again.want("back in service", "h:a:80@1 other@0")
				}
			})
		})
	}
}

// An end in the middle of a slow write waits for it, not longer than the bound.
func TestShutdownIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		a.do(func() { a.slow = time.Second })
		b.set(box("a", 1))
		b.stop()
		b.want("the write under way came to its end", "h:a:80@1")
		a.do(func() { a.slow = time.Hour })
		c := run(t, a, nil)
		c.set(box("a", 2))
		before := time.Now()
		c.stop()
		if took := time.Since(before); took > 2*time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestPlanAndOnce(t *testing.T) {
	t.Parallel()
	a := newAgent()
	a.services["h:gone:80"] = Registered{Owner: "me"}
	one := box("a", 1, healthy("healthy"))
	set := watcher.Set{one.ID: one}
	r := func() *Reconciler { return New(config(), a, slog.New(slog.DiscardHandler), prometheus.NewRegistry()) }
	plan, err := r().Plan(t.Context(), set)
	if err != nil || len(plan) != 2 || plan[0].Op != "register" || plan[0].Address != "10.0.0.5:1" || plan[1].Op != "deregister" {
		t.Errorf("Plan = %+v, %v", plan, err)
	}
	if got := a.took(); got != "" {
		t.Errorf("a plan wrote %q", got)
	}
	if err := r().Once(t.Context(), set); err != nil || a.has() != "h:a:80@1(passing)" {
		t.Errorf("Once = %v, catalog %q", err, a.has())
	}
	if plan, err := r().Plan(t.Context(), set); err != nil || len(plan) != 0 {
		t.Errorf("Plan afterwards = %+v, %v", plan, err)
	}
	a.away = true
	if _, err := r().Plan(t.Context(), set); err == nil {
		t.Error("Plan without a catalog succeeded")
	}
}
