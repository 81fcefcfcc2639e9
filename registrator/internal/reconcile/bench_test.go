package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
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
