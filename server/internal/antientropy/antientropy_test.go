package antientropy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	changed  chan struct{}
}

func newLocal() *fakeLocal {
	return &fakeLocal{services: map[string]*api.Service{}, checks: map[string]*api.Check{}, changed: make(chan struct{})}
}

func (l *fakeLocal) Both() (map[string]*api.Service, map[string]*api.Check) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, c := map[string]*api.Service{}, map[string]*api.Check{}
	for k, v := range l.services {
		s[k] = v
	}
	for k, v := range l.checks {
		c[k] = v
	}
	return s, c
}

func (l *fakeLocal) Watch() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *fakeLocal) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
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
			l.change(func() { n++; id := fmt.Sprint(n); l.services[id] = svc(id) })
			if err := s.Sync(ctx); err != nil {
				b.Error(err)
			}
		}
	})
	cancel()
	running.Wait()
}
