package antientropy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// fakeLocal is an agent whose services a test changes.
type fakeLocal struct {
	mu       sync.Mutex
	services map[string]*api.Service
	checks   map[string]*api.Check
	wake     chan struct{}
	looked   int // rows asked for by id
	bothes   int // calls of Both

	newServices, newChecks map[string]bool
}

func newLocal() *fakeLocal {
	return &fakeLocal{
		services: map[string]*api.Service{}, checks: map[string]*api.Check{}, wake: make(chan struct{}, 1),
		newServices: map[string]bool{}, newChecks: map[string]bool{},
	}
}

func (l *fakeLocal) Both() (map[string]*api.Service, map[string]*api.Check) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bothes++
	s, c := map[string]*api.Service{}, map[string]*api.Check{}
	for k, v := range l.services {
		s[k] = v
	}
	for k, v := range l.checks {
		c[k] = v
	}
	return s, c
}

func (l *fakeLocal) Wake() <-chan struct{} { return l.wake }

func (l *fakeLocal) Take() (services, checks map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	services, checks = l.newServices, l.newChecks
	l.newServices, l.newChecks = map[string]bool{}, map[string]bool{}
	return services, checks
}

func (l *fakeLocal) Some(services, checks map[string]bool) (map[string]*api.Service, map[string]*api.Check) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looked += len(services) + len(checks)
	s, c := map[string]*api.Service{}, map[string]*api.Check{}
	for id := range services {
		if v := l.services[id]; v != nil {
			s[id] = v
		}
	}
	for id := range checks {
		if v := l.checks[id]; v != nil {
			c[id] = v
		}
	}
	return s, c
}

