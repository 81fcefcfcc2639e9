package leader

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/gossip"
	"github.com/rollcall/rollcall/server/internal/store"
)

func member(name, addr string, status api.MemberStatus, server bool) api.Member {
	return api.Member{Name: name, Addr: addr, Status: status, Tags: gossip.Tags(gossip.TagInfo{Server: server, ID: "id-" + name, Datacenter: "dc1", Port: 8300})}
}

// state applies a plan's commands, as the log would.
func carryOut(t *testing.T, s *store.Store, cmds []command.Command) {
	t.Helper()
	tx := s.Begin(s.State().Index() + 1)
	defer tx.Commit()
	for _, c := range cmds {
		var err error
		switch c := c.(type) {
		case *command.Register:
			err = tx.Register(&c.Registration)
		case *command.Deregister:
			err = tx.Deregister(&c.Deregistration)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	cfg := Config{Name: "s1", ID: "id-s1", Datacenter: "dc1"}
	s := store.New()
	members := []api.Member{member("s1", "10.0.0.1", api.StatusAlive, true), member("c1", "10.0.0.2", api.StatusAlive, false)}
	step := func(missing map[string]bool) int {
		cmds := plan(cfg, members, s.State(), missing)
		carryOut(t, s, cmds)
		if again := plan(cfg, members, s.State(), missing); len(again) != 0 {
			t.Errorf("a second round writes %d more", len(again))
		}
		return len(cmds)
	}
	health := func(node string) string { return statusOf(node, s.State()) }

	if n := step(nil); n != 2 || health("s1") != api.Passing || health("c1") != api.Passing {
		t.Errorf("alive: %d writes, %s and %s", n, health("s1"), health("c1"))
	}
	if rows, _ := s.State().Instances("consul"); len(rows) != 1 || rows[0].Service.Port != 8300 || rows[0].Node.ID != "id-s1" || rows[0].Service.Meta["non_voter"] != "false" {
		t.Errorf("the servers' own service: %+v", rows)
	}
	// what the agent says of its node stays when the leader writes
	carryOut(t, s, []command.Command{&command.Register{Registration: api.Registration{Node: "c1", ID: "id-c1", Address: "10.0.0.2", NodeMeta: map[string]string{"rack": "r"}}}})
	members[1] = member("c1", "10.0.0.9", api.StatusAlive, false)
	step(nil)
	if n, _ := s.State().Node("c1"); n.Address != "10.0.0.9" || n.Meta["rack"] != "r" {
		t.Errorf("after a move: %+v", n.Node)
	}
	members[1].Status = api.StatusFailed
	if step(nil); health("c1") != api.Critical {
		t.Errorf("failed: %s", health("c1"))
	}
	members[1].Status = api.StatusAlive
	if step(nil); health("c1") != api.Passing {
		t.Errorf("alive again: %s", health("c1"))
	}
	members[1].Status = api.StatusLeft
	step(nil)
	if n, _ := s.State().Node("c1"); n != nil {
		t.Error("a member that left is still a node")
	}
	members[1].Status = api.StatusAlive
	step(nil)
	members = members[:1]
	if step(map[string]bool{"c1": false}); health("c1") != api.Critical {
		t.Errorf("missing for a while: %s", health("c1"))
	}
	step(map[string]bool{"c1": true, "s1": true})
	if n, _ := s.State().Node("c1"); n != nil {
		t.Error("missing for long: still a node")
	}
	if n, _ := s.State().Node("s1"); n == nil {
		t.Error("the leader removed itself")
	}
	other := member("x", "10.1.0.1", api.StatusAlive, false)
	other.Tags["dc"] = "dc2"
	if cmds := plan(cfg, []api.Member{other}, s.State(), nil); len(cmds) != 0 {
		t.Errorf("a member of another datacenter: %d writes", len(cmds))
	}
}

// A member that was made anew has its name at the second look. What was there before is its
// agent's to take away.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	s := store.New()
	cfg := Config{Datacenter: "dc1", Name: "s1"}
	before := member("c1", "10.0.0.2", api.StatusAlive, false)
	carryOut(t, s, plan(cfg, []api.Member{before}, s.State(), nil))
	now := before
	now.Tags = map[string]string{"id": "5a00ba60-353c-40ad-97b8-5d6bf42b07cb"}
	for look, want := range []string{api.Critical, api.Passing} {
		carryOut(t, s, plan(cfg, []api.Member{now}, s.State(), nil))
		if got := statusOf("c1", s.State()); got != want {
			t.Errorf("look %d: %s, want %s", look+1, got, want)
		}
	}
	if n, _ := s.State().Node("c1"); n.ID != now.Tags["id"] {
		t.Errorf("the node's id is %s", n.ID)
	}
	if cmds := plan(cfg, []api.Member{now}, s.State(), nil); len(cmds) != 0 {
		t.Errorf("a third look writes %d times", len(cmds))
	}
}

// A new leader begins to count anew how long a node has been missing.
func TestGone(t *testing.T) {
	t.Parallel()
	s := store.New()
	carryOut(t, s, []command.Command{&command.Register{Registration: api.Registration{Node: "c1", Address: "x", Checks: []*api.Check{serfCheck("c1", api.Passing, "")}}},
		&command.Register{Registration: api.Registration{Node: "external", Address: "x"}}})
	l := &Leader{cfg: Config{ReapAfter: time.Hour}, store: s, absent: map[string]time.Time{}, parted: map[string]time.Time{}}
	now := time.Now()
	if got := l.gone(nil, now); len(got) > 0 || nextLook(nil, l.unmet) > unheardOf {
		t.Errorf("what gossip has not told of yet counts as gone: %v; next look in %v", got, nextLook(nil, l.unmet))
	}
	if d := cmp.Diff(l.gone(nil, now.Add(unheardOf)), map[string]bool{"c1": false}); d != "" || l.unmet {
		t.Errorf("when it had time to: got (-) want (+):\n%s", d)
	}
	l.gone([]api.Member{{Name: "C1"}}, now.Add(50*time.Minute)) // seen again
	if d := cmp.Diff(l.gone(nil, now.Add(51*time.Minute)), map[string]bool{"c1": true}); d != "" {
		t.Errorf("let go by gossip: got (-) want (+):\n%s", d)
	}
	if got := l.gone(nil, now.Add(52*time.Minute)); !got["c1"] {
		t.Error("it counts as gone only once, though the write may have failed")
	}
	l.absent = map[string]time.Time{} // a new term of the same server
	if got := l.gone(nil, now.Add(53*time.Minute)); !got["c1"] {
		t.Error("what gossip has let go of just before this server led does not count as gone")
	}
	l.absent = map[string]time.Time{}
	if got := l.gone(nil, now.Add(62*time.Minute)); got["c1"] {
		t.Error("what gossip let go of long before this server led counts as gone")
	}
	l.absent, l.present = map[string]time.Time{}, nil // another server
	for after, want := range map[time.Duration]bool{0: false, 59 * time.Minute: false, time.Hour: true} {
		l.absent = map[string]time.Time{"c1": now}
		if got := l.gone(nil, now.Add(after)); got["c1"] != want {
			t.Errorf("missing for %s: gone %t, want %t", after, got["c1"], want)
		}
	}
}

func TestElectorate(t *testing.T) {
	t.Parallel()
	server := func(name string, expect int) gossip.Server {
		return gossip.Server{Name: name, ID: "id-" + name, Addr: name + ":8300", Datacenter: "dc1", Expect: expect, Status: api.StatusAlive}
	}
	left := server("z", 3)
	left.Status = api.StatusFailed
	alone := server("y", 0)
	alone.Bootstrap = true
	three := []consensus.Server{{ID: "id-a", Addr: "a:8300"}, {ID: "id-b", Addr: "b:8300"}, {ID: "id-c", Addr: "c:8300"}}
	for name, c := range map[string]struct {
		servers []gossip.Server
		ready   bool
	}{
		"three":          {[]gossip.Server{server("c", 3), server("a", 3), server("b", 3)}, true},
		"two":            {[]gossip.Server{server("a", 3), server("b", 3)}, false},
		"one has failed": {[]gossip.Server{server("a", 3), server("b", 3), left}, false},
		"they disagree":  {[]gossip.Server{server("a", 3), server("b", 3), server("c", 5)}, false},
		"one is alone":   {[]gossip.Server{server("a", 3), server("b", 3), alone}, false},
	} {
		got, why := electorate(c.servers, "dc1", 3)
		if (why == "") != c.ready {
			t.Errorf("%s: %q", name, why)
		}
		if d := cmp.Diff(got, three); c.ready && d != "" {
			t.Errorf("%s: the order must be the same everywhere: got (-) want (+):\n%s", name, d)
		}
	}
}

// TestPlanLosesNothing: what an agent says of its node between the leader's look and its
// write stays, whether the look saw the node or not.
func TestPlanLosesNothing(t *testing.T) {
	t.Parallel()
	said := api.Registration{Node: "c1", ID: "id-c1", Address: "10.0.0.2", NodeMeta: map[string]string{"rack": "r"}, TaggedAddresses: map[string]string{"lan": "10.0.0.2"}}
	for name, before := range map[string][]command.Command{
		"a new node":   nil,
		"a known node": {&command.Register{Registration: api.Registration{Node: "c1", ID: "id-c1", Address: "10.0.0.2"}}},
	} {
		s := store.New()
		carryOut(t, s, before)
		late := plan(Config{Datacenter: "dc1", Name: "s1"}, []api.Member{member("c1", "10.0.0.2", api.StatusAlive, false)}, s.State(), nil)
		if len(late) == 0 {
			t.Fatalf("%s: nothing to write", name)
		}
		carryOut(t, s, []command.Command{&command.Register{Registration: said}})
		carryOut(t, s, late)
		n, _ := s.State().Node("c1")
		if n == nil || n.Meta["rack"] != "r" || n.TaggedAddresses["lan"] == "" || statusOf("c1", s.State()) != api.Passing {
			t.Errorf("%s: %+v, %s", name, n, statusOf("c1", s.State()))
		}
	}
}

// While it is open who lives, that is looked for soon, and so is a server that gossip holds to
// be leaving: when that turns out to be of before, nobody says so.
func TestNextLook(t *testing.T) {
	t.Parallel()
	alive, left, leaving := gossip.Server{Status: api.StatusAlive}, gossip.Server{Status: api.StatusLeft}, gossip.Server{Status: api.StatusLeaving}
	if got := nextLook([]gossip.Server{alive, left}, false); got != reconcileEvery {
		t.Errorf("nobody is leaving: %v, want %v", got, reconcileEvery)
	}
	if got := nextLook([]gossip.Server{alive, leaving}, false); got != retryAfter {
		t.Errorf("a server is leaving: %v, want %v", got, retryAfter)
	}
	if got := nextLook([]gossip.Server{alive}, true); got != retryAfter {
		t.Errorf("it is open who lives: %v, want %v", got, retryAfter)
	}
}
