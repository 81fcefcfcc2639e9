package e2e

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What has to hold whichever catalog is there, ours or the real Consul. The numbers are
// those of docs/templater.md's acceptance list.
var catalogCases = map[string]func(*testing.T, *agent){
	"01 registered, served":         registeredServed,
	"02 deregistered, nothing lost": deregisteredNothingLost,
	"03 a burst, few reloads":       burstFewReloads,
	"11 catalog away":               catalogAway,
	"13 catalog came back empty":    catalogEmpty,
	"14 shrinking":                  shrinking,
	"15 started without a catalog":  startedWithout,
	"15 what it said last":          saidLast,
	"16 no instance":                noInstance,
	"17 all critical":               allCritical,
	"25 a file for each":            fileForEach,
	"29 an instance that flaps":     flapping,
}

func TestTemplaterCatalog(t *testing.T) {
	t.Parallel()
	for kind, start := range catalogs {
		for name, run := range catalogCases {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				run(t, start(t))
			})
		}
	}
}

func registeredServed(t *testing.T, c *agent) {
	e := newEdge(t, c, shipped).start().ready()
	c.add("web", "one", backend(t, "one"), "")
	eventually(t, soon, "the first instance", e.served("web", "one"))
	c.add("web", "two", backend(t, "two"), "")
	eventually(t, soon, "the second too", e.served("web", "one", "two"))
	c.add("web", "two", 1, "critical")
	eventually(t, soon, "one that is critical goes", e.served("web", "one"))
}

func deregisteredNothingLost(t *testing.T, c *agent) {
	e := newEdge(t, c, shipped)
	c.add("web", "stays", backend(t, "stays"), "")
	c.add("web", "goes", backend(t, "goes"), "")
	e.start().ready()
	eventually(t, soon, "both", e.served("web", "stays", "goes"))
	stop := e.load("web", 200)
	c.drop("goes")
	eventually(t, soon, "one is left", e.served("web", "stays"))
	if total, failures := stop(); len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failures), total, failures[:min(len(failures), 5)])
	}
}

func burstFewReloads(t *testing.T, c *agent) {
	const interval = 500 * time.Millisecond
	e := newEdge(t, c, "reload_interval = \"500ms\"\n"+shipped).start().ready()
	before, began := e.group().Reloads, time.Now()
	port := backend(t, "x")
	for i := range 50 {
		c.add("web", fmt.Sprintf("i%d", i), port+i, "")
	}
	eventually(t, soon, "all fifty", func() error {
		if n := e.group().Instances["web"]; n != 50 {
			return fmt.Errorf("%d instances", n)
		}
		return nil
	})
	elapsed := time.Since(began)
	got, most := e.group().Reloads-before, 1+int(math.Ceil(float64(elapsed)/float64(interval)))
	if got > most || got < 1 {
		t.Errorf("%d reloads in %s, want 1 to %d", got, elapsed, most)
	}
}

func catalogAway(t *testing.T, c *agent) {
	e := newEdge(t, c, shipped)
	c.add("web", "one", backend(t, "one"), "")
	e.start().ready()
	eventually(t, soon, "served", e.served("web", "one"))
	live := read(t, e.nginx.conf("default.conf"))
	c.kill()
	eventually(t, soon, "the page says so", func() error {
		if v := e.metric("templater_stale_seconds"); v < 1 {
			return fmt.Errorf("stale for %v s", v)
		}
		return nil
	})
	if got := read(t, e.nginx.conf("default.conf")); got != live {
		t.Error("the file changed while the catalog was away")
	}
	if err := e.served("web", "one")(); err != nil {
		t.Error(err)
	}
	if err := e.wantCode("/readyz", 200)(); err != nil {
		t.Error(err)
	}
	c.run()
	c.awaitLeader()
	c.add("web", "two", backend(t, "two"), "")
	eventually(t, soon, "it is followed again", e.served("web", "one", "two"))
	if v := e.metric("templater_stale_seconds"); v != 0 {
		t.Errorf("stale for %v s though it answers", v)
	}
}

