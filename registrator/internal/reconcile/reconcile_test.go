package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

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
		b.wantWrites("at first", "check docker:h:two:80, register h:one:80, register h:two:80")
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
		b.wantWrites("in the same registration, and then why", "check docker:h:a:80, register h:a:80")
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

// What the engine says is in the output from the start, after each registration, and when
// it changes without a change of the status; and it is written once.
func TestHealthOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		b.a.forgets = true
		output := func(what, want string) {
			t.Helper()
			b.a.do(func() {
				if got := b.a.services["h:a:80"].Checks["docker:h:a:80"].Output; got != want {
					t.Errorf("%s: output %q, want %q", what, got, want)
				}
			})
		}
		b.set(box("a", 1, healthy("starting")))
		output("started", "starting: because")
		b.set(box("a", 1, healthy("unhealthy")))
		output("critical as before", "unhealthy: because")
		b.set(box("a", 1, healthy("healthy")))
		output("healthy", "healthy")
		b.a.took()
		b.set(box("a", 2, healthy("healthy")))
		output("registered anew", "healthy")
		b.wantWrites("once", "check docker:h:a:80, register h:a:80")
		b.pass(40 * time.Second) // it is read
		b.a.do(func() { b.a.services["h:a:80"].Checks["docker:h:a:80"] = Check{Status: "passing"} })
		b.pass(40 * time.Second)
		output("lost", "healthy")
		b.a.took()
		b.pass(2 * time.Minute)
		b.wantWrites("it is said", "")
	})
}

// An agent keeps the state of a check with its id. What was not seen healthy does not pass
// for a moment by that: neither another container, nor another life of the same one.
func TestNoBorrowedHealth(t *testing.T) {
	for name, c := range map[string]struct {
		port uint16
		out  bool // it comes out of maintenance
		want string
	}{
		"another container": {2, false, "h:a:80@1(critical) h:a:80@2(critical)"},
		"another address":   {1, false, "h:a:80@1(critical) h:a:80@9(critical)"},
		"out and in":        {1, true, "h:a:80@1(out)(critical) h:a:80@1(critical)"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAgent()
				first := run(t, a, nil)
				first.set(box("a", 1, healthy("healthy")))
				first.stop()
				next := box("a", c.port, healthy("starting"))
				switch {
				case c.out:
					a.services["h:a:80"] = with(a.services["h:a:80"], ours+"it ended")
				case c.port == 1:
					next.Published = box("a", 9).Published
				}
				a.seen = nil
				second := run(t, a, nil)
				second.set(next)
				if got := strings.Join(slices.Compact(a.seen), " "); got != c.want {
					t.Errorf("one after the other %q, want %q", got, c.want)
				}
			})
		})
	}
}

// The checks that the agent runs begin anew with another container, and go on with the same.
func TestNoBorrowedChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgent()
		b := run(t, a, nil)
		status := func(what, want string) {
			t.Helper()
			a.do(func() {
				if got := a.services["h:a:80"].Checks["service:h:a:80"].Status; got != want {
					t.Errorf("%s: %q, want %q", what, got, want)
				}
			})
		}
		one := box("a", 1, env("SERVICE_CHECK_TCP=1"))
		b.set(one)
		a.do(func() { a.services["h:a:80"].Checks["service:h:a:80"] = Check{Status: "passing"} })
		b.pass(40 * time.Second) // it is read
		tagged := *one.Container
		tagged.Env = []string{"SERVICE_CHECK_TCP=1", "SERVICE_TAGS=x"}
		b.set(&watcher.Item{Container: &tagged, Phase: watcher.Running})
		status("the same container", "passing")
		a.took()
		b.set(box("a", 2, env("SERVICE_CHECK_TCP=1")))
		status("another one", "")
		b.wantWrites("anew", "deregister h:a:80, register h:a:80")
		b.want("it is there", "h:a:80@2")
	})
}

func TestHealthOutputIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		b.a.silent = true
		b.set(box("a", 1, healthy("starting")))
		b.a.took()
		b.pass(4 * time.Minute)
		b.wantWrites("it was said once", "")
	})
}

// From an event to its write is measured, not from one that led to none, or to the end of
// the life before.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := run(t, newAgent(), nil)
		begun := time.Now()
		measured := func() (ok bool) {
			t.Helper()
			if err := b.r.call(t.Context(), func() { ok = b.r.m.took(b.r.entries["h:a:80"]) == 0 }); err != nil {
				t.Fatal(err)
			}
			return ok
		}
		item := box("a", 1)
		item.StartedAt, item.Event = begun, begun.Add(time.Millisecond)
		b.set(item)
		if !measured() {
			t.Error("the start was not measured")
		}
		b.pass(time.Second)
		idle := box("a", 1)
		idle.StartedAt, idle.Event = begun, time.Now()
		b.set(idle)
		b.pass(time.Hour)
		if !measured() {
			t.Error("an event that led to nothing would be measured with a later write")
		}
		again := box("a", 2)
		again.StartedAt, again.Event = time.Now(), time.Now().Add(-time.Second)
		e := &entry{item: again}
		if got := b.r.m.took(e); got != 0 {
			t.Errorf("the death before the start was measured: %v", got)
		}
		again.Event = time.Now()
		time.Sleep(time.Second)
		if got := b.r.m.took(e); got != time.Second {
			t.Errorf("measured %v, want 1s", got)
		}
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
