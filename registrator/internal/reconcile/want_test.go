package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
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
		b.set(box("lives", 1), &watcher.Item{Container: &docker.Container{ID: box("gone", 2).ID}, Phase: watcher.Unknown})
		b.pass(5 * time.Minute)
		b.want("one has no name yet", "by-hand@0 else:gone:80@0 h:away:80@0 h:gone:53:udp@0 h:gone:80@0 h:lives:80@1 h:lives:81@0 h:odd@0 h:x:y@0")
		b.set(box("lives", 1))
		b.pass(5 * time.Minute)
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

func TestOnExitCritical(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), func(c *Config) { c.OnExit, c.Drain = ExitCritical, DrainMaintenance })
		a, d := box("a", 1), box("d", 2)
		b.set(a, d)
		exited := func(i *watcher.Item) *watcher.Item {
			c := *i.Container
			c.State, c.ExitCode = docker.StateExited, 1
			return &watcher.Item{Container: &c, Phase: watcher.Exited, Reason: "it ended with code 1"}
		}
		b.set(exited(a), phase(d, watcher.Draining))
		b.want("one failed, one is told to stop", "h:a:80@1(out) h:d:80@2(out)")
		b.set(exited(a), exited(d))
		b.a.took()
		b.pass(time.Hour)
		b.wantWrites("both stay", "")
		b.set(box("a", 3), exited(d))
		b.want("one is back, elsewhere", "h:a:80@3 h:d:80@2(out)")
		b.set(box("a", 3))
		b.want("the other one was removed", "h:a:80@3")
	})
}

// A lost engine's entries are out of service, not gone, and come back.
func TestLostEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		a := box("a", 1)
		b.set(a)
		b.set(phase(a, watcher.Lost))
		b.want("lost", "h:a:80@1(out)")
		b.set(box("a", 1))
		b.want("back", "h:a:80@1")
	})
}

// One that stands by knows all and writes nothing; when it is its turn it writes what the
// other one left undone.
func TestStandby(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		a.services["h:gone:80"] = Registered{Owner: "me"}
		b := run(t, a, func(c *Config) { c.Standby = "not its turn"; c.OnShutdown = ShutdownDeregister })
		b.set(box("a", 1))
		b.pass(10 * time.Minute)
		b.wantWrites("standing by", "")
		if s := b.r.State(); s.Standby != "not its turn" || !s.Connected {
			t.Errorf("State() = %+v", s)
		}
		if err := b.r.Drained(t.Context(), nil); err == nil || err.Error() != "not its turn" {
			t.Errorf("Drained = %v, want the reason", err)
		}
		if err := b.r.Stand(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		b.pass(time.Second)
		b.wantWrites("its turn", "deregister h:gone:80, register h:a:80")
		if err := b.r.Stand(t.Context(), "lost"); err != nil {
			t.Fatal(err)
		}
		b.set()
		b.pass(time.Minute)
		b.wantWrites("standing by again", "")
		b.stop()
		b.want("the end of one that stands by removes nothing", "h:a:80@1")
	})
}

// After a rename the new id is there before the old one goes, and its checks are where
// the old one's were.
func TestRename(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		old := box("old", 1, env("SERVICE_CHECK_TCP=1"))
		b.set(old)
		b.want("before", "h:old:80@1")
		a.do(func() { a.services["h:old:80"].Checks["service:h:old:80"] = Check{Status: "passing"} })
		b.pass(time.Minute) // it is read
		a.do(func() { a.slow = time.Second })
		renamed := *old.Container
		renamed.Name = "new"
		b.set(&watcher.Item{Container: &renamed, Phase: watcher.Running})
		b.pass(500 * time.Millisecond)
		b.want("the new one is on its way", "h:old:80@1")
		b.pass(time.Second)
		b.want("the old one is on its way out", "h:new:80@1 h:old:80@1")
		b.pass(time.Second)
		b.want("after", "h:new:80@1")
		a.do(func() {
			if got := a.services["h:new:80"].Checks["service:h:new:80"].Status; got != "passing" {
				t.Errorf("the check of the new id is %q, want that of the old one", got)
			}
		})
	})
}

