package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

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
