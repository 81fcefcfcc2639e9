package checks

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	_ "github.com/rollcall/rollcall/internal/oneproc"
)

func row(id, status string) *api.Check {
	return &api.Check{Node: "n1", CheckID: id, Name: id, Status: status, Output: "as seen"}
}

func alias(service, node string) *Wanted {
	return &Wanted{Status: api.Critical, Def: &api.CheckDefinition{AliasService: service, AliasNode: node}}
}

// An alias of a service here follows each change at once, and does not count itself.
func TestAliasLocal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer start(t, d, Config{Node: "n1"})()
		d.set("a", alias("web", ""))
		synctest.Wait()
		last := func() string {
			got := d.all()
			if len(got) == 0 {
				return ""
			}
			return got[len(got)-1]
		}
		if got, want := last(), "a critical Service web could not be found on this agent"; got != want {
			t.Errorf("no such service: %q, want %q", got, want)
		}
		own := row("a", api.Critical)
		for _, c := range []struct {
			rows []*api.Check
			want string
		}{
			{[]*api.Check{own}, "a passing No checks found."},
			{[]*api.Check{own, row("x", api.Passing), row("y", api.Passing)}, "a passing All checks passing."},
			{[]*api.Check{row("x", api.Warning), row("y", api.Passing)}, `a warning Aliased check "x" failing: as seen`},
			{[]*api.Check{row("x", api.Warning), row("y", api.Critical)}, `a critical Aliased check "y" failing: as seen`},
		} {
			d.health("web", c.rows...)
			synctest.Wait()
			if got := last(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		}
		d.health("other", row("z", api.Critical))
		synctest.Wait()
		if got := last(); got != "" {
			t.Errorf("another service's health: %q", got)
		}
		d.mu.Lock()
		d.rows["web"] = []*api.Check{row("node", api.Warning)}
		d.mu.Unlock()
		d.health("") // the node's own checks bear on all
		synctest.Wait()
		if got := last(); !strings.HasPrefix(got, "a warning") {
			t.Errorf("the node's health: %q", got)
		}
		d.set("a", nil)
		synctest.Wait()
		d.health("web")
		synctest.Wait()
		if got := last(); got != "" {
			t.Errorf("after its end: %q", got)
		}
	})
}

// Aliases that look at each other do not hold what is over: neither two of the node, nor
// two services'.
func TestAliasesDoNotLatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		defer start(t, d, Config{Node: "n1"})()
		kind := func(c *api.Check, service, kind string) *api.Check {
			c.ServiceID, c.Type = service, kind
			return c
		}
		of := func(owner, service string) *Wanted {
			w := alias(service, "")
			w.Def.ServiceID = owner
			return w
		}
		d.set("node1", alias("web", ""))
		d.set("a", of("db", "web"))
		d.set("b", of("web", "db"))
		d.health("web", kind(row("node2", api.Critical), "", "alias"), kind(row("b", api.Critical), "web", "alias"), kind(row("own", api.Passing), "web", "ttl"))
		d.health("db", kind(row("node1", api.Critical), "", "alias"), kind(row("a", api.Critical), "db", "alias"), kind(row("disk", api.Warning), "db", "ttl"))
		synctest.Wait()
		last := map[string]string{}
		for _, r := range d.all() {
			id, rest, _ := strings.Cut(r, " ")
			last[id] = rest
		}
		for id, want := range map[string]string{
			"node1": `critical Aliased check "b" failing: as seen`, // a chain: b is web's own
			"a":     "passing All checks passing.",
			"b":     `warning Aliased check "disk" failing: as seen`,
		} {
			if last[id] != want {
				t.Errorf("%s: %q, want %q", id, last[id], want)
			}
		}
	})
}

// cat is a catalog that a test changes.
type cat struct {
	mu      sync.Mutex
	rows    []*api.Check  // guarded by mu
	index   uint64        // guarded by mu
	fault   error         // guarded by mu
	changed chan struct{} // guarded by mu; closed at the next change
	reads   int           // guarded by mu
	service bool          // guarded by mu; NodeService's answer
}

func (c *cat) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cat) NodeChecks(ctx context.Context, _ string, index uint64) ([]*api.Check, uint64, error) {
	for {
		c.mu.Lock()
		rows, at, err, changed := c.rows, c.index, c.fault, c.changed
		if err != nil || at != index {
			c.reads++
			c.mu.Unlock()
			return rows, at, err
		}
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
}

func (c *cat) NodeService(context.Context, string, string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.service, nil
}

// An alias of another node blocks on the catalog, lives through its faults, and starts
// anew after a restore.
func TestAliasRemote(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bound := func(c *api.Check, service string) *api.Check {
			c.ServiceID, c.Node = service, "n2"
			return c
		}
		c := &cat{index: 5, changed: make(chan struct{}), rows: []*api.Check{
			bound(row("serfHealth", api.Passing), ""), bound(row("w", api.Warning), "web"), bound(row("o", api.Critical), "other"),
		}}
		d := newDesk()
		defer start(t, d, Config{Node: "n1", Catalog: c})()
		d.set("of-service", alias("web", "n2"))
		d.set("of-node", alias("", "n2"))
		d.set("of-none", alias("absent", "n2"))
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			got := d.all()
			if len(got) != len(want) {
				t.Fatalf("%s: %q, want %d reports", what, got, len(want))
			}
			for _, w := range want {
				if !strings.Contains(strings.Join(got, "\n"), w) {
					t.Errorf("%s: %q, want %q", what, got, w)
				}
			}
		}
		expect("at first", `of-service warning Aliased check "w" failing`, "of-node passing All checks passing.",
			"of-none critical Service absent could not be found on node n2")
		c.change(func() { c.index, c.rows, c.service = 6, c.rows[:1], true })
		expect("the check is gone, the service is not", "of-service passing", "of-node passing", "of-none passing")
		c.change(func() { c.index, c.rows = 7, nil })
		expect("nothing is known", "of-node critical Node n2 has no checks", "of-service passing No checks found.", "of-none passing")
		c.change(func() { c.index, c.fault = 8, errors.New("no leader") })
		expect("a fault", "of-service critical Failure checking alias of node n2: no leader", "of-node critical", "of-none critical")
		time.Sleep(time.Minute)
		synctest.Wait()
		c.mu.Lock()
		reads := c.reads
		c.mu.Unlock()
		if reads > 4*3+3*12 {
			t.Errorf("%d reads while the catalog was away for a minute", reads)
		}
		d.all()
		c.change(func() { c.index, c.fault, c.rows = 2, nil, []*api.Check{bound(row("serfHealth", api.Critical), "")} })
		time.Sleep(2 * aliasRetry)
		expect("restored, and the node is down", `of-service critical Aliased check "serfHealth" failing`, "of-node critical", "of-none critical")
	})
}
