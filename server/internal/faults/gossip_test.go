package faults

import (
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

// agent is a client agent of which there is only the gossip; stop ends it without a word.
func (c *cluster) agent(name string) (p *gossip.Pool, ip string, stop func()) {
	c.t.Helper()
	ip = c.nextIP()
	tr, err := servertest.NewTransport(c.net, c.packets, net.JoinHostPort(ip, "8301"))
	if err != nil {
		c.t.Fatal(err)
	}
	p, err = gossip.Open(gossip.Config{
		Name: name, ID: "id-" + name, Datacenter: "dc1", Bind: ip, Port: 8301, Transport: tr, NoCoordinates: true, Log: slog.New(slog.DiscardHandler),
		Tags: gossip.Tags(gossip.TagInfo{ID: "id-" + name, Datacenter: "dc1"}),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := p.Join(c.t.Context(), c.addresses()); err != nil {
		c.t.Fatal(err)
	}
	return p, ip, func() {
		if err := p.Close(); err != nil {
			c.t.Error(err)
		}
	}
}

// withAgents runs f on three servers and three agents that are all in the catalog, one of
// them at ip.
func withAgents(t *testing.T, f func(c *cluster, cut *gossip.Pool, ip string)) {
	t.Helper()
	bubble(t, func(t *testing.T, c *cluster) {
		cut, ip, stop := c.agent("cut")
		defer stop()
		for _, name := range []string{"b", "d"} {
			_, _, stop := c.agent(name)
			defer stop()
		}
		c.await("all are in the catalog", func() bool { return len(c.health()) == 6 && c.allPassing() })
		f(c, cut, ip)
	})
}

// health is of each node what the catalog of the leader says.
func (c *cluster) health() map[string]string {
	out := map[string]string{}
	checks, _ := c.leader().now().store.State().ChecksInState(api.Any)
	for _, c := range checks {
		if c.CheckID == api.SerfHealth {
			out[c.Node] = c.Status
		}
	}
	return out
}

func (c *cluster) allPassing() bool {
	for _, s := range c.health() {
		if s != api.Passing {
			return false
		}
	}
	return true
}

// await waits for a fact and gives how long that took.
func (c *cluster) await(what string, fact func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	for ; !fact(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 5*time.Minute {
			c.t.Fatalf("not within five minutes: %s; %v", what, c.health())
		}
	}
	return time.Since(began)
}

// A host that was cut off holds all others to be dead, and says so when it is back. Nobody
// becomes critical by its word who answers the leader.
func TestCutOffHostBlamesOthers(t *testing.T) {
	withAgents(t, func(c *cluster, cut *gossip.Pool, ip string) {
		blamed := 0
		for i := 0; blamed < 2; i++ {
			if i == 50 {
				c.t.Fatalf("in %d times, others were blamed %d times", i, blamed)
			}
			c.net.Partition(ip)
			c.await("the one cut off is critical", func() bool { return c.health()["cut"] == api.Critical })
			c.await("it holds another to be dead", func() bool {
				return slices.ContainsFunc(cut.Members(), func(m api.Member) bool { return m.Status == api.StatusFailed })
			})
			c.net.Heal()
			heard := false
			for healed := time.Now(); time.Since(healed) < 30*time.Second; time.Sleep(10 * time.Millisecond) {
				for name, s := range c.health() {
					if name != "cut" && s != api.Passing {
						c.t.Fatalf("%s after the host is back for the %d. time: %s is %s", time.Since(healed), i+1, name, s)
					}
				}
				members := c.leader().now().pool.Members()
				heard = heard || slices.ContainsFunc(members, func(m api.Member) bool { return m.Name != "cut" && m.Status == api.StatusFailed })
			}
			if heard {
				blamed++
			}
			c.await("all are passing", c.allPassing)
		}
	})
}

// A host that was cut off for so long that nobody spreads its death any more is told of it as
// soon as it answers.
func TestCutOffHostIsRecalled(t *testing.T) {
	withAgents(t, func(c *cluster, _ *gossip.Pool, ip string) {
		for _, more := range []time.Duration{0, 5 * time.Second, 2 * time.Minute} {
			c.net.Partition(ip)
			c.await("the one cut off is critical", func() bool { return c.health()["cut"] == api.Critical })
			time.Sleep(more)
			c.net.Heal()
			if took := c.await("it is back", c.allPassing); took > 5*time.Second {
				c.t.Errorf("cut off for %s after it was critical: back %s after it could be", more, took)
			}
		}
	})
}
