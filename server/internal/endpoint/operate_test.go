package endpoint

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
)

// seats notes what is asked of it.
type seats struct {
	asked []string
	err   error
}

func (s *seats) RemoveServer(_ context.Context, id string) error {
	s.asked = append(s.asked, "remove "+id)
	return s.err
}

func (s *seats) TransferLeadership(context.Context) error {
	s.asked = append(s.asked, "transfer")
	return s.err
}

func (s *seats) TransferLeadershipTo(_ context.Context, id, addr string) error {
	s.asked = append(s.asked, fmt.Sprintf("transfer %s %s", id, addr))
	return s.err
}

func (s *seats) Standing() api.RaftStats {
	return api.RaftStats{LastContact: api.Duration(20 * time.Millisecond), LastTerm: 2, LastIndex: 9}
}

type pilot struct{ err error }

func (p pilot) Health() (*api.AutopilotHealth, error) {
	return &api.AutopilotHealth{Healthy: true}, p.err
}
func (p pilot) State() (*api.AutopilotState, error) {
	return &api.AutopilotState{Leader: "id1"}, p.err
}

func TestOperate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		do    command.Operate
		asked string
		err   string
	}{
		{command.Operate{Verb: command.RemovePeer, ID: "id1"}, "remove id1", ""},
		{command.Operate{Verb: command.RemovePeer, Address: "10.0.0.1:8300"}, "remove id1", ""},
		{command.Operate{Verb: command.RemovePeer, ID: "id9"}, "", `id "id9" was not found in the Raft configuration`},
		{command.Operate{Verb: command.RemovePeer, Address: "x:1"}, "", `address "x:1" was not found in the Raft configuration`},
		{command.Operate{Verb: command.RemovePeer}, "", "a server is removed by its id or by its address"},
		{command.Operate{Verb: command.RemovePeer, ID: "id1", Address: "x:1"}, "", "a server is removed by its id or by its address"},
		{command.Operate{Verb: command.TransferLeader}, "transfer", ""},
		{command.Operate{Verb: command.TransferLeader, ID: "id1"}, "transfer id1 10.0.0.1:8300", ""},
		{command.Operate{Verb: command.TransferLeader, ID: "id9"}, "", `id "id9" was not found in the Raft configuration`},
		{command.Operate{Verb: 9, ID: "id1"}, "", "operation 9 is not known to this version"},
	} {
		l, r, _ := setup()
		s := &seats{}
		l.cfg.Seats = s
		before := r.index
		_, err := l.Write(t.Context(), &Write{Command: &c.do})
		text := ""
		if err != nil {
			text = err.Error()
		}
		var asked []string
		if c.asked != "" {
			asked = []string{c.asked}
		}
		if d := cmp.Diff(asked, s.asked); d != "" || text != c.err || r.index != before {
			t.Errorf("%+v: %q, want %q; %d entries in the log; asked, want (-) got (+):\n%s", c.do, text, c.err, r.index-before, d)
		}
	}
}

// Leadership that is lost meanwhile is said as a write's, so that it is tried elsewhere.
func TestOperateElsewhere(t *testing.T) {
	t.Parallel()
	l, r, o := setup()
	l.cfg.Seats = &seats{err: consensus.ErrNotLeader}
	r.set(func() { r.leading = false })
	if _, err := l.Write(t.Context(), &Write{Command: &command.Operate{Verb: command.TransferLeader}}); err != nil || o.writes != 1 {
		t.Errorf("%v, %d writes at the leader", err, o.writes)
	}
}

func TestPiloted(t *testing.T) {
	t.Parallel()
	l, _, _ := setup()
	ask := func(k Kind) (*Answer, error) { return l.Read(t.Context(), &Query{Kind: k}) }
	if _, err := ask(AutopilotHealth); err == nil {
		t.Error("without a pilot there is health")
	}
	l.cfg.Pilot, l.cfg.Seats = pilot{}, &seats{}
	a, err := ask(AutopilotHealth)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := Into[*api.AutopilotHealth](a); err != nil || !h.Healthy || a.Meta.Index != 1 {
		t.Errorf("health: %+v, %v", h, err)
	}
	if a, err = ask(AutopilotState); err != nil {
		t.Fatal(err)
	}
	if s, err := Into[*api.AutopilotState](a); err != nil || s.Leader != "id1" {
		t.Errorf("state: %+v, %v", s, err)
	}
	if a, err = ask(RaftStanding); err != nil {
		t.Fatal(err)
	}
	if s, err := Into[*api.RaftStats](a); err != nil || s.LastIndex != 9 || s.LastContact != api.Duration(20*time.Millisecond) {
		t.Errorf("standing: %+v, %v", s, err)
	}
	l.cfg.Pilot = pilot{err: errors.New("no")}
	if _, err := ask(AutopilotState); err == nil || err.Error() != "no" {
		t.Errorf("a pilot that errs: %v", err)
	}
}