// A new id that the agent refuses leaves the old one in service; one that is elsewhere does not.
func TestRenameRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		old := box("old", 1)
		b.set(old)
		a.do(func() { a.refuse["h:new:80"] = true })
		renamed := *old.Container
		renamed.Name = "new"
		b.set(&watcher.Item{Container: &renamed, Phase: watcher.Running})
		b.pass(time.Minute)
		b.want("refused", "h:old:80@1")
		moved := renamed
		moved.Published = box("x", 7).Published
		b.set(&watcher.Item{Container: &moved, Phase: watcher.Running})
		b.pass(time.Minute)
		b.want("it was started anew, at another port", "")
		b.set(&watcher.Item{Container: &renamed, Phase: watcher.Running})
		a.do(func() { delete(a.refuse, "h:new:80") })
		b.pass(time.Minute)
		b.want("taken", "h:new:80@1")
	})
}

// A plan has a line for every container, says why, and writes nothing.
func TestPlan(t *testing.T) {
	t.Parallel()
	a := newAgent()
	for id, s := range map[string]Registered{
		"h:gone:80": {Owner: "me", Container: "0123456789ab"}, "h:adopted:80": {Address: "10.0.0.5", Port: 3}, "h:theirs:80": {Owner: "engine-2"},
		"h:moved:80": {Owner: "me", Address: "10.0.0.5", Port: 99, Hash: "x"}, "by-hand": {}, "h:left:81": {Address: "10.0.0.5"},
	} {
		a.services[id] = s
	}
	ignored := box("ignored", 5, env("SERVICE_IGNORE=1"))
	items := []*watcher.Item{box("new", 1, healthy("healthy")), box("adopted", 3), box("theirs", 4), ignored, box("moved", 6), phase(box("goes", 7), watcher.Draining)}
	set := watcher.Set{}
	for _, i := range items {
		set[i.ID] = i
	}
	cfg := config()
	cfg.Cleanup = true
	r := New(cfg, a, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	plan, err := r.Plan(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range plan {
		got = append(got, s.Op+" "+s.Container+" "+s.ID+": "+s.Why)
	}
	want := []string{
		"deregister  h:left:81: left behind by gliderlabs/registrator: there is no such container",
		"deregister 0123456789ab h:gone:80: its container does not run",
		"register adopted h:adopted:80: taken over: the entry has no owner",
		"ignore goes : so it is",
		"ignore ignored : port 80/tcp: SERVICE_IGNORE",
		"register moved h:moved:80: the address was 10.0.0.5:99",
		"register new h:new:80: it runs and is not in the catalog",
		"ignore theirs h:theirs:80: the id belongs to owner \"engine-2\"; give this host another -host, or take the entry over with -adopt=all",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if w := a.took(); w != "" {
		t.Errorf("a plan wrote %q", w)
	}
	var b strings.Builder
	if err := WriteTable(&b, plan); err != nil || strings.Count(b.String(), "\n") != len(plan)+1 || !strings.Contains(b.String(), "10.0.0.5:1 ") {
		t.Errorf("table (%v):\n%s", err, &b)
	}
}

// What was written is remembered, the latest first; refreshes are not.
func TestDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		b.set(box("a", 1, healthy("healthy")))
		a.do(func() { a.refuse["h:b:80"] = true })
		b.set(box("a", 1, healthy("healthy")), box("b", 2))
		b.pass(time.Hour) // many failures, many refreshes
		b.set()
		got, err := b.r.Decisions(t.Context())
		if err != nil || len(got) != 3 {
			t.Fatalf("Decisions = %+v, %v; want three", got, err)
		}
		if got[0].Op != "deregister" || got[0].Why == "" || got[1].Err == "" || got[1].Container != "b" || got[2].Op != "register" || got[2].ID != "h:a:80" {
			t.Errorf("Decisions = %+v", got)
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
	if err != nil || len(plan) != 2 || plan[1].Op != "register" || plan[1].Address != "10.0.0.5:1" || plan[0].Op != "deregister" {
		t.Errorf("Plan = %+v, %v", plan, err)
	}
	if got := a.took(); got != "" {
		t.Errorf("a plan wrote %q", got)
	}
	if err := r().Once(t.Context(), set); err != nil || a.has() != "h:a:80@1(passing)" {
		t.Errorf("Once = %v, catalog %q", err, a.has())
	}
	if plan, err := r().Plan(t.Context(), set); err != nil || len(plan) != 1 || plan[0].Writes() || plan[0].Op != "keep" {
		t.Errorf("Plan afterwards = %+v, %v", plan, err)
	}
	a.away = true
	if _, err := r().Plan(t.Context(), set); err == nil {
		t.Error("Plan without a catalog succeeded")
	}
}