// change lets f change the maps, and notes what is another then.
func (l *fakeLocal) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	services, checks := maps.Clone(l.services), maps.Clone(l.checks)
	f()
	for id, v := range l.services {
		if services[id] != v {
			l.newServices[id] = true
		}
		delete(services, id)
	}
	for id, v := range l.checks {
		if checks[id] != v {
			l.newChecks[id] = true
		}
		delete(checks, id)
	}
	for id := range services {
		l.newServices[id] = true
	}
	for id := range checks {
		l.newChecks[id] = true
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// fakeCatalog counts what is asked of it, and can be away.
type fakeCatalog struct {
	mu            sync.Mutex
	node          *api.Node
	services      map[string]*api.Service
	checks        map[string]*api.Check
	reads, writes int
	fail          error
	latency       time.Duration
	log           []string
}

func newCatalog() *fakeCatalog {
	return &fakeCatalog{services: map[string]*api.Service{}, checks: map[string]*api.Check{}}
}

func (c *fakeCatalog) Registered(context.Context, string) (*api.Node, map[string]*api.Service, map[string]*api.Check, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if c.fail != nil {
		return nil, nil, nil, c.fail
	}
	s, k := map[string]*api.Service{}, map[string]*api.Check{}
	for id, v := range c.services {
		s[id] = v
	}
	for id, v := range c.checks {
		k[id] = v
	}
	return c.node, s, k, nil
}

func (c *fakeCatalog) Register(_ context.Context, r *api.Registration) error {
	c.mu.Lock()
	latency := c.latency
	c.mu.Unlock()
	if latency > 0 {
		<-time.After(latency)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	if c.fail != nil {
		return c.fail
	}
	if c.node == nil || !r.SkipNodeUpdate {
		c.node = nodeOf(r)
	}
	line := "register"
	if r.Service != nil {
		c.services[r.Service.ID] = r.Service
		line += " " + r.Service.ID
	}
	for _, k := range r.Checks {
		c.checks[k.CheckID] = k
		line += "+" + k.CheckID
	}
	c.log = append(c.log, line)
	return nil
}

func (c *fakeCatalog) Deregister(_ context.Context, d *api.Deregistration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	if c.fail != nil {
		return c.fail
	}
	delete(c.services, d.ServiceID)
	delete(c.checks, d.CheckID)
	for id, k := range c.checks {
		if d.ServiceID != "" && k.ServiceID == d.ServiceID {
			delete(c.checks, id)
		}
	}
	c.log = append(c.log, "deregister "+d.ServiceID+d.CheckID)
	return nil
}

func (c *fakeCatalog) counts() (reads, writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads, c.writes
}

// service and check give rows, nil if there are none.
func (c *fakeCatalog) service(id string) *api.Service {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.services[id]
}
func (c *fakeCatalog) check(id string) *api.Check {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checks[id]
}

func (c *fakeCatalog) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// bubble runs a syncer in a bubble until the test is over.
func bubble(t *testing.T, output time.Duration, test func(t *testing.T, s *Syncer, l *fakeLocal, c *fakeCatalog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, c := newLocal(), newCatalog()
		s := New(Config{
			Node: func() api.Registration {
				return api.Registration{Datacenter: "dc1", ID: "id", Node: "n1", Address: "10.0.0.1"}
			},
			Size: func() int { return 3 }, OutputInterval: output, Log: slog.New(slog.DiscardHandler),
		}, l, c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		test(t, s, l, c)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func svc(id string) *api.Service {
	return &api.Service{ID: id, Service: "web", Tags: []string{"a"}, Port: 1}
}
func chk(id, service, status, output string) *api.Check {
	return &api.Check{CheckID: id, ServiceID: service, Status: status, Output: output}
}

func TestA1ChecksTravelWithTheirService(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(t *testing.T, _ *Syncer, l *fakeLocal, c *fakeCatalog) {
		l.change(func() { l.services["w"], l.checks["k"] = svc("w"), chk("k", "w", api.Passing, "") })
		synctest.Wait()
		c.set(func() {
			if got := c.log[len(c.log)-1]; got != "register w+k" {
				t.Errorf("got %q, want service and check in one registration", got)
			}
		})
	})
}

func TestA2AChangeCostsOneWrite(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(t *testing.T, s *Syncer, l *fakeLocal, c *fakeCatalog) {
		l.change(func() { l.services["w"] = svc("w") })
		synctest.Wait()
		reads, writes := c.counts()
		l.change(func() { l.checks["k"] = chk("k", "w", api.Passing, "") })
		synctest.Wait()
		if r, w := c.counts(); r != reads || w != writes+1 {
			t.Errorf("a change cost %d reads and %d writes, want 0 and 1", r-reads, w-writes)
		}
		l.change(func() {})
		if err := s.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r, w := c.counts(); r != reads || w != writes+1 {
			t.Errorf("no change cost %d reads and %d writes", r-reads, w-writes-1)
		}
	})
}

func TestA3StrangersGo(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(t *testing.T, s *Syncer, l *fakeLocal, c *fakeCatalog) {
		l.change(func() { l.services["w"] = svc("w") })
		synctest.Wait()
		c.set(func() {
			c.services["stranger"], c.checks["strange"] = svc("stranger"), chk("strange", "", api.Passing, "")
			c.services[api.ServerService], c.checks[api.SerfHealth] = svc(api.ServerService), chk(api.SerfHealth, "", api.Passing, "")
			c.fail = errors.New("no leader")
		})
		s.Trigger()
		time.Sleep(time.Minute)
		synctest.Wait()
		c.set(func() {
			if len(c.services) != 3 {
				t.Errorf("%d services while the catalog cannot be read, want 3", len(c.services))
			}
			c.fail = nil
		})
		time.Sleep(time.Minute) // retries come at most 15 s apart, and jitter
		synctest.Wait()
		c.set(func() {
			if len(c.services) != 2 || c.services["w"] == nil || c.services[api.ServerService] == nil || len(c.checks) != 1 {
				t.Errorf("left: %v, %v", c.services, c.checks)
			}
		})
	})
}

func TestA4FailuresAreMadeGood(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(t *testing.T, s *Syncer, l *fakeLocal, c *fakeCatalog) {
		c.set(func() { c.fail = errors.New("away") })
		l.change(func() { l.services["w"] = svc("w") })
		synctest.Wait()
		if err := s.Sync(t.Context()); err == nil {
			t.Error("Sync says that all is well while the catalog is away")
		}
		c.set(func() { c.fail = nil })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if c.service("w") == nil {
			t.Error("the service is not there after the catalog came back")
		}
	})
}

func TestA5SyncSharesRounds(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(t *testing.T, s *Syncer, l *fakeLocal, c *fakeCatalog) {
		c.set(func() { c.latency = time.Millisecond })
		const n = 1000
		began := time.Now()
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() {
				id := fmt.Sprint(i)
				l.change(func() { l.services[id] = svc(id) })
				if err := s.Sync(t.Context()); err != nil {
					t.Error(err)
				}
				if c.service(id) == nil {
					t.Errorf("Sync returned before %s was there", id)
				}
			})
		}
		group.Wait()
		if took := time.Since(began); took > n*time.Millisecond/20 {
			t.Errorf("%d registrations took %v with writes of 1 ms: they went one by one", n, took)
		}
	})
}

