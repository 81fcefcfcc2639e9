package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkServed measures the way from the answered write of an instance to nginx's
// first answer from it; the instance before goes in the same write, so that whose turn
// it is plays no part. make bench-lab runs it.
func BenchmarkServed(b *testing.B) {
	c := startServer(b)
	e := newEdge(b, c, shipped).start().ready()
	ports := [2]int{backend(b, "even"), backend(b, "odd")}
	c.add("web", "it", ports[1], "")
	eventually(b, soon, "at first", e.served("web", "odd"))
	steps := map[string][]time.Duration{}
	note := func(name string, d time.Duration) { steps[name] = append(steps[name], d) }
	for i := 0; b.Loop(); i++ {
		// past the pause between reloads and what old workers still serve, as in a quiet house
		eventually(b, soon, "old workers are gone", func() error {
			if n := len(children(b, e.nginx.cmd.Process.Pid)); n != 2 {
				return fmt.Errorf("%d workers", n)
			}
			return nil
		})
		b.StopTimer()
		quiet := time.NewTimer(250 * time.Millisecond)
		<-quiet.C
		before := len(e.tpl.output())
		b.StartTimer()
		c.add("web", "it", ports[i%2], "")
		began := time.Now()
		want := [2]string{"even", "odd"}[i%2]
		for {
			name, code, err := e.ask("web")
			if err == nil && code == 200 && name == want {
				break
			}
			if time.Since(began) > 10*time.Second {
				b.Fatalf("%q is not served: %d, %v", want, code, err)
			}
		}
		note("median", time.Since(began))
		line := ""
		eventually(b, soon, "the templater says what it did", func() error {
			_, rest, _ := strings.Cut(e.tpl.output()[before:], "msg=applied ")
			whole := false
			if line, _, whole = strings.Cut(rest, "\n"); !whole {
				return errors.New("not yet")
			}
			return nil
		})
		for _, name := range []string{"stage", "check", "swap", "reload", "total"} { // as it measured them itself
			note(name, step(line, name+"_ms"))
		}
		at, err := time.Parse(time.RFC3339Nano, attr(line, "at"))
		if err != nil {
			b.Fatal(err)
		}
		note("news", at.Sub(began)-step(line, "total_ms")) // from the write to a set that is rendered
	}
	for name, list := range steps {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, "ms/"+name)
	}
	b.ReportMetric(float64(steps["median"][b.N*9/10].Microseconds())/1000, "ms/p90")
}

// children are a process's.
func children(t testing.TB, pid int) []string {
	t.Helper()
	return strings.Fields(read(t, fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)))
}

// memory is a process's resident memory in MB, as the kernel counts it.
func (p *process) memory() float64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return kb / 1024
		}
	}
	p.t.Fatal("no VmRSS")
	return 0
}

var changesFor = flag.Duration("changes", 5*time.Second, "how long TestTemplaterManyChanges goes on; make soak: a minute")

// Fifty changes a second: reloads keep their pace, memory stays, and old workers do not
// pile up though each of them still serves somebody.
func TestTemplaterManyChanges(t *testing.T) {
	t.Parallel()
	const interval, draining = 200 * time.Millisecond, 4
	c := startServer(t)
	e := newEdge(t, c, "")
	e.configure(strings.Replace(read(t, e.file), "nginx {\n", fmt.Sprintf("reload_interval = \"200ms\"\nnginx {\n  max_draining = %d\n", draining), 1) + shipped)
	port := backend(t, "x")
	c.add("web", "first", port, "")
	e.start().ready()
	eventually(t, soon, "served", e.served("web", "x"))
	for i := range 20 {
		c.add("web", fmt.Sprintf("i%d", i), port+1+i, "")
	}
	eventually(t, soon, "all", func() error {
		if n := e.group().Instances["web"]; n != 21 {
			return fmt.Errorf("%d instances", n)
		}
		return nil
	})
	before, memory, began := e.group(), e.tpl.memory(), time.Now()
	most := 0
	tick := time.NewTicker(time.Second / 50)
	defer tick.Stop()
	changes := 0
	for ; time.Since(began) < *changesFor; changes++ {
		<-tick.C
		c.add("web", fmt.Sprintf("i%d", changes%20), port+1+changes%20, []string{"critical", "passing"}[changes/20%2])
		most = max(most, len(children(t, e.nginx.cmd.Process.Pid)))
	}
	elapsed := time.Since(began)
	for i := range 20 {
		c.add("web", fmt.Sprintf("i%d", i), port+1+i, "")
	}
	eventually(t, soon, "what is there in the end", func() error {
		if g := e.group(); g.Instances["web"] != 21 || !g.Ready {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	after := e.group()
	reloads := after.Reloads - before.Reloads
	if allowed := 2 + int(time.Since(began)/interval); reloads > allowed || reloads < 2 {
		t.Errorf("%d reloads in %s, want 2 to %d", reloads, elapsed, allowed)
	}
	if after.Failures != before.Failures {
		t.Errorf("%d failures", after.Failures-before.Failures)
	}
	if grown := e.tpl.memory() - memory; grown > 20 {
		t.Errorf("memory grew by %.1f MB from %.1f", grown, memory)
	}
	// two workers at a time, those that are told to go, and those of the next reload
	if limit := 2 * (draining + 4); most > limit {
		t.Errorf("up to %d workers at a time, want at most %d", most, limit)
	}
	e.nginx.valid(t)
	t.Logf("%d changes in %s: %d reloads; up to %d workers; %.1f MB, then %.1f MB", changes, elapsed.Round(time.Millisecond), reloads, most, memory, e.tpl.memory())
	e.tpl.stop(syscall.SIGTERM)
}
