package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const sigUSR1 = syscall.SIGUSR1

// The agent goes while five start and five end; it comes back with its data, or without.
func TestCase10CatalogStopped(t *testing.T) {
	t.Parallel()
	for how, keeps := range map[string]bool{"it keeps its data": true, "it comes back empty": false} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ss := someSites(t, keeps, nil)
			go1 := crowd(t, 5, "-e", "SERVICE_NAME=web")
			stay := start(t, "plain", "-e", "SERVICE_NAME=web")
			ss.has(soon, "registered", "web", append(allPublished(t, go1), published(t, stay))...)
			for _, s := range ss {
				s.kill()
			}
			come := crowd(t, 5, "-e", "SERVICE_NAME=web")
			remove(t, go1...)
			for _, s := range ss {
				s.run()
				s.await()
			}
			ss.has(soon, "right again", "web", append(allPublished(t, come), published(t, stay))...)
			for _, s := range ss {
				s.reg.lives()
			}
		})
	}
}

// An agent that comes back empty while nothing goes on is noticed, too.
func TestCase10CatalogEmptiedInPeace(t *testing.T) {
	t.Parallel()
	ss := both(t)
	id := start(t, "plain", "-e", "SERVICE_NAME=web")
	ss.has(soon, "registered", "web", published(t, id))
	for _, s := range ss {
		s.kill()
		s.run()
		s.await()
	}
	ss.has(soon, "registered again", "web", published(t, id))
}

// The agent refuses one service; the others do not mind, and that one arrives when it may.
func TestCase11OneRefused(t *testing.T) {
	t.Parallel()
	engine(t)
	c := startCatalog(t, rollcall(t), false)
	k := startClerk(t, c.addr)
	sick := "sick-service"
	k.refuse.Store(&sick)
	reg := registrar(t, k.addr)
	bad := start(t, "plain", "-e", "SERVICE_NAME=sick-service")
	good := start(t, "plain", "-e", "SERVICE_NAME=web")
	eventually(t, soon, "the other one is there", func() error { return c.has("web", published(t, good)) })
	eventually(t, soon, "it is tried again", func() error {
		if n := k.tries.Load(); n < 3 {
			return fmt.Errorf("%d tries", n)
		}
		return nil
	})
	remove(t, good)
	eventually(t, soon, "the other one goes as ever", func() error { return c.has("web") })
	k.refuse.Store(nil)
	eventually(t, soon, "it arrives", func() error { return c.has("sick-service", published(t, bad)) })
	reg.lives()
}

// The way to the engine is cut while three start and three end.
func TestCase12EngineCut(t *testing.T) {
	t.Parallel()
	needSocket(t)
	r := startRelay(t)
	ss := both(t, "-docker=unix://"+r.path)
	old, stays := crowd(t, 3, "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web")
	before := append(allPublished(t, old), published(t, stays))
	ss.has(soon, "registered", "web", before...)
	r.cut(true)
	end := ss.watch("nothing is deregistered meanwhile", 5*time.Millisecond, func(s *site) error { return s.has("web", before...) })
	remove(t, old...)
	young := crowd(t, 3, "-e", "SERVICE_NAME=web")
	after := append(allPublished(t, young), published(t, stays))
	end()
	r.back()
	ss.has(soon, "right when it is back", "web", after...)
	for _, s := range ss {
		s.reg.lives()
	}
}

var driftLine = regexp.MustCompile(`(?m)^registrator_drift_total ([0-9.]+)$`)

// The stream of events freezes: what happened is found by looking, and counted.
func TestCase13StreamFrozen(t *testing.T) {
	t.Parallel()
	needSocket(t)
	r := startRelay(t)
	c := startCatalog(t, rollcall(t), false)
	listen := fmt.Sprintf("127.0.0.1:%d", ports(t, 1)[0])
	reg := registrar(t, c.addr, "-docker=unix://"+r.path, "-resync=2s", "-listen="+listen)
	goes, stays := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web")
	eventually(t, soon, "registered", func() error { return c.has("web", published(t, goes), published(t, stays)) })
	r.frozen.Store(true)
	remove(t, goes)
	come := start(t, "plain", "-e", "SERVICE_NAME=web")
	eventually(t, soon, "found by looking", func() error { return c.has("web", published(t, stays), published(t, come)) })
	eventually(t, soon, "it is counted", func() error {
		_, body, err := get("http://" + listen + "/metrics")
		if m := driftLine.FindStringSubmatch(body); err == nil && (m == nil || m[1] == "0") {
			err = fmt.Errorf("registrator_drift_total %v", m)
		}
		return err
	})
	r.frozen.Store(false)
	reg.lives()
}