func TestA6OutputsWait(t *testing.T) {
	t.Parallel()
	bubble(t, 5*time.Minute, func(t *testing.T, _ *Syncer, l *fakeLocal, c *fakeCatalog) {
		l.change(func() { l.services["w"], l.checks["k"] = svc("w"), chk("k", "w", api.Passing, "one") })
		synctest.Wait()
		l.change(func() { l.checks["k"] = chk("k", "w", api.Passing, "two") })
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := c.check("k").Output; got != "one" {
			t.Errorf("after 2 minutes of 5: output %q, want it to wait", got)
		}
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if got := c.check("k").Output; got != "two" {
			t.Errorf("after 8 minutes: output %q", got)
		}
		l.change(func() { l.checks["k"] = chk("k", "w", api.Critical, "three") })
		synctest.Wait()
		if got := c.check("k"); got.Status != api.Critical || got.Output != "three" {
			t.Errorf("a change of status at once: %+v", got)
		}
	})
}

func TestA6TheFirstOutputGoesAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, 5*time.Minute, func(t *testing.T, _ *Syncer, l *fakeLocal, c *fakeCatalog) {
		l.change(func() { l.checks["k"] = chk("k", "", api.Critical, "") })
		synctest.Wait()
		l.change(func() { l.checks["k"] = chk("k", "", api.Critical, "connection refused") })
		synctest.Wait()
		if got := c.check("k").Output; got != "connection refused" {
			t.Errorf("output %q", got)
		}
	})
}

// Why a check does not pass goes at once, and another reason within the interval waits. What
// could not be sent goes when it can.
func TestA6ReasonsGoAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, 5*time.Minute, func(t *testing.T, _ *Syncer, l *fakeLocal, c *fakeCatalog) {
		set := func(output string) string {
			l.change(func() { l.checks["k"] = chk("k", "", api.Critical, output) })
			synctest.Wait()
			return c.check("k").Output
		}
		set("starting")
		if got := set("unhealthy: no answer"); got != "unhealthy: no answer" {
			t.Errorf("the first reason: output %q", got)
		}
		if got := set("unhealthy: 503"); got != "unhealthy: no answer" {
			t.Errorf("another at once: output %q, want it to wait", got)
		}
		time.Sleep(8 * time.Minute)
		synctest.Wait()
		if got := c.check("k").Output; got != "unhealthy: 503" {
			t.Errorf("after 8 minutes: output %q", got)
		}
		c.set(func() { c.fail = api.ErrNoLeader })
		set("unhealthy: gone")
		c.set(func() { c.fail = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := c.check("k").Output; got != "unhealthy: gone" {
			t.Errorf("a minute after it could not be sent: output %q", got)
		}
	})
}

// Outputs of many checks that wait for different times all arrive, and a check that goes
// while its output waits is no more than gone.
func TestA6ManyOutputs(t *testing.T) {
	t.Parallel()
	bubble(t, 5*time.Minute, func(t *testing.T, _ *Syncer, l *fakeLocal, c *fakeCatalog) {
		const many = 50
		set := func(output string) {
			l.change(func() {
				for i := range many {
					id := fmt.Sprint("k", i)
					l.checks[id] = chk(id, "", api.Passing, output)
				}
			})
			synctest.Wait()
		}
		set("one")
		set("two")
		time.Sleep(3 * time.Minute)
		set("three") // waits no longer for it
		l.change(func() { delete(l.checks, "k0") })
		time.Sleep(8 * time.Minute) // what went as "two" a moment before waits anew
		synctest.Wait()
		if c.check("k0") != nil {
			t.Error("the check that is gone is in the catalog")
		}
		for i := 1; i < many; i++ {
			id := fmt.Sprint("k", i)
			if got := c.check(id).Output; got != "three" {
				t.Errorf("%s: output %q", id, got)
			}
		}
	})
}

