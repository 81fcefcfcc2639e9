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

// A host that was cut off holds all others to be dead, and says so when it is back. Nobody
// becomes critical by its word who answers the leader.
func TestCutOffHostBlamesOthers(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		cut, ip, stop := c.agent("cut")
		defer stop()
		for _, name := range []string{"b", "d"} {
			_, _, stop := c.agent(name)
			defer stop()
		}
		here := c.leader().now()
		health := func() map[string]string {
			out := map[string]string{}
			checks, _ := here.store.State().ChecksInState(api.Any)
			for _, c := range checks {
				if c.CheckID == api.SerfHealth {
					out[c.Node] = c.Status
				}
			}
			return out
		}
		passing := func() (n int) {
			for _, s := range health() {
				if s == api.Passing {
					n++
				}
			}
			return n
		}
		await := func(what string, fact func() bool) {
			t.Helper()
			for began := time.Now(); !fact(); time.Sleep(10 * time.Millisecond) {
				if time.Since(began) > 5*time.Minute {
					t.Fatalf("not within five minutes: %s; %v", what, health())
				}
			}
		}
		await("all are in the catalog", func() bool { return passing() == 6 })
		blamed := 0
		for i := 0; blamed < 2; i++ {
			if i == 50 {
				t.Fatalf("in %d times, others were blamed %d times", i, blamed)
			}
			c.net.Partition(ip)
			await("the one cut off is critical", func() bool { return health()["cut"] == api.Critical })
			await("it holds another to be dead", func() bool {
				return slices.ContainsFunc(cut.Members(), func(m api.Member) bool { return m.Status == api.StatusFailed })
			})
			c.net.Heal()
			heard := false
			for healed := time.Now(); time.Since(healed) < 30*time.Second; time.Sleep(10 * time.Millisecond) {
				for name, s := range health() {
					if name != "cut" && s != api.Passing {
						t.Fatalf("%s after the host is back for the %d. time: %s is %s", time.Since(healed), i+1, name, s)
					}
				}
				heard = heard || slices.ContainsFunc(here.pool.Members(), func(m api.Member) bool { return m.Name != "cut" && m.Status == api.StatusFailed })
			}
			if heard {
				blamed++
			}
			await("all are passing", func() bool { return passing() == 6 })
		}
	})
}
