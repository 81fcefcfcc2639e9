package watcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/internal/docker/dockertest"
	_ "github.com/rollcall/rollcall/internal/oneproc"
)

// bench is a watcher on an engine in memory, in a synctest bubble.
type bench struct {
	t      *testing.T
	engine *dockertest.Engine
	w      *Watcher
	latest atomic.Pointer[Set]
	sets   atomic.Int64
	reg    *prometheus.Registry
}

func (b *bench) drift() float64 {
	b.t.Helper()
	all, err := b.reg.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "registrator_drift_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	b.t.Fatal("no such metric")
	return 0
}

func watch(t *testing.T, cfg Config, prepare func(*dockertest.Engine)) *bench {
	t.Helper()
	b := &bench{t: t, engine: &dockertest.Engine{}, reg: prometheus.NewRegistry()}
	b.engine.Name(docker.Info{ID: "engine-1", Name: "host1"})
	if prepare != nil {
		prepare(b.engine)
	}
	if cfg.DrainMax == 0 {
		cfg.DrainMax = 10 * time.Minute
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	b.w = New(cfg, b.engine, log, b.reg)
	ctx, cancel := context.WithCancel(t.Context())
	out, ended := make(chan Set), make(chan error)
	go func() { ended <- b.w.Run(ctx, out) }()
	go func() {
		for {
			select {
			case s := <-out:
				b.latest.Store(&s)
				b.sets.Add(1)
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	synctest.Wait()
	return b
}

// want compares the latest set: "name:phase …", sorted.
func (b *bench) want(when, want string) {
	b.t.Helper()
	synctest.Wait()
	got := "none"
	if s := b.latest.Load(); s != nil {
		var list []string
		for _, i := range *s {
			list = append(list, i.Name+":"+string(i.Phase))
		}
		slices.Sort(list)
		got = strings.Join(list, " ")
	}
	if got != want {
		b.t.Errorf("%s: set is %q, want %q", when, got, want)
	}
}

func (b *bench) pass(d time.Duration) { time.Sleep(d); synctest.Wait() }

func id(n int) string { return strings.Repeat(fmt.Sprintf("%08x", n), 8) }

func running(n int, name string) docker.Container {
	return docker.Container{ID: id(n), Name: name, State: docker.StateRunning, StartedAt: time.Now(), StopSignal: int(syscall.SIGTERM)}
}

func TestFollowsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) {
			e.Put(running(1, "old"))
			e.Put(docker.Container{ID: id(9), Name: "ended", State: docker.StateExited})
		})
		b.want("first set", "old:running")
		b.engine.Start(running(2, "new"))
		b.want("after a start", "new:running old:running")
		b.engine.Kill(id(1), int(syscall.SIGHUP))
		b.want("HUP is no stop signal", "new:running old:running")
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.want("after the stop signal", "new:running old:draining")
		b.engine.Die(id(1), 0)
		b.want("after the death", "new:running")
		b.engine.Remove(id(2))
		b.engine.Send(docker.Event{Type: docker.TypeContainer, Action: docker.ActionDestroy, Container: id(2)})
		b.want("removed", "")
	})
}

func TestEmptyEngineIsASet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, nil)
		b.want("nothing runs", "")
	})
}

// The engine cannot describe a container while it starts or stops it, and with a fault of
// its own never can: the others do not wait for that.
func TestOneThatIsNotDescribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan error)
		b := watch(t, Config{}, func(e *dockertest.Engine) {
			e.Put(running(1, "web"))
			e.Put(running(2, "stuck"))
			e.InspectFault = func(of string) error {
				if of == id(2) {
					return <-answer
				}
				return nil
			}
		})
		defer close(answer)
		b.want("at first", "none")
		b.pass(firstLook)
		b.want("a second later", ":unknown web:running")
		b.engine.Start(running(3, "new"))
		b.want("and others come", ":unknown new:running web:running")
		answer <- nil
		b.want("described", "new:running stuck:running web:running")
	})
}

// The events say one thing, the engine another: the engine is right.
func TestOrderOfEventsDoesNotMatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, nil)
		c := running(1, "web")
		b.engine.Put(c)
		for _, a := range []string{docker.ActionDie, docker.ActionStart, docker.ActionDie} {
			b.engine.Send(docker.Event{Type: docker.TypeContainer, Action: a, Container: c.ID})
		}
		b.want("it runs", "web:running")
		b.engine.Remove(c.ID)
		b.engine.Send(docker.Event{Type: docker.TypeContainer, Action: docker.ActionStart, Container: c.ID})
		b.want("it does not", "")
	})
}

func TestOwnStopSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) {
			c := running(1, "nginx")
			c.StopSignal = int(syscall.SIGQUIT)
			e.Put(c)
		})
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.want("TERM is not its signal", "nginx:running")
		b.engine.Kill(id(1), int(syscall.SIGQUIT))
		b.want("QUIT is", "nginx:draining")
	})
}

func TestKillIsADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) { e.Put(running(1, "web")) })
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGKILL))
		b.want("KILL", "web:draining")
	})
}

func TestHealthEventDoesNotEndDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{Resync: 30 * time.Second}, func(e *dockertest.Engine) { e.Put(running(1, "web")) })
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.engine.Send(docker.Event{Type: docker.TypeContainer, Action: "health_status: healthy", Container: id(1)})
		b.want("healthy while draining", "web:draining")
		b.pass(2 * time.Minute)
		b.want("after several resyncs", "web:draining")
	})
}

func TestDrainEndsByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{DrainMax: time.Minute}, func(e *dockertest.Engine) { e.Put(running(1, "web")) })
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.pass(59 * time.Second)
		b.want("not yet", "web:draining")
		b.pass(2 * time.Second)
		b.want("it lives on", "web:running")
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.want("told again", "web:draining")
	})
}

func TestRestartEndsDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) { e.Put(running(1, "web")) })
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.pass(time.Second)
		b.engine.Die(id(1), 0)
		b.want("ended", "")
		b.pass(time.Second)
		b.engine.Start(running(1, "web"))
		b.want("started anew", "web:running")
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.want("and stopped anew", "web:draining")
	})
}

// A registrator that comes while a container drains learns of it from the engine's memory.
func TestDrainIsReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) {
			e.Put(running(1, "web"))
			time.Sleep(time.Second)
			e.Kill(id(1), int(syscall.SIGTERM))
			e.Kill(id(2), int(syscall.SIGTERM)) // of an earlier life
			time.Sleep(time.Second)
			e.Put(running(2, "other"))
		})
		b.want("first set", "other:running web:draining")
	})
}

func TestEngineAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{Resync: 30 * time.Second}, func(e *dockertest.Engine) {
			for n := range 4 {
				e.Put(running(n+1, fmt.Sprintf("c%d", n+1)))
			}
		})
		b.want("first set", "c1:running c2:running c3:running c4:running")
		sets := b.sets.Load()
		b.engine.Away(true)
		b.pass(time.Minute)
		if got := b.sets.Load(); got != sets {
			b.t.Errorf("%d sets while the engine was away, want none", got-sets)
		}
		if s := b.w.State(); s.Connected || s.Err == "" {
			b.t.Errorf("State() = %+v, want away with a reason", s)
		}
		b.engine.Remove(id(1), id(2))
		b.engine.Put(running(5, "c5"))
		b.engine.Away(false)
		b.pass(5 * time.Second)
		b.want("back", "c3:running c4:running c5:running")
		if !b.w.State().Connected {
			b.t.Error("State() is not connected")
		}
	})
}

// While nobody can see whether it died, a container does not come back from draining.
func TestDrainDoesNotExpireUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{DrainMax: time.Minute}, func(e *dockertest.Engine) { e.Put(running(1, "web")) })
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.want("told to stop", "web:draining")
		b.engine.Away(true)
		b.engine.Remove(id(1))
		b.pass(10 * time.Minute)
		b.want("away", "web:draining")
		b.engine.Away(false)
		b.pass(10 * time.Second)
		b.want("seen", "")
	})
}

func TestStreamCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) { e.Put(running(1, "a")) })
		b.engine.Cut()
		b.engine.Put(running(2, "b")) // nobody hears of it
		b.pass(time.Second)
		b.want("renewed", "a:running b:running")
		b.engine.Start(running(3, "c"))
		b.want("and heard again", "a:running b:running c:running")
	})
}

func TestFrozenStreamIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{Resync: 30 * time.Second}, func(e *dockertest.Engine) { e.Put(running(1, "a")) })
		b.pass(2 * time.Second)
		b.engine.Deaf(true)
		b.engine.Start(running(2, "b"))
		b.engine.Die(id(1), 0)
		b.want("nothing heard", "a:running")
		b.pass(35 * time.Second)
		b.want("looked", "b:running")
		if got := b.drift(); got < 1 {
			b.t.Errorf("drift = %v, want it counted", got)
		}
		b.engine.Deaf(false)
		b.engine.Start(running(3, "c"))
		b.want("the renewed stream is heard", "b:running c:running")
	})
}

// What only came, or only went, is counted, too.
func TestDriftIsCounted(t *testing.T) {
	for name, change := range map[string]func(e *dockertest.Engine){
		"one came":                   func(e *dockertest.Engine) { e.Start(running(2, "b")) },
		"one ended, and was removed": func(e *dockertest.Engine) { e.Die(id(1), 0); e.Remove(id(1)) },
		"one ended":                  func(e *dockertest.Engine) { e.Die(id(1), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := watch(t, Config{Resync: 30 * time.Second}, func(e *dockertest.Engine) {
					e.Put(running(1, "a"))
					e.Put(running(9, "stays"))
				})
				b.pass(2 * time.Second)
				b.engine.Deaf(true)
				change(b.engine)
				b.engine.Deaf(false)
				b.pass(40 * time.Second)
				if got := b.drift(); got != 1 {
					t.Errorf("drift = %v, want 1", got)
				}
			})
		})
	}
}

func TestQuietMeansNoDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{Resync: 30 * time.Second}, func(e *dockertest.Engine) { e.Put(running(1, "a")) })
		for n := range 20 {
			b.engine.Start(running(n+10, fmt.Sprint("x", n)))
			b.pass(10 * time.Second)
			b.engine.Die(id(n+10), 0)
		}
		if got := b.drift(); got != 0 {
			b.t.Errorf("drift = %v, want 0: every change was announced", got)
		}
	})
}

// An engine that comes up may list nothing for a moment.
func TestSuddenlyEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{Resync: 30 * time.Second}, func(e *dockertest.Engine) {
			e.Put(running(1, "a"))
			e.Put(running(2, "b"))
		})
		b.pass(2 * time.Second)
		b.engine.Away(true)
		b.engine.Remove(id(1), id(2))
		b.engine.Away(false)
		b.pass(time.Second)
		b.want("one empty list is not believed", "a:running b:running")
		b.engine.Put(running(1, "a"))
		b.pass(3 * time.Second)
		b.want("the second list shows one", "a:running")
		b.engine.Cut()
		b.engine.Remove(id(1))
		b.pass(10 * time.Second)
		b.want("twice empty is empty", "")
	})
}

func TestInspectionRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		refuse.Store(true)
		b := watch(t, Config{}, func(e *dockertest.Engine) {
			e.InspectFault = func(x string) error {
				if refuse.Load() && x == id(1) {
					return errors.New("500 from the engine")
				}
				return nil
			}
			e.Put(running(1, "sick"))
			e.Put(running(2, "well"))
		})
		b.want("one is unknown, the other is there", ":unknown well:running")
		refuse.Store(false)
		b.pass(6 * time.Second)
		b.want("asked again", "sick:running well:running")
		refuse.Store(true)
		b.engine.Send(docker.Event{Type: docker.TypeContainer, Action: "update", Container: id(1)})
		b.pass(time.Minute)
		b.want("what is known stays", "sick:running well:running")
	})
}

func TestCrashLoopIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, nil)
		phases := ""
		for range 5 {
			b.engine.Start(running(1, "loop"))
			synctest.Wait()
			if s := *b.latest.Load(); s[id(1)] != nil {
				phases += string(s[id(1)].Phase) + " "
			}
			b.pass(70 * time.Millisecond)
			b.engine.Die(id(1), 1)
			b.pass(200 * time.Millisecond)
		}
		if want := "running running held held held "; phases != want {
			b.t.Errorf("phases of the starts: %q, want %q", phases, want)
		}
		b.engine.Start(running(1, "loop"))
		b.want("the sixth", "loop:held")
		b.pass(8 * time.Second)
		b.want("it lives at last", "loop:running")
	})
}

func TestRestartsByHandAreNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, nil)
		for n := range 6 {
			b.engine.Start(running(1, "web"))
			b.want(fmt.Sprint("start ", n+1), "web:running")
			b.pass(time.Second)
			b.engine.Kill(id(1), int(syscall.SIGTERM))
			b.pass(time.Second)
			b.engine.Die(id(1), 0)
		}
	})
}

// A start begins with the container's networks; an inspection then would wait for the
// start's end.
func TestNetworksBeforeTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, nil)
		b.engine.Send(docker.Event{Type: docker.TypeNetwork, Action: "connect", Container: id(1)})
		synctest.Wait()
		if _, n := b.engine.Calls(); n != 0 {
			t.Errorf("%d inspections before the start", n)
		}
		b.engine.Start(running(1, "web"))
		b.want("started", "web:running")
		moved := running(1, "web")
		moved.Networks = map[string]docker.Endpoint{"lan": {}}
		b.engine.Put(moved)
		b.engine.Send(docker.Event{Type: docker.TypeNetwork, Action: "connect", Container: id(1)})
		synctest.Wait()
		if got := (*b.latest.Load())[id(1)]; len(got.Networks) != 1 {
			t.Errorf("networks %v, want the new one", got.Networks)
		}
	})
}

func TestBindingComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, nil)
		c := running(1, "web")
		port := docker.Port{Number: 80, Proto: "tcp"}
		c.Wanted = []docker.Port{port}
		b.engine.Start(c)
		synctest.Wait()
		c.Published = map[docker.Port][]docker.Binding{port: {{Port: 32768}}}
		b.engine.Put(c) // no event tells
		b.pass(60 * time.Millisecond)
		if got := (*b.latest.Load())[c.ID].Published[port]; len(got) != 1 || got[0].Port != 32768 {
			b.t.Errorf("published = %v, want the late binding", got)
		}
	})
}