// Random changes, each in a round of its own or with others, leave the catalog equal;
// and looking costs as much as changed.
func TestA8RoundsAreNarrow(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(t *testing.T, _ *Syncer, l *fakeLocal, c *fakeCatalog) {
		r := rand.New(rand.NewPCG(1, 2))
		changes := 0
		for step := range 2000 {
			l.change(func() {
				service := fmt.Sprint("s", r.IntN(20))
				check := fmt.Sprint("k", r.IntN(40))
				changes += 4
				switch r.IntN(6) {
				case 0: // with its checks, as the agent does
					delete(l.services, service)
					for id, k := range l.checks {
						if k.ServiceID == service {
							changes++
							delete(l.checks, id)
						}
					}
				case 1, 2:
					s := svc(service)
					s.Port = r.IntN(3)
					l.services[service] = s
				case 3:
					delete(l.checks, check)
				default:
					if l.services[service] == nil {
						service = ""
					}
					l.checks[check] = chk(check, service, []string{api.Passing, api.Critical}[r.IntN(2)], fmt.Sprint(r.IntN(3)))
				}
			})
			if r.IntN(3) > 0 {
				continue
			}
			synctest.Wait()
			l.mu.Lock()
			c.mu.Lock()
			if len(l.services) != len(c.services) || len(l.checks) != len(c.checks) {
				t.Fatalf("step %d: %d services and %d checks here, %d and %d there", step, len(l.services), len(l.checks), len(c.services), len(c.checks))
			}
			for id, v := range l.services {
				if have := c.services[id]; have == nil || !v.Equal(have) {
					t.Fatalf("step %d: service %s: %+v there, want %+v", step, id, c.services[id], v)
				}
			}
			for id, v := range l.checks {
				if k := c.checks[id]; !sameCheck(v, k) || k.Output != v.Output {
					t.Fatalf("step %d: check %s: %+v there, want %+v", step, id, k, v)
				}
			}
			c.mu.Unlock()
			l.mu.Unlock()
		}
		if reads, _ := c.counts(); reads != 1 {
			t.Errorf("%d reads of the catalog, want the first", reads)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.bothes != 1 || l.looked > changes {
			t.Errorf("%d full looks and %d rows for %d changes", l.bothes, l.looked, changes)
		}
	})
}

func TestA7TagOverride(t *testing.T) {
	t.Parallel()
	bubble(t, 0, func(t *testing.T, s *Syncer, l *fakeLocal, c *fakeCatalog) {
		own := svc("w")
		own.EnableTagOverride = true
		l.change(func() { l.services["w"] = own })
		synctest.Wait()
		other := *own
		other.Tags = []string{"theirs"}
		c.set(func() { c.services["w"] = &other })
		s.Trigger()
		synctest.Wait()
		moved := *own
		moved.Port = 9
		l.change(func() { l.services["w"] = &moved })
		synctest.Wait()
		if got := c.service("w"); got.Port != 9 || got.Tags[0] != "theirs" {
			t.Errorf("got port %d, tags %v; want 9 and the catalog's tags", got.Port, got.Tags)
		}
	})
}

// What others write is named once, and put back; what the leader keeps is not.
func TestA9WhoOverwritesWhom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l, c := newLocal(), newCatalog()
		c.node = &api.Node{Node: "n1"}
		c.services["left"] = svc("left")
		s := New(Config{
			Node: func() api.Registration { return api.Registration{Node: "n1", Address: "10.0.0.1"} }, Size: func() int { return 1 },
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		}, l, c)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		said := func() string {
			synctest.Wait()
			defer log.Reset()
			return log.String()
		}
		if text := said(); !strings.Contains(text, "level=INFO") || !strings.Contains(text, `rows="[service left]"`) {
			t.Errorf("of the first reading: %s", text)
		}
		tagged := *svc("tagged")
		tagged.EnableTagOverride = true
		l.change(func() { l.services["web"], l.services["db"], l.services["tagged"] = svc("web"), svc("db"), &tagged })
		time.Sleep(2 * calm)
		if text := said(); text != "" {
			t.Errorf("of the agent's own changes: %s", text)
		}
		c.set(func() {
			other, over := *svc("web"), tagged
			other.Port, over.Tags = 99, []string{"by the catalog"}
			c.services["web"], c.services["tagged"], c.services["alien"] = &other, &over, svc("alien")
			delete(c.services, "db")
			c.checks[api.SerfHealth] = chk(api.SerfHealth, "", api.Critical, "")
		})
		s.Trigger()
		text := said()
		if !strings.Contains(text, "level=WARN") || !strings.Contains(text, `rows="[service alien added service db removed service web changed]" count=3`) {
			t.Errorf("of others' changes: %s", text)
		}
		if c.service("web").Port == 99 || c.service("db") == nil || c.service("alien") != nil {
			t.Error("not put back")
		}
		s.Trigger()
		if text := said(); text != "" {
			t.Errorf("of what it put back itself: %s", text)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkSync(b *testing.B) {
	l, c := newLocal(), newCatalog()
	c.latency = time.Millisecond
	s := New(Config{Node: func() api.Registration { return api.Registration{Node: "n1", Address: "10.0.0.1"} }, Size: func() int { return 1 }, Log: slog.New(slog.DiscardHandler)}, l, c)
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	n := 0
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.mu.Lock() // change compares the maps, which would be what is measured
			n++
			id := fmt.Sprint(n)
			l.services[id], l.newServices[id] = svc(id), true
			l.mu.Unlock()
			if err := s.Sync(ctx); err != nil {
				b.Error(err)
			}
		}
	})
	cancel()
	running.Wait()
}
