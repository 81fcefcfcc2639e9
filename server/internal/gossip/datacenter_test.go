package gossip

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

// server makes a Config that of a server in a pool between datacenters.
func server(node, dc string) func(*Config) {
	return func(c *Config) {
		c.WAN, c.Datacenter = true, dc
		c.Tags = Tags(TagInfo{Server: true, ID: c.ID, Datacenter: dc, Port: 8300, Build: "1:x"})
	}
}

// Servers of several datacenters are one pool, this one's first; nobody else is let in.
func TestWANPool(t *testing.T) {
	t.Parallel()
	a, addr, _ := open(t, WANName("a", "dc1"), server("a", "dc1"))
	b, _, _ := open(t, WANName("b", "dc2"), server("b", "dc2"))
	c, _, stopC := open(t, WANName("c", "dc2"), server("c", "dc2"))
	join(t, b, addr)
	join(t, c, addr)
	summary := func(p *Pool) string {
		var out []string
		for _, d := range p.Datacenters() {
			names := []string{}
			for _, s := range d.Servers {
				names = append(names, s.Name)
			}
			out = append(out, fmt.Sprintf("%s: %s", d.Name, strings.Join(names, " ")))
		}
		return strings.Join(out, "; ")
	}
	until(t, a, "a knows all", func() bool { return summary(a) == "dc1: a.dc1; dc2: b.dc2 c.dc2" })
	until(t, b, "b knows all, its own datacenter first", func() bool { return summary(b) == "dc2: b.dc2 c.dc2; dc1: a.dc1" })
	if d := a.Datacenters()[0]; d.Distance != 0 {
		t.Errorf("its own datacenter is %g s away", d.Distance)
	}
	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	stopC()
	until(t, a, "c left", func() bool { return summary(a) == "dc1: a.dc1; dc2: b.dc2" })

	for name, change := range map[string]func(*Config){
		"is no server": func(c *Config) { c.Datacenter = "dc3"; c.Tags = Tags(TagInfo{ID: c.ID, Datacenter: "dc3"}) },
		"is not named after its datacenter": func(c *Config) {
			server("x", "dc3")(c)
			c.WAN = false
		},
	} {
		x, _, stop := open(t, "x", change)
		if _, err := x.Join(t.Context(), []string{addr}); err == nil {
			t.Errorf("who %s is let in", name)
		}
		stop()
	}
	if n := slices.IndexFunc(a.Members(), func(m api.Member) bool { return m.Name == "x" && m.Status == api.StatusAlive }); n >= 0 {
		t.Errorf("a stranger is in: %+v", a.Members()[n])
	}
}