func TestKeepExited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{Exits: ExitsFailed}, func(e *dockertest.Engine) {
			for n := range 4 {
				e.Put(running(n+1, fmt.Sprint("c", n+1)))
			}
		})
		b.pass(time.Second)
		b.engine.Die(id(1), 0)
		b.engine.Die(id(2), 1)
		b.engine.Die(id(3), 137) // a signal: as wished
		b.engine.Kill(id(4), int(syscall.SIGTERM))
		b.engine.Die(id(4), 1) // it was told to
		b.want("only the failed one stays", "c2:exited")
		b.engine.Remove(id(2))
		b.engine.Send(docker.Event{Type: docker.TypeContainer, Action: docker.ActionDestroy, Container: id(2)})
		b.want("removed", "")
	})
}

func TestKeepAllExited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{Exits: ExitsAll}, func(e *dockertest.Engine) {
			e.Put(running(1, "a"))
			e.Put(docker.Container{ID: id(2), Name: "made", State: "created"})
		})
		b.pass(time.Second)
		b.engine.Kill(id(1), int(syscall.SIGTERM))
		b.want("told to stop", "a:draining")
		b.engine.Die(id(1), 0)
		b.want("ended; what never ran is not there", "a:exited")
		b.pass(time.Second)
		b.engine.Start(running(1, "a"))
		b.want("another life", "a:running")
	})
}

// An engine that is away for long: what ran is lost, and back when it is.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{LostAfter: 10 * time.Minute}, func(e *dockertest.Engine) {
			e.Put(running(1, "a"))
			e.Put(running(2, "b"))
		})
		b.pass(time.Hour)
		b.engine.Away(true)
		b.pass(9 * time.Minute)
		b.want("not yet", "a:running b:running")
		b.pass(2 * time.Minute)
		b.want("lost", "a:lost b:lost")
		if i := (*b.latest.Load())[id(1)]; !strings.Contains(i.Reason, "away since") {
			t.Errorf("reason %q", i.Reason)
		}
		b.engine.Remove(id(2))
		b.engine.Away(false)
		b.pass(10 * time.Second)
		b.want("back", "a:running")
		b.engine.Away(true)
		b.pass(time.Minute)
		b.want("away again, not for long", "a:running")
	})
}

func TestDrainByRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) {
			e.Put(running(1, "a"))
			e.Put(running(2, "b"))
		})
		ids, err := b.w.Drain(t.Context(), "a", true)
		if err != nil || len(ids) != 1 || ids[0] != id(1) {
			t.Errorf("Drain(a) = %v, %v", ids, err)
		}
		b.want("one", "a:draining b:running")
		if ids, err := b.w.Drain(t.Context(), id(2)[:12], true); err != nil || len(ids) != 1 {
			t.Errorf("Drain(short id) = %v, %v", ids, err)
		}
		b.want("both", "a:draining b:draining")
		if ids, err := b.w.Drain(t.Context(), "", false); err != nil || len(ids) != 2 {
			t.Errorf("Drain(all, off) = %v, %v", ids, err)
		}
		b.want("back", "a:running b:running")
		if ids, _ := b.w.Drain(t.Context(), "nobody", true); len(ids) != 0 {
			t.Errorf("Drain(nobody) = %v", ids)
		}
	})
}

// Fifty containers die at once: each is looked at a few times, not fifty.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := watch(t, Config{}, func(e *dockertest.Engine) {
			for n := range 50 {
				e.Put(running(n+1, fmt.Sprint("c", n)))
			}
		})
		_, before := b.engine.Calls()
		for n := range 50 {
			b.engine.Kill(id(n+1), int(syscall.SIGKILL))
			b.engine.Die(id(n+1), 137)
			b.engine.Send(docker.Event{Type: docker.TypeNetwork, Action: "disconnect", Container: id(n + 1)})
		}
		b.want("all gone", "")
		if _, after := b.engine.Calls(); after-before > 200 {
			t.Errorf("%d inspections for 50 deaths", after-before)
		}
	})
}

func TestOnce(t *testing.T) {
	t.Parallel()
	e := &dockertest.Engine{}
	e.Put(running(1, "a"))
	e.Put(docker.Container{ID: id(2), Name: "b", State: docker.StateExited})
	w := New(Config{}, e, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	set, err := w.Once(t.Context())
	if err != nil || len(set) != 1 || set[id(1)] == nil {
		t.Errorf("Once = %v, %v; want the running one", set, err)
	}
	e.Away(true)
	if _, err := w.Once(t.Context()); err == nil {
		t.Error("Once on an engine that is away succeeded")
	}
}