func catalogEmpty(t *testing.T, c *agent) {
	e := newEdge(t, c, "hold = \"1h\"\nguard {\n  override_file = \"DIR/override\"\n}\n"+shipped)
	c.add("web", "one", backend(t, "one"), "")
	c.add("web", "two", backend(t, "two"), "")
	e.start().ready()
	eventually(t, soon, "served", e.served("web", "one", "two"))
	tpl := filepath.Join(e.nginx.dir, "nginx.conf.ctmpl")
	good := read(t, tpl)
	write(t, tpl, good+"\nupstream none { }\n") // broken, and soon what it was: no edit that excuses anything
	eventually(t, soon, "the break is seen", e.wantCode("/readyz", 503))
	c.kill()
	if err := os.RemoveAll(c.dir); err != nil {
		t.Fatal(err)
	}
	c.run()
	c.awaitLeader()
	eventually(t, soon, "the catalog answers, with nothing", func() error {
		if !strings.Contains(e.tpl.output(), "answers again") {
			return errors.New("not yet")
		}
		return nil
	})
	write(t, tpl, good)
	eventually(t, soon, "the emptiness is held", func() error {
		if g := e.group(); g.Held == "" {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if err := e.served("web", "one", "two")(); err != nil {
		t.Error(err)
	}
	if e.metric("templater_group_held") != 1 {
		t.Error("the metric does not say so")
	}
	write(t, filepath.Join(e.nginx.dir, "override"), "")
	eventually(t, soon, "the override lets it through", e.served("web"))
	e.nginx.valid(t)
}

func shrinking(t *testing.T, c *agent) {
	e := newEdge(t, c, "hold = \"0s\"\nguard {\n  min_instances = 100\n}\n"+strings.Replace(shipped, "}", "  guard {\n    max_shrink_percent = 50\n  }\n}", 1)) // its own goes before
	for i := range 10 {
		c.add("web", fmt.Sprintf("i%d", i), backend(t, fmt.Sprintf("i%d", i)), "")
	}
	e.start().ready()
	count := func(n int) func() error {
		return func() error {
			if got := e.group().Instances["web"]; got != n {
				return fmt.Errorf("%d instances, want %d", got, n)
			}
			return nil
		}
	}
	eventually(t, soon, "all ten", count(10))
	// in one write each, so that no step between counts
	ops := func(from, to int) string {
		text := ""
		for i := from; i < to; i++ {
			text += fmt.Sprintf(`,{"Node":{"Verb":"delete","Node":{"Node":"node-i%d"}}}`, i)
		}
		return "[" + text[1:] + "]"
	}
	if err := c.put("/v1/txn", ops(0, 4)); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "ten to six passes", count(6))
	if err := c.put("/v1/txn", ops(4, 8)); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "six to two is held", func() error {
		if g := e.group(); g.Held == "" {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if err := count(6)(); err != nil {
		t.Error(err)
	}
	c.add("web", "i4", backend(t, "i4"), "")
	eventually(t, soon, "with three it passes", count(3))
}

func startedWithout(t *testing.T, c *agent) {
	e := newEdge(t, c, shipped)
	c.add("web", "one", backend(t, "one"), "")
	e.start().ready()
	eventually(t, soon, "served", e.served("web", "one"))
	e.tpl.stop(syscall.SIGTERM)
	c.kill()
	e.tpl.run()
	e.ready()
	if err := e.served("web", "one")(); err != nil {
		t.Errorf("what was there before: %v", err)
	}
}

// With a state file even files that are gone are rendered while the catalog is away.
func saidLast(t *testing.T, c *agent) {
	e := newEdge(t, c, "catalog {\n  state_file = \"DIR/catalog.json\"\n}\n"+shipped)
	c.add("web", "one", backend(t, "one"), "")
	e.start().ready()
	eventually(t, soon, "served", e.served("web", "one"))
	live := read(t, e.nginx.conf("default.conf"))
	e.tpl.stop(syscall.SIGTERM)
	c.kill()
	if err := os.Remove(e.nginx.conf("default.conf")); err != nil {
		t.Fatal(err)
	}
	e.tpl.run()
	e.ready()
	if got := read(t, e.nginx.conf("default.conf")); got != live {
		t.Errorf("rendered %q, want what was there before", got)
	}
	if err := e.served("web", "one")(); err != nil {
		t.Error(err)
	}
	c.run()
	c.awaitLeader()
	c.add("web", "two", backend(t, "two"), "")
	eventually(t, soon, "the catalog is followed again", e.served("web", "one", "two"))
}

func noInstance(t *testing.T, c *agent) {
	e := newEdge(t, c, shipped)
	c.add("web", "one", backend(t, "one"), "")
	e.start().ready()
	eventually(t, soon, "served", e.served("web", "one"))
	c.drop("one")
	eventually(t, soon, "503", e.served("web"))
	e.nginx.valid(t)
}

func allCritical(t *testing.T, c *agent) {
	e := newEdge(t, c, "guard {\n  min_instances = 1\n  hold = \"3s\"\n}\n"+shipped)
	port := backend(t, "one")
	c.add("web", "one", port, "")
	e.start().ready()
	eventually(t, soon, "served", e.served("web", "one"))
	c.add("web", "one", port, "critical")
	eventually(t, soon, "held", func() error {
		if g := e.group(); g.Held == "" {
			return fmt.Errorf("%+v", g)
		}
		return nil
	})
	if err := e.served("web", "one")(); err != nil {
		t.Errorf("while it is held: %v", err)
	}
	eventually(t, soon, "the guard gives in", e.served("web"))
}

func fileForEach(t *testing.T, c *agent) {
	e := newEdge(t, c, `
template {
  contents    = "# {{ .Name }}\n{{ range instances .Name }}# {{ .ID }}\n{{ end }}"
  destination = "CONF/{{ .Name }}.conf"
  for_each    = "services"
}
`)
	c.add("web", "w", 1, "")
	c.add("api", "a", 1, "")
	e.start().ready()
	has := func(name string, want bool) func() error {
		return func() error {
			if got := exists(e.nginx.conf(name)); got != want {
				return fmt.Errorf("%s is there: %t", name, got)
			}
			return nil
		}
	}
	for _, name := range []string{"web.conf", "api.conf", "consul.conf"} {
		eventually(t, soon, name, has(name, true))
	}
	if got := read(t, e.nginx.conf("web.conf")); got != "# web\n# w\n" {
		t.Errorf("web.conf: %q", got)
	}
	c.drop("a")
	eventually(t, soon, "the file of a service that went is removed", has("api.conf", false))
	eventually(t, soon, "and nothing failed", e.wantCode("/readyz", 200))
	c.add("api", "a", 1, "")
	eventually(t, soon, "and comes back", has("api.conf", true))
	e.nginx.valid(t)
}

// With a removal delay an instance that is away for a moment costs no reload; one that
// stays away goes.
func flapping(t *testing.T, c *agent) {
	e := newEdge(t, c, "removal_delay = \"2s\"\n"+shipped)
	port := backend(t, "flaps")
	c.add("web", "stays", backend(t, "stays"), "")
	c.add("web", "flaps", port, "")
	e.start().ready()
	eventually(t, soon, "both", e.served("web", "stays", "flaps"))
	before := e.group().Reloads
	for range 5 {
		c.add("web", "flaps", port, "critical")
		c.add("web", "flaps", port, "passing")
	}
	c.add("web", "third", backend(t, "third"), "") // what comes is seen at once
	eventually(t, soon, "the third", e.served("web", "stays", "flaps", "third"))
	eventually(t, soon, "one reload, for the third", func() error { // counted once it is verified
		if n := e.group().Reloads - before; n != 1 {
			return fmt.Errorf("%d reloads", n)
		}
		return nil
	})
	c.add("web", "flaps", port, "critical")
	eventually(t, soon, "it goes in the end", e.served("web", "stays", "third"))
}