// The registrator is killed, two containers go, it is started again: both are gone, and
// what did not change was not written.
func TestCase14RegistratorKilled(t *testing.T) {
	t.Parallel()
	ss := both(t)
	goes, stays := crowd(t, 2, "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web", "-e", "SERVICE_ID=stays")
	ss.has(soon, "registered", "web", append(allPublished(t, goes), published(t, stays))...)
	before := map[*site]uint64{}
	for _, s := range ss {
		before[s] = s.index(t, "stays")
		s.reg.kill()
	}
	remove(t, goes...)
	for _, s := range ss {
		s.reg.run()
	}
	ss.has(soon, "what ended meanwhile is gone", "web", published(t, stays))
	for _, s := range ss {
		if got := s.index(t, "stays"); got != before[s] {
			t.Errorf("%s: the unchanged service was written again: index %d, was %d", s.name, got, before[s])
		}
		s.reg.signal(syscall.SIGTERM)
		<-s.reg.ends
		if code := s.reg.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s: after SIGTERM: exit %d, want 0", s.name, code)
		}
		if err := s.has("web", published(t, stays)); err != nil {
			t.Errorf("%s: its end removed something: %v", s.name, err)
		}
	}
}

// Where nothing happens, nothing is written.
func TestCase15SteadyState(t *testing.T) {
	t.Parallel()
	engine(t)
	c := startCatalog(t, rollcall(t), false)
	k := startClerk(t, c.addr)
	listen := fmt.Sprintf("127.0.0.1:%d", ports(t, 1)[0])
	reg := registrar(t, k.addr, "-resync=500ms", "-listen="+listen)
	a, b := start(t, "plain", "-e", "SERVICE_NAME=web", "-e", "SERVICE_CHECK_TCP=1"), start(t, "checked", "-e", "SERVICE_NAME=hc")
	eventually(t, soon, "healthy", func() error { return c.has("hc", published(t, b)) })
	eventually(t, soon, "passing", func() error { return c.has("web", published(t, a)) })
	settled(t, "http://"+listen)
	before, beats, written := k.writes.Load(), k.beats.Load(), c.written(t)
	_, from, err := get("http://" + listen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	over := time.After(*steady)
	end := watch(t, "the catalog is right all the time", 100*time.Millisecond, func() error { return c.keeps("hc", published(t, b)) })
	<-over
	end()
	if n := k.writes.Load() - before; n != 0 {
		t.Errorf("%d writes in %v in which nothing happened", n, *steady)
	}
	if now := c.written(t); now != written {
		t.Errorf("the catalog was written at index %d, in %v in which nothing happened; before at %d", now, *steady, written)
	}
	t.Logf("%d times the agent was told that a container is well", k.beats.Load()-beats)
	_, to, err := get("http://" + listen + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if looks := reconciles(to) - reconciles(from); looks < 2 {
		t.Errorf("%d readings of the agent: the resync did not run, nothing was tried", looks)
	}
	reg.lives()
}

var reconcileLine = regexp.MustCompile(`(?m)^registrator_reconcile_seconds_count ([0-9]+)$`)

func reconciles(metrics string) int {
	m := reconcileLine.FindStringSubmatch(metrics)
	n := 0
	if m != nil {
		fmt.Sscan(m[1], &n) // 0 where it is no number
	}
	return n
}

// Two on one engine: each service once, and either may go.
func TestCase16TwoRegistrators(t *testing.T) {
	t.Parallel()
	ss := both(t)
	var second []*process
	for _, s := range ss {
		second = append(second, registrar(t, s.addr))
	}
	a := start(t, "plain", "-e", "SERVICE_NAME=web")
	ss.has(soon, "registered once", "web", published(t, a))
	for _, s := range ss {
		s.reg.kill()
	}
	b := start(t, "plain", "-e", "SERVICE_NAME=web")
	ss.has(soon, "the other goes on", "web", published(t, a), published(t, b))
	for _, p := range second {
		p.kill()
	}
	for _, s := range ss {
		if err := s.has("web", published(t, a), published(t, b)); err != nil {
			t.Errorf("%s: after both have gone: %v", s.name, err)
		}
	}
}

// With a lock only one of two writes, and the other takes over.
func TestCase16Lock(t *testing.T) {
	t.Parallel()
	engine(t)
	for _, b := range binaries() {
		t.Run(b.name, func(t *testing.T) {
			if b.err != nil {
				t.Skip(b.err)
			}
			c := startCatalog(t, b.path, false)
			p := ports(t, 2)
			var url [2]string
			var reg [2]*process
			run := func(i int) {
				url[i] = fmt.Sprintf("http://127.0.0.1:%d", p[i])
				reg[i] = registrar(t, c.addr, "-lock=registrator/test", "-listen="+strings.TrimPrefix(url[i], "http://"))
			}
			run(0)
			one := start(t, "plain", "-e", "SERVICE_NAME=web")
			eventually(t, soon, "the first is active", func() error { return c.has("web", published(t, one)) })
			run(1)
			eventually(t, soon, "the second stands by", func() error {
				code, body, err := get(url[1] + "/readyz")
				if err == nil && (code != 200 || !strings.Contains(body, "standing by")) {
					err = fmt.Errorf("%d %s", code, body)
				}
				return err
			})
			reg[0].signal(syscall.SIGTERM)
			<-reg[0].ends
			two := start(t, "plain", "-e", "SERVICE_NAME=web")
			eventually(t, soon, "the second takes over at once", func() error { return c.has("web", published(t, one), published(t, two)) })
			if b.name == "rollcall" { // a dead holder is waited for
				run(0)
				reg[1].kill()
				remove(t, one)
				eventually(t, 60*time.Second, "the first takes over from a dead one", func() error { return c.has("web", published(t, two)) })
			}
		})
	}
}

// Engines whose hosts have one name, on one agent: neither removes the other's services.
func TestCase17EqualHostNames(t *testing.T) {
	t.Parallel()
	ss := both(t)
	mine := start(t, "plain", "-e", "SERVICE_NAME=web")
	other := fmt.Sprintf("other engine %d", os.Getpid())
	theirs := start(t, "plain", "-e", "SERVICE_NAME=web", "--label", "test="+other)
	for _, s := range ss {
		launch(t, func() *exec.Cmd {
			return command(t, "-host=h", "-owner=engine-2", fmt.Sprintf("-filter=label:test=%q", other), "-cleanup", "-resync=1s", "-listen=off", "consul://"+s.addr)
		})
	}
	want := []string{published(t, mine), published(t, theirs)}
	ss.has(soon, "both", "web", want...)
	for _, s := range ss { // each of them looks at everything anew, and at start
		s.reg.kill()
		s.reg.run()
	}
	end := ss.watch("both stay", 5*time.Millisecond, func(s *site) error { return s.has("web", want...) })
	for range 2 {
		probe := start(t, "plain", "-e", "SERVICE_NAME=probe")
		ss.has(soon, "it has looked", "probe", published(t, probe))
		remove(t, probe)
		ss.has(soon, "and again", "probe")
		for _, s := range ss {
			s.reg.signal(syscall.SIGHUP)
		}
	}
	end()
}

// A dry run writes nothing and tells; behind a guard that lets five questions through all
// works; and nobody else is spoken to.
func TestCase25ReadsOnly(t *testing.T) {
	t.Parallel()
	needSocket(t)
	g := startGuard(t)
	ss := both(t, "-docker=unix://"+g.path)
	peers := map[*site]func() []string{}
	for _, s := range ss {
		peers[s] = spokenTo(t, s.reg.cmd.Process.Pid)
	}
	id := start(t, "checked", "-e", "SERVICE_NAME=hc")
	gone := start(t, "plain", "-e", "SERVICE_NAME=web")
	ss.has(soon, "healthy, behind the guard", "hc", published(t, id))
	ss.has(soon, "registered, behind the guard", "web", published(t, gone))
	for _, s := range ss {
		args := append(regArgs(t, s.addr), "-docker=unix://"+g.path)
		run := func(extra ...string) (string, int) {
			cmd := command(t, append(extra, args...)...)
			out, err := cmd.Output()
			if err != nil && cmd.ProcessState.ExitCode() != 3 {
				t.Errorf("%s: %v: %v", s.name, extra, err)
			}
			return string(out), cmd.ProcessState.ExitCode()
		}
		if out, code := run("-dry-run"); code != 0 || out != "" {
			t.Errorf("%s: a dry run in sync: exit %d, %q", s.name, code, out)
		}
		if out, code := run("plan"); code != 0 || strings.Count(out, " keep ") != 2 {
			t.Errorf("%s: a plan in sync: exit %d\n%s", s.name, code, out)
		}
		s.reg.signal(syscall.SIGTERM)
		<-s.reg.ends
		if got := slices.DeleteFunc(peers[s](), func(p string) bool { return p == s.addr }); len(got) > 0 {
			t.Errorf("%s: it spoke to %v", s.name, got)
		}
	}
	remove(t, gone)
	for _, s := range ss {
		before, err := s.all()
		if err != nil {
			t.Fatal(err)
		}
		cmd := command(t, append([]string{"-dry-run"}, regArgs(t, s.addr)...)...)
		out, err := cmd.Output()
		if err == nil || cmd.ProcessState.ExitCode() != 3 || !strings.HasPrefix(string(out), "deregister h:") {
			t.Errorf("%s: a dry run out of sync: exit %d, %q", s.name, cmd.ProcessState.ExitCode(), out)
		}
		cmd = command(t, append([]string{"plan", "-json"}, regArgs(t, s.addr)...)...)
		if out, _ = cmd.Output(); cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), `"Op": "deregister"`) {
			t.Errorf("%s: a plan out of sync: exit %d\n%s", s.name, cmd.ProcessState.ExitCode(), out)
		}
		after, err := s.all()
		if err != nil || len(after) != len(before) {
			t.Errorf("%s: a dry run wrote: %d services, %d before (%v)", s.name, len(after), len(before), err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for what := range g.refused {
		if !strings.HasSuffix(what, "/networks") {
			t.Errorf("it asked the engine for more than the page says: %s", what)
		}
	}
}
