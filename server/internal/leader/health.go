package leader

import (
	"cmp"
	"slices"
	"time"

	autopilot "github.com/hashicorp/raft-autopilot"

	"github.com/rollcall/rollcall/internal/api"
)

// state is what autopilot knows, nil while this server does not lead.
func (p *Pilot) state() *autopilot.State {
	if auto := p.auto.Load(); auto != nil {
		return auto.GetState()
	}
	return nil
}

// Health says how the servers are; an *api.Error of kind Unavailable where this server
// does not lead or has not looked yet.
func (p *Pilot) Health() (*api.AutopilotHealth, error) {
	s := p.state()
	if s == nil || len(s.Servers) == 0 {
		return nil, errNotLooked
	}
	at := p.addresses()
	out := &api.AutopilotHealth{Healthy: s.Healthy, FailureTolerance: s.FailureTolerance, Servers: []api.ServerHealth{}}
	for id, x := range s.Servers {
		out.Servers = append(out.Servers, api.ServerHealth{
			ID: string(id), Name: x.Server.Name, Address: cmp.Or(at[string(id)], string(x.Server.Address)), SerfStatus: serfStatus(x.Server.NodeStatus), Version: x.Server.Version,
			Leader: x.State == autopilot.RaftLeader, Voter: x.HasVotingRights(),
			LastContact: api.Duration(x.Stats.LastContact), LastTerm: x.Stats.LastTerm, LastIndex: x.Stats.LastIndex,
			Healthy: x.Health.Healthy, StableSince: x.Health.StableSince.UTC().Truncate(time.Second),
		})
	}
	slices.SortFunc(out.Servers, func(a, b api.ServerHealth) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// errNotLooked: nobody knows yet how the servers are.
var errNotLooked = api.Errorf(api.Unavailable, "autopilot has not looked at the servers yet: a leader was just elected; ask again")

// State says all that autopilot knows; errors are those of Health.
func (p *Pilot) State() (*api.AutopilotState, error) {
	s := p.state()
	if s == nil || len(s.Servers) == 0 {
		return nil, errNotLooked
	}
	at := p.addresses()
	out := &api.AutopilotState{
		Healthy: s.Healthy, FailureTolerance: s.FailureTolerance, OptimisticFailureTolerance: s.FailureTolerance,
		Leader: string(s.Leader), Voters: []string{}, Servers: map[string]api.AutopilotServer{},
	}
	for _, id := range s.Voters {
		out.Voters = append(out.Voters, string(id))
	}
	for id, x := range s.Servers {
		meta := x.Server.Meta
		if meta == nil {
			meta = map[string]string{}
		}
		out.Servers[string(id)] = api.AutopilotServer{
			ID: string(id), Name: x.Server.Name, Address: cmp.Or(at[string(id)], string(x.Server.Address)), NodeStatus: serfStatus(x.Server.NodeStatus), Version: x.Server.Version,
			LastContact: api.Duration(x.Stats.LastContact), LastTerm: x.Stats.LastTerm, LastIndex: x.Stats.LastIndex,
			Healthy: x.Health.Healthy, StableSince: x.Health.StableSince.UTC().Truncate(time.Second), Status: string(x.State), Meta: meta, NodeType: string(x.Server.NodeType),
		}
	}
	return out, nil
}

// addresses gives where the servers are now, by id: autopilot says what the Raft configuration
// says, which may be where they once were.
func (p *Pilot) addresses() map[string]string {
	out := map[string]string{}
	rows, _, _ := p.raft.Servers() // without them, autopilot's word stands
	for _, r := range rows {
		out[r.ID] = r.Address
	}
	return out
}

// serfStatus is the word for a state of membership.
func serfStatus(s autopilot.NodeStatus) string {
	if s == autopilot.NodeUnknown || s == "" {
		return "none"
	}
	return string(s)
}