func TestAutopilotConfigRead(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	a, err := l.Read(t.Context(), &Query{Kind: AutopilotConfig})
	if err != nil || a.Found {
		t.Fatalf("before there is one: %+v, %v", a, err)
	}
	r.index++
	tx := r.store.Begin(r.index)
	tx.SetAutopilot(&api.AutopilotConfig{MinQuorum: 3}, false)
	tx.Commit()
	if a, err = l.Read(t.Context(), &Query{Kind: AutopilotConfig}); err != nil || !a.Found || a.Meta.Index != r.index {
		t.Fatalf("%+v, %v", a, err)
	}
	if c, err := Into[*api.AutopilotConfig](a); err != nil || c.MinQuorum != 3 || c.ModifyIndex != r.index {
		t.Errorf("%+v, %v", c, err)
	}
}

// What pages show: counts by state, a node's checks once.
func TestOverviews(t *testing.T) {
	t.Parallel()
	l, r, _ := setup()
	far(t, r, "n1", api.Passing, -1)
	far(t, r, "n2", api.Critical, -1)
	r.index++
	tx := r.store.Begin(r.index)
	err := errors.Join(
		tx.Register(&api.Registration{Node: "n1", SkipNodeUpdate: true, Checks: []*api.Check{{Node: "n1", CheckID: "disk", Name: "disk", Status: api.Warning}}}),
		tx.Register(&api.Registration{Node: "n1", SkipNodeUpdate: true, Service: &api.Service{
			ID: "w2", Service: "web", Tags: []string{"b", "a"}, Meta: map[string]string{"external-source": "nomad"},
		}}),
	)
	tx.Commit()
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[Kind]string{
		UIServices: `[{"Name":"web","Tags":["a","b"],"Nodes":["n1","n2"],"InstanceCount":3,"ChecksPassing":1,"ChecksWarning":1,"ChecksCritical":1,"ExternalSources":["nomad"]}]`,
		UIOverview: `{"Nodes":[{"Total":2,"Passing":1,"Warning":1,"Critical":0}],"Services":[{"Name":"web","Total":3,"Passing":0,"Warning":2,"Critical":1}],` +
			`"Checks":[{"Total":2,"Passing":1,"Warning":0,"Critical":1},{"Name":"disk","Total":1,"Passing":0,"Warning":1,"Critical":0}]}`,
		Usage: `{"Nodes":2,"Services":1,"ServiceInstances":3,"ConnectServiceInstances":{"api-gateway":0,"connect-native":0,"connect-proxy":0,"ingress-gateway":0,"mesh-gateway":0,"terminating-gateway":0},"BillableServiceInstances":3}`,
	} {
		a, err := l.Read(t.Context(), &Query{Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		b, err := a.JSON()
		if err != nil || string(b) != want || a.Meta.Index != r.index {
			t.Errorf("%s at %d, want %d: %v\n got %s\nwant %s", kind, a.Meta.Index, r.index, err, b, want)
		}
	}
	a, err := l.Read(t.Context(), &Query{Kind: UIServices, Filter: `Service.Meta["external-source"] == nomad and Checks.Name == disk`})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Into[[]*api.ServiceSummary](a); err != nil || len(got) != 1 || got[0].InstanceCount != 1 {
		t.Errorf("a filter of instances: %+v, %v", got, err)
	}
	a, err = l.Read(t.Context(), &Query{Kind: UINode, Name: "N1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Into[[]*api.NodeInfo](a); err != nil || len(got) != 1 || len(got[0].Services) != 2 || len(got[0].Checks) != 2 {
		t.Errorf("n1: %+v, %v", got, err)
	}
	if a, err = l.Read(t.Context(), &Query{Kind: UINode, Name: "nope"}); err != nil || a.Found {
		t.Errorf("nope: %+v, %v", a, err)
	}
}
